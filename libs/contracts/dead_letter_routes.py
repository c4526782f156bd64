"""What super admins do about the dead letters of a service; every service that hears events serves these routes.

Each service serves its own, because a letter lies with its consumer: in its queue, or in its database.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, StringConstraints
from sqlalchemy.orm import Session

from libs.common import dead_letters, pages
from libs.common.bus_rabbit import BrokerDown
from libs.common.dead_letters import DeadLetter, DeadLetters, InUse, Note
from libs.common.errors import NotFound, Unavailable
from libs.common.inputs import OneLine, Told
from libs.common.pages import CursorText, Key, Limit, Page
from libs.common.service import Runtime
from libs.common.web import RuntimeDep, Schema, Text
from libs.contracts import audit
from libs.contracts.principals import Staff, SuperAdmin

router = APIRouter(prefix="/staff/dead-letters", tags=["staff"])

LetterId = Annotated[Text, Path(max_length=100)]
ConsumerName = Annotated[Text | None, Query(max_length=100, description="of one consumer alone")]
OLDEST_FIRST = (Key(None, datetime), Key(None, str))


class DeadLetterOut(BaseModel):
    """A message that its consumer failed at for good. `error` says why, without the values in it."""

    consumer: str
    id: str
    type: str
    subject: str
    error: str
    attempts: int
    parked_at: datetime | None


class DeadLetterInFull(DeadLetterOut):
    """A dead letter with its content: structure, ids, instants and numbers; any text that somebody wrote is masked."""

    content: Any


class DropIn(Schema):
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200), OneLine, Told]


class ReplayedOut(BaseModel):
    """How many letters were sent to their consumers again."""

    replayed: int


@router.get("")
def list_dead_letters(
    staff: SuperAdmin,
    runtime: RuntimeDep,
    consumer: ConsumerName = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[DeadLetterOut]:
    """The dead letters of this service, the oldest first; of more than a thousand, a thousand."""
    found = [each for each in _all(runtime) if consumer in (None, each.consumer)]
    page, next_cursor = pages.cut(found, by=_order, keys=OLDEST_FIRST, limit=limit, cursor=cursor)
    return Page(items=[DeadLetterOut(**each.outside()) for each in page], next_cursor=next_cursor)


@router.get("/{letter_id}")
def get_dead_letter(letter_id: LetterId, staff: SuperAdmin, runtime: RuntimeDep) -> DeadLetterInFull:
    """Look into one."""
    found = _one(runtime, letter_id)
    return DeadLetterInFull(**found.outside(), content=found.letter.content)


@router.post("/replay")
def replay_dead_letters(staff: SuperAdmin, runtime: RuntimeDep) -> ReplayedOut:
    """Send all of them to their consumers again. What was done after all is not done twice."""
    sent = 0
    for consumer in runtime.service.consumers:
        with _letters(runtime, consumer.name) as letters:
            sent += len(letters.replay(noting(staff, "replayed", consumer.name)))
    return ReplayedOut(replayed=sent)


@router.post("/{letter_id}/replay")
def replay_dead_letter(letter_id: LetterId, staff: SuperAdmin, runtime: RuntimeDep) -> DeadLetterOut:
    """Send one to its consumer again."""
    found = _one(runtime, letter_id)
    with _letters(runtime, found.consumer) as letters:
        if not letters.replay(noting(staff, "replayed", found.consumer), [letter_id]):
            raise NotFound
    return DeadLetterOut(**found.outside())


@router.post("/{letter_id}/drop")
def drop_dead_letter(letter_id: LetterId, body: DropIn, staff: SuperAdmin, runtime: RuntimeDep) -> DeadLetterOut:
    """Drop one for good, with a reason: what it says will never be done."""
    found = _one(runtime, letter_id)
    with _letters(runtime, found.consumer) as letters:
        if not letters.drop(noting(staff, "dropped", found.consumer, reason=body.reason), [letter_id]):
            raise NotFound
    return DeadLetterOut(**found.outside())


def noting(staff: Staff, done: str, consumer: str, *, reason: str = "") -> Note:
    """Return what records in the audit trail that a letter was `replayed` or `dropped`."""

    def note(session: Session, letter: DeadLetter) -> None:
        audit.record(
            session,
            staff,
            f"dead_letter.{done}",
            object_type="dead_letter",
            object_id=letter.id,
            reason=reason,
            before={
                "consumer": consumer,
                "type": letter.type,
                "subject": letter.subject,
                "error": letter.error,
                "attempts": letter.attempts,
                "parked_at": letter.parked_at.isoformat() if letter.parked_at else None,
            },
            after={"state": done},
        )

    return note


@dataclass(frozen=True)
class _Found:
    consumer: str
    letter: DeadLetter

    def outside(self) -> dict[str, Any]:
        """Return what is written on it, without its content."""
        letter = self.letter
        return {
            "consumer": self.consumer,
            "id": letter.id,
            "type": letter.type,
            "subject": letter.subject,
            "error": letter.error,
            "attempts": letter.attempts,
            "parked_at": letter.parked_at,
        }


def _all(runtime: Runtime) -> list[_Found]:
    found = []
    for consumer in runtime.service.consumers:
        with _letters(runtime, consumer.name) as letters:
            found += [_Found(consumer.name, letter) for letter in letters.all()]
    return found


def _one(runtime: Runtime, letter_id: str) -> _Found:
    for consumer in runtime.service.consumers:
        with _letters(runtime, consumer.name) as letters:
            letter = letters.one(letter_id)
        if letter is not None:
            return _Found(consumer.name, letter)
    raise NotFound


def _order(found: _Found) -> tuple[Any, ...]:
    return dead_letters.in_order(found.letter)


@contextmanager
def _letters(runtime: Runtime, consumer: str) -> Iterator[DeadLetters]:
    try:
        yield dead_letters.of(runtime, consumer)
    except (BrokerDown, InUse):
        raise Unavailable from None
