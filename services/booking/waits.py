"""Waits: parties that wait for places in a full slot, until places are taken for them, or offered and accepted.

All that changes a wait holds the lock of its slot's row; who takes places for a user holds the user's before it.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, case, delete, func, select
from sqlalchemy.orm import Session, aliased

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError
from libs.common.ids import new_id
from libs.contracts.booking import JoinBooked, WaitEnded, WaitOffered, WaitOutcome
from services.booking import claims, errors, events, forms, inventory, joins, line_policy, offers, users
from services.booking.claims import Person, Wanted
from services.booking.models import Join, Slot, User, Wait
from services.booking.offers import Offered
from services.booking.policy import Held
from services.booking.rows import SlotRow

Attendees = list[dict[str, Any]]


# --- what users do ---


def accept(session: Session, sealer: Sealer, *, user_id: str, wait_id: str, now: datetime) -> list[Join]:
    """Book the places that are held for the party, or raise the first rule broken. Repeated, it returns the same joins.

    FormInvalid and PersonAlreadyJoined are for good, as answers of who waits don't change, and CoolingOff for longer than
    most offers stand: the caller then ends the wait (`refuse`).
    """
    user = users.lock(session, user_id)
    wait, offered = locked(session, Wait.id == wait_id, Wait.user_id == user_id)
    if wait.outcome == WaitOutcome.BOOKED:
        return list(session.scalars(select(Join).where(Join.party_id == wait.party_id).order_by(Join.id)))
    _require_going_on(wait)
    if wait.offered_until is None:
        raise errors.NothingOffered
    if now >= wait.offered_until:
        raise errors.WaitOver(outcome=WaitOutcome.EXPIRED)
    return book(session, sealer, user, wait, offered, now=now)


def refuse(session: Session, why: HallpassError, *, user_id: str, wait_id: str, now: datetime) -> None:
    """End a wait whose offer can't be accepted (`accept` has raised why); the places go to the next.

    It goes on where the user may book again while the offer stands.
    """
    wait, offered = locked(session, Wait.id == wait_id, Wait.user_id == user_id)
    if wait.ended_at is None and not _is_over_in_time(why, wait):
        end(session, wait, offered, WaitOutcome.REFUSED, now=now, code=why.code)


def _is_over_in_time(why: HallpassError, wait: Wait) -> bool:
    if not isinstance(why, errors.CoolingOff) or wait.offered_until is None:
        return False
    return datetime.fromisoformat(why.params["until"]) < wait.offered_until


def leave(session: Session, *, user_id: str, wait_id: str, now: datetime) -> None:
    """Wait no more; what was held for the party is for the next. Repeated, it changes nothing."""
    wait, offered = locked(session, Wait.id == wait_id, Wait.user_id == user_id)
    if wait.outcome != WaitOutcome.LEFT:
        _require_going_on(wait)
        end(session, wait, offered, WaitOutcome.LEFT, now=now)


def locked(session: Session, *which: ColumnElement[bool]) -> tuple[Wait, Offered]:
    """Lock a wait's slot and return the wait as it is now with what it is for, or raise WaitNotFound."""
    wait = session.scalar(select(Wait).where(*which))
    if wait is None:
        raise errors.WaitNotFound
    inventory.lock(session, {wait.slot_id})
    session.refresh(wait)
    return wait, offers.of_joins(session, {wait.slot_id})[wait.slot_id]


def _require_going_on(wait: Wait) -> None:
    if wait.ended_at is not None:
        raise errors.WaitOver(outcome=wait.outcome)


# --- giving places ---


def offer(session: Session, sealer: Sealer, user: User, wait: Wait, offered: Offered, *, now: datetime) -> None:
    """Hold places for a party in the line until it accepts them, or raise the rule by which it could not."""
    elsewhere = _offered_to(session, user.id, offered.slot, now=now)
    joins.may_book(
        session, user, wait.slot_id, people=wait.people, now=now, kept=wait.people, offered_elsewhere=elsewhere
    )
    _, _, wanted = checked(sealer, offered, attendees(sealer, wait))  # nothing is held for who could not accept it
    claims.require_free(session, wanted)
    changed = inventory.shift(session, wait.slot_id, holder=user.id, held=wait.people, waiting=-wait.people)
    until = line_policy.held_until(offered.offer, now=now)
    wait.offered_until, wait.version = until, wait.version + 1
    outbox.record(session, events.of_wait(WaitOffered, wait, offered, offered_until=until))
    inventory.record_line(session, offered.slot, changed)


def _offered_to(session: Session, user_id: str, slot: Slot | SlotRow, *, now: datetime) -> Held:
    """Count the people for whom places of the slot's item are held for the user; nobody holds more than they may book."""

    def people(which: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(Wait.people).filter(which), 0)

    query = (
        select(people(Slot.id == slot.id), people(Slot.date == slot.date), people(Slot.ends_at > now))
        .select_from(Wait)
        .join(Slot, Slot.id == Wait.slot_id)
        .where(Wait.user_id == user_id, Wait.item_id == slot.item_id)
        .where(Wait.ended_at.is_(None), Wait.offered_until.is_not(None))
    )
    return Held(*session.execute(query).one())


