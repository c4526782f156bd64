"""New waits: who may begin to wait for a full slot."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from secrets import compare_digest
from threading import BoundedSemaphore
from typing import Any

from pydantic_core import to_json
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import Unavailable
from libs.common.ids import new_id
from libs.common.service import Runtime
from libs.contracts.catalog import UPLOADS
from services.booking import claims, errors, inventory, joins, lines, offers, users, waits
from services.booking.line_policy import Waiting
from services.booking.models import Success, User, Wait
from services.booking.offers import Offered
from services.booking.waits import Attendees

PATIENCE_S = 0.5  # of who wants to stand in a line, until it is their turn to lock it


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A user who wants to wait for a place for each attendee, under an idempotency key."""

    user_id: str
    key: str
    slot_id: str
    attendees: Attendees
    now: datetime

    @property
    def digest(self) -> bytes:
        """Tell one body from another, and from that of a booking."""
        answers = [sorted(given.items()) for given in self.attendees]
        return hashlib.sha256(to_json(["wait", self.slot_id, answers])).digest()


@dataclass(frozen=True)
class Ready:
    """What needs no lock: a party's answers, checked by the form that `basis` stands for, and sealed for its wait."""

    basis: tuple[Any, ...]
    wait_id: str
    sealed: bytes


def begin(runtime: Runtime, asked: Asking) -> str:
    """Let a party wait, or raise the first rule broken; return the wait's id. The key gives the first success again.

    Whom a rule refuses is told by looking, and all that is slow is done, before any lock is taken. Those who are left take
    locks in turns, so that a crowd before one slot leaves connections for everybody else; or raise Unavailable.
    """
    sealer: Sealer = runtime.resources.sealer
    with runtime.db.transaction() as session:
        user = users.get(session, asked.user_id)
        known = _first_success(session, sealer, asked)
        if known is not None:
            return known
        ready = _made_ready(session, sealer, _may_wait(session, user, asked), asked)
    turns: BoundedSemaphore = runtime.resources.turns_to_wait
    if not turns.acquire(timeout=PATIENCE_S):
        raise Unavailable
    try:
        return runtime.db.run(lambda session: _begun(session, sealer, asked, ready))
    finally:
        turns.release()


def _first_success(session: Session, sealer: Sealer, asked: Asking) -> str | None:
    success = session.get(Success, (asked.user_id, asked.key))
    if success is None:
        return None
    if not compare_digest(success.request_digest, asked.digest):
        raise errors.KeyReused
    return sealer.open(success.answer_sealed, about=_about_key(asked)).decode()


def _made_ready(session: Session, sealer: Sealer, offered: Offered, asked: Asking) -> Ready:
    filled, _, wanted = waits.checked(sealer, offered, asked.attendees)
    claims.require_free(session, wanted)
    wait_id = new_id()
    return Ready(offered.basis, wait_id, waits.sealed(sealer, wait_id, filled))


def _begun(session: Session, sealer: Sealer, asked: Asking, ready: Ready) -> str:
    """Look again, under the locks, and put the party in the line."""
    user = users.lock(session, asked.user_id)
    known = _first_success(session, sealer, asked)
    if known is not None:
        return known
    inventory.lock(session, {asked.slot_id})
    offered = _may_wait(session, user, asked)
    if offered.basis != ready.basis:  # the form may be another by now
        ready = _made_ready(session, sealer, offered, asked)
    people = len(asked.attendees)
    changed = inventory.shift(session, asked.slot_id, waiting=people)
    session.add(
        Wait(
            id=ready.wait_id,
            user_id=user.id,
            slot_id=offered.slot.id,
            item_id=offered.slot.item_id,
            hall_id=offered.slot.hall_id,
            people=people,
            position=changed.version,
            passed=0,
            sealed=ready.sealed,
            form_version=offered.item.form_version,
            outcome="",
            reason="",
            code="",
            version=1,
            created_at=asked.now,
        )
    )
    session.add(
        Success(
            user_id=asked.user_id,
            key=asked.key,
            request_digest=asked.digest,
            answer_sealed=sealer.seal(ready.wait_id.encode(), about=_about_key(asked)),
            created_at=asked.now,
        )
    )
    inventory.record_line(session, offered.slot, changed)
    return ready.wait_id


def _require_full(session: Session, user: User, asked: Asking) -> None:
    """Raise the first rule of booking that is broken but that there is no place; SlotNotFull where there is.

    A party that is larger than what is left is told so: if it began a line, what is left would be for nobody else.
    """
    try:
        joins.may_book(session, user, asked.slot_id, people=len(asked.attendees), now=asked.now)
    except errors.SlotFull as full:
        if full.params["left"]:
            raise
        return
    raise errors.SlotNotFull


def _may_wait(session: Session, user: User, asked: Asking) -> Offered:
    """Return what the user may wait for, or raise the first rule broken (all but the form's)."""
    _require_full(session, user, asked)
    offered, people = offers.find(session, asked.slot_id), len(asked.attendees)
    rules = offered.rules
    # A file that was sent ahead can be used for a day: nobody knows whether the wait is shorter.
    if not offered.offer.lets_wait(now=asked.now) or any(field.type in UPLOADS for field in offered.form):
        raise errors.WaitingOff
    if offered.slot.asked is not None and people > max(1, offered.slot.asked):
        raise errors.PartyTooLarge(party_max=max(1, offered.slot.asked), people=people)
    there = lines.going_on(session, offered.slot.id)
    if any(row.user_id == user.id for row in there):
        raise errors.WaitingAlready
    # A full line keeps nobody from places that no one in it can use.
    late = Waiting("", people, 0)
    is_next = lines.next_served(offered, [*lines.in_order(there), late], now=asked.now) is late
    if len(there) >= rules.max_waiting and not is_next:
        raise errors.LineFull(most=rules.max_waiting)
    return offered


def _about_key(asked: Asking) -> str:
    return f"success:{asked.user_id}:{asked.key}"
