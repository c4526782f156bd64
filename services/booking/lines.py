"""Lines: what is free in a slot goes to those who wait for it, in their order.

While people wait for a slot, what is free in it is theirs by the guard of every other claim (`slots.waiting`); so it does
not matter when it is handed out, by whom, or how often that is tried (`serve`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from libs.common import failpoints
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, Unauthenticated, Unavailable
from libs.common.service import Runtime
from libs.contracts.booking import WaitOutcome
from libs.contracts.catalog import SlotChanged
from services.booking import inventory, line_policy, offers, users, waits
from services.booking.line_policy import Waiting
from services.booking.models import Slot, User, Wait
from services.booking.offers import Offered

# --- serving ---


@dataclass(frozen=True)
class Step:
    """What is to be done next about a slot's line: to end what is `over`, or (nothing is) to give the party `served` places."""

    over: tuple[tuple[str, WaitOutcome], ...] = ()
    served: str = ""
    user_id: str = ""


def serve(runtime: Runtime, slot_id: str, *, now: datetime, skip_locked: bool = False) -> int:
    """End what is over in a slot's line and hand out what is free, in order, until there is nothing left to do.

    Returns how many waits that changed. Any number may run at once, and stop anywhere. With `skip_locked` a slot that
    somebody else is busy with is left to them, and one whose next user is busy to the next call.
    """
    done = 0
    while True:
        with runtime.db.transaction() as session:
            step = _next(session, slot_id, now)
        if step is None:
            return done
        failpoints.reach("line.before_step")
        moved = _step(runtime, slot_id, step, now=now, skip_locked=skip_locked)
        failpoints.reach("line.after_step")
        if moved is None:
            return done
        done += moved


def with_something_to_do(session: Session, *, now: datetime) -> list[str]:
    """Return the slots in whose lines there is something to do."""
    going_on = Wait.ended_at.is_(None)
    is_due = or_(Wait.offered_until <= now, User.disabled_at.is_not(None))
    due = set(session.scalars(select(Wait.slot_id).join(User, User.id == Wait.user_id).where(going_on, is_due)))
    offered = offers.of_joins(session, set(session.scalars(select(Wait.slot_id).where(going_on))))
    likely = [one.slot.id for one in offered.values() if one.slot.id in due or _has_room(one) or _is_over(one, now)]
    return [slot_id for slot_id in sorted(likely) if _next(session, slot_id, now) is not None]


def _step(runtime: Runtime, slot_id: str, step: Step, *, now: datetime, skip_locked: bool) -> int | None:
    """Take a step, if it is still the next one: return how many waits that changed, None where the slot or the user is locked."""
    sealer: Sealer = runtime.resources.sealer
    if step.over:
        return runtime.db.run(lambda session: _end_those(session, slot_id, step, now=now, skip_locked=skip_locked))
    try:
        return runtime.db.run(lambda session: _take(session, sealer, slot_id, step, now=now, skip_locked=skip_locked))
    except Unavailable:
        raise
    except HallpassError as refused:
        code = refused.code
    return runtime.db.run(lambda session: _refuse(session, slot_id, step, code, now=now))


def _next(session: Session, slot_id: str, now: datetime) -> Step | None:
    """Return the next step as things stand: nothing is given before what is over has ended."""
    rows = going_on(session, slot_id)
    if not rows:
        return None
    offered = offers.of_joins(session, {slot_id})[slot_id]
    over = [(row.id, outcome) for row in rows if (outcome := _over(offered, row, now)) is not None]
    if over:
        return Step(over=tuple(over))
    parties = in_order(rows)
    chosen = next_served(offered, parties, now=now)
    if chosen is not None:
        return Step(served=chosen.id, user_id=next(row.user_id for row in rows if row.id == chosen.id))
    is_last_call = line_policy.is_last_call(offered.offer, now=now)
    if line_policy.is_in_the_way(parties, free=offered.free, asked=offered.slot.asked, is_last_call=is_last_call):
        return Step(over=tuple((party.id, WaitOutcome.CLOSED) for party in parties))
    return None


def _over(offered: Offered, row: Any, now: datetime) -> WaitOutcome | None:
    return line_policy.over(
        offered.offer,
        is_deleted=offered.slot.deleted,
        is_disabled=row.disabled_at is not None,
        offered_until=row.offered_until,
        now=now,
    )


def _is_still_next(session: Session, slot_id: str, step: Step, now: datetime) -> bool:
    """Look again, under the lock of the slot: nothing changes any more until commit."""
    return _next(session, slot_id, now) == step


def _end_those(session: Session, slot_id: str, step: Step, *, now: datetime, skip_locked: bool) -> int | None:
    """End what is over. No places are given: no user has to be locked."""
    if not inventory.lock(session, {slot_id}, skip_locked=skip_locked):
        return None
    if not _is_still_next(session, slot_id, step, now):
        return 0
    outcomes = dict(step.over)
    gone = session.scalars(select(Wait).where(Wait.id.in_(outcomes)).order_by(Wait.position)).all()
    _end_together(session, slot_id, gone, outcomes, now=now)
    failpoints.reach("line.before_commit")
    return len(gone)


