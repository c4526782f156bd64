"""What users ask of the ledger: to book for a party, to cancel a join, to move one."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic_core import to_json

from libs.common import context
from libs.common.ids import parse_id

NOWHERE = "00000000-0000-0000-0000-000000000000"  # the slot that text which is no id names


@dataclass(kw_only=True)
class Ask:
    """`now` is when the request came; the answer to it does not depend on how long it waited."""

    user_id: str
    now: datetime
    request_id: str = field(default_factory=context.request_id)


@dataclass(kw_only=True)
class Booking(Ask):
    """A place in the slot for each attendee, under the caller's idempotency key. `at_the_desk`: staff ask, for who stands there."""

    key: str
    slot_id: str
    attendees: list[dict[str, Any]]
    at_the_desk: bool = False

    def __post_init__(self) -> None:
        self.slot_id = parse_id(self.slot_id) or NOWHERE

    @cached_property
    def digest(self) -> bytes:
        """Tell one body from another, whatever the order of its fields."""
        return hashlib.sha256(to_json([self.slot_id, [sorted(answers.items()) for answers in self.attendees]])).digest()


@dataclass(kw_only=True)
class Cancelling(Ask):
    join_id: str


@dataclass(kw_only=True)
class Moving(Ask):
    join_id: str
    slot_id: str

    def __post_init__(self) -> None:
        self.slot_id = parse_id(self.slot_id) or NOWHERE
