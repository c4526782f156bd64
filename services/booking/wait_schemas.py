"""What goes in and out of the routes about waiting."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from libs.common.web import Schema
from libs.contracts.booking import WaitOutcome
from services.booking.schemas import Attendee, HallRef, ItemRef, JoinOut, Reason, SlotRef, UserOut


class WaitIn(Schema):
    attendees: list[Attendee] = Field(max_length=1000)


class WaitOut(BaseModel):
    """A party that waits for places, or waited. Its answers are gone when the wait is over.

    `place` is the how many-th in the line it is, null where it does not stand in it any more: because places are held for it
    until `offered_until`, or because it ended with an `outcome`. `code` is the rule that refused it, `party_id` what it booked.
    """

    id: str
    hall: HallRef
    item: ItemRef
    slot: SlotRef
    people: int
    place: int | None
    offered_until: datetime | None
    outcome: WaitOutcome | None
    code: str
    reason: str
    party_id: str | None
    attendees: list[dict[str, Any]]
    created_at: datetime
    ended_at: datetime | None


class DataOut(BaseModel):
    """All that booking keeps of a user, newest joins and waits first."""

    user: UserOut
    provider: str
    created_at: datetime
    joins: list[JoinOut]
    waits: list[WaitOut]


class StaffWaitOut(WaitOut):
    """A wait as staff see it: sensitive answers are masked. `passed`: smaller parties that were served before it."""

    user_id: str
    user_name: str
    passed: int


class RemoveIn(Schema):
    reason: Reason