def _take(
    session: Session, sealer: Sealer, slot_id: str, step: Step, *, now: datetime, skip_locked: bool
) -> int | None:
    if skip_locked and not users.try_lock(session, step.user_id):
        return None
    try:
        user = users.lock(session, step.user_id)
    except Unauthenticated:  # erased in this moment, and the wait with them
        return 0
    if not inventory.lock(session, {slot_id}, skip_locked=skip_locked):
        return None
    if not _is_still_next(session, slot_id, step, now):
        return 0
    wait = session.get_one(Wait, step.served)
    _serve(session, sealer, user, wait, offers.of_joins(session, {slot_id})[slot_id], now=now)
    failpoints.reach("line.before_commit")
    return 1


def _serve(session: Session, sealer: Sealer, user: User, wait: Wait, offered: Offered, *, now: datetime) -> None:
    session.execute(
        update(Wait)
        .where(Wait.slot_id == wait.slot_id, Wait.position < wait.position)
        .where(Wait.ended_at.is_(None), Wait.offered_until.is_(None))
        .values(passed=Wait.passed + 1)
        .execution_options(synchronize_session=False)
    )
    if offered.rules.waitlist == "take":
        waits.book(session, sealer, user, wait, offered, now=now)
    else:
        waits.offer(session, sealer, user, wait, offered, now=now)


def _refuse(session: Session, slot_id: str, step: Step, code: str, *, now: datetime) -> int:
    """End the wait of who was next, and may not have the places that there are."""
    inventory.lock(session, {slot_id})
    if not _is_still_next(session, slot_id, step, now):
        return 0
    wait = session.get_one(Wait, step.served)
    waits.end(session, wait, offers.of_joins(session, {slot_id})[slot_id], WaitOutcome.REFUSED, now=now, code=code)
    return 1


def _has_room(offered: Offered) -> bool:
    return offered.slot.waiting > 0 and (offered.free is None or offered.free > 0)


def _is_over(offered: Offered, now: datetime) -> bool:
    deleted = offered.slot.deleted
    return (
        line_policy.over(offered.offer, is_deleted=deleted, is_disabled=False, offered_until=None, now=now) is not None
    )


# --- ending ---


def end(session: Session, slot_id: str, outcome: WaitOutcome, *, now: datetime, reason: str = "") -> int:
    """End all waits of a slot that began by `now`, those with an offer too; return how many."""
    inventory.lock(session, {slot_id})
    of_slot = (Wait.slot_id == slot_id, Wait.ended_at.is_(None), Wait.created_at <= now)
    gone = session.scalars(
        select(Wait).where(*of_slot).order_by(Wait.position).execution_options(populate_existing=True)
    ).all()
    if gone:
        _end_together(session, slot_id, gone, {wait.id: outcome for wait in gone}, now=now, reason=reason)
    return len(gone)


def end_where_moved(session: Session, facts: Sequence[SlotChanged], *, now: datetime) -> None:
    """End the lines of slots that are to start at another time: nobody is booked for one that they did not choose."""
    slots = inventory.lock(session, {fact.slot_id for fact in facts})
    for fact in facts:
        slot = slots.get(fact.slot_id)
        if slot is None or slot.definition_version >= fact.version or slot.starts_at == fact.starts_at:
            continue
        end(session, slot.id, WaitOutcome.CLOSED, now=now)


def _end_together(
    session: Session,
    slot_id: str,
    gone: Sequence[Wait],
    outcomes: Mapping[str, WaitOutcome],
    *,
    now: datetime,
    reason: str = "",
) -> None:
    """End waits of a slot that go on, without places, all of them in one change of the slot, which the caller has locked."""
    offered = offers.of_joins(session, {slot_id})[slot_id]
    held, in_line = sum(map(waits.held, gone)), sum(map(waits.in_line, gone))
    changed = inventory.shift(session, slot_id, held=-held, waiting=-in_line)
    for wait in gone:
        waits.close(session, wait, offered, outcomes[wait.id], now=now, reason=reason)
    inventory.record_line(session, offered.slot, changed)


# --- reading ---


def going_on(session: Session, slot_id: str) -> Sequence[Any]:
    """Return what is to be known of each wait for a slot that goes on, in order; the offers, too."""
    query = (
        select(Wait.id, Wait.user_id, Wait.people, Wait.passed, Wait.offered_until, User.disabled_at)
        .join(User, User.id == Wait.user_id)
        .where(Wait.slot_id == slot_id, Wait.ended_at.is_(None))
        .order_by(Wait.position)
    )
    return session.execute(query).all()


def in_order(rows: Sequence[Any]) -> list[Waiting]:
    """Return the parties that stand in the line."""
    return [Waiting(row.id, row.people, row.passed) for row in rows if row.offered_until is None]


def next_served(offered: Offered, parties: Sequence[Waiting], *, now: datetime) -> Waiting | None:
    """Return whose turn it is in a line of these parties, by `line_policy.next_served` as things stand."""
    is_last_call = line_policy.is_last_call(offered.offer, now=now)
    return line_policy.next_served(parties, free=offered.free, asked=offered.slot.asked, is_last_call=is_last_call)


def waiting(session: Session) -> int:
    """Return how many people wait."""
    return session.scalar(select(func.coalesce(func.sum(Slot.waiting), 0)).where(Slot.waiting > 0)) or 0