def book(session: Session, sealer: Sealer, user: User, wait: Wait, offered: Offered, *, now: datetime) -> list[Join]:
    """Make the party's joins of its answers, by the same rules anew but that its places are kept for it."""
    joins.may_book(session, user, wait.slot_id, people=wait.people, now=now, kept=wait.people)
    filled, as_people, wanted = checked(sealer, offered, attendees(sealer, wait))
    claims.hold(session, wanted)
    taken = inventory.shift(
        session, wait.slot_id, taken=wait.people, holder=user.id, held=-held(wait), waiting=-in_line(wait)
    )
    party_id = new_id()
    made = [
        joins.made(
            sealer, offered, join_id=person.join_id, party_id=party_id, user_id=user.id, answers=answers, now=now
        )
        for person, answers in zip(as_people, filled, strict=True)
    ]
    session.add_all(made)
    session.flush()
    outbox.record(session, *events.of_action(JoinBooked, [(join, offered, taken) for join in made]))
    close(session, wait, offered, WaitOutcome.BOOKED, now=now, party_id=party_id)
    return made


# --- ending ---


def end(
    session: Session,
    wait: Wait,
    offered: Offered,
    outcome: WaitOutcome,
    *,
    now: datetime,
    reason: str = "",
    code: str = "",
) -> None:
    """End a wait that goes on, without places; what was held for it is for the next. The caller holds the slot's lock."""
    changed = inventory.shift(session, wait.slot_id, held=-held(wait), waiting=-in_line(wait))
    close(session, wait, offered, outcome, now=now, reason=reason, code=code)
    inventory.record_line(session, offered.slot, changed)


def close(
    session: Session,
    wait: Wait,
    offered: Offered,
    outcome: WaitOutcome,
    *,
    now: datetime,
    reason: str = "",
    code: str = "",
    party_id: str | None = None,
) -> None:
    """Write that a wait is over, and record it; the caller changes the slot."""
    wait.outcome, wait.reason, wait.code, wait.party_id = outcome, reason, code, party_id
    wait.ended_at, wait.sealed, wait.version = now, None, wait.version + 1
    ended = events.of_wait(WaitEnded, wait, offered, outcome=outcome, code=code, party_id=party_id)
    outbox.record(session, ended)


def end_those_of(session: Session, user_id: str, *, now: datetime) -> None:
    """End all waits of a user who is being erased, and forget them. The caller holds the locks of user and slots."""
    theirs = session.scalars(
        select(Wait)
        .where(Wait.user_id == user_id, Wait.ended_at.is_(None))
        .order_by(Wait.slot_id)
        .execution_options(populate_existing=True)
    ).all()
    offered = offers.of_joins(session, {wait.slot_id for wait in theirs})
    for wait in theirs:
        end(session, wait, offered[wait.slot_id], WaitOutcome.ERASED, now=now)
    session.flush()
    session.execute(delete(Wait).where(Wait.user_id == user_id).execution_options(synchronize_session=False))


def slots_of(session: Session, user_id: str) -> set[str]:
    """Return for which slots the user waits. What the caller holds the user's lock for: nothing is added meanwhile."""
    return set(session.scalars(select(Wait.slot_id).where(Wait.user_id == user_id, Wait.ended_at.is_(None))))


def forget(session: Session, *, before: datetime) -> int:
    """Forget waits that ended before then; return how many.

    Those that staff ended go with their user alone: the audit trail keeps the reason under the id of the wait, and is told
    by it what to erase.
    """
    gone = session.execute(
        delete(Wait)
        .where(Wait.ended_at < before, Wait.outcome != WaitOutcome.REMOVED)
        .execution_options(synchronize_session=False)
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def in_line(wait: Wait) -> int:
    """How many people of the party stand in the line: all, or none any more."""
    return wait.people if wait.offered_until is None else 0


def held(wait: Wait) -> int:
    """How many places are held for the party: for all of it, or none."""
    return wait.people - in_line(wait)


# --- answers ---


def checked(
    sealer: Sealer, offered: Offered, given: Attendees
) -> tuple[list[forms.Answers], list[Person], list[Wanted]]:
    """Check answers by the form as it is now; return them, who gave them and what they claim, or raise what is wrong."""
    filled = forms.check_all(offered.form, given)
    people = [Person(new_id(), number, answers.all) for number, answers in enumerate(filled, start=1)]
    return filled, people, claims.wanted(sealer, offered.slot, offered.form, people)


def sealed(sealer: Sealer, wait_id: str, filled: Sequence[forms.Answers]) -> bytes:
    """Seal the answers of each attendee for the wait of this id."""
    return sealer.seal(to_json([answers.all for answers in filled]), about=_about(wait_id))


def attendees(sealer: Sealer, wait: Wait) -> Attendees:
    """Return the answers of each attendee in clear; none where the wait is over."""
    if wait.sealed is None:
        return []
    found: Attendees = json.loads(sealer.open(wait.sealed, about=_about(wait.id)))
    return found


def _about(wait_id: str) -> str:
    return f"wait:{wait_id}"


# --- reading ---


def place_in_line() -> Any:
    """Return the column that says the how many-th in the line a wait is, null where it does not stand in one."""
    other = aliased(Wait)
    before = (
        select(func.count() + 1)
        .where(other.slot_id == Wait.slot_id, other.position < Wait.position)
        .where(other.ended_at.is_(None), other.offered_until.is_(None))
        .correlate(Wait)
        .scalar_subquery()
    )
    stands = Wait.ended_at.is_(None) & Wait.offered_until.is_(None)
    return case((stands, before))
