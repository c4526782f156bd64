"""Waits: parties that wait for places in a full slot, until places are taken for them, or offered and accepted.

While people wait for a slot, what is free in it is theirs by the guard of every other claim (`slots.waiting`); so it does
not matter when it is handed out, by whom, or how often that is tried (`serve`). All that changes a line holds the lock of
its slot's row; who takes places for a user holds the user's before it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import compare_digest
from threading import BoundedSemaphore
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, case, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from libs.common import failpoints, outbox
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, Unauthenticated, Unavailable
from libs.common.ids import new_id
from libs.common.service import Runtime
from libs.contracts.booking import JoinBooked, WaitEvent, WaitOffered, WaitOutcome
from libs.contracts.booking import WaitEnded as WaitEndedFact
from libs.contracts.catalog import UPLOADS, SlotChanged
from services.booking import claims, errors, events, forms, inventory, joins, line, offers, users
from services.booking.claims import Person, Wanted
from services.booking.line import Waiting
from services.booking.models import Join, Slot, Success, User, Wait
from services.booking.offers import Offered
from services.booking.policy import Held
from services.booking.rows import SlotRow

Attendees = list[dict[str, Any]]

PATIENCE_S = 0.5  # of who wants to stand in a line, until it is their turn to lock it


# --- what users do ---


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
    filled, _, wanted = _checked(sealer, offered, asked.attendees)
    claims.require_free(session, wanted)
    wait_id = new_id()
    sealed = sealer.seal(to_json([checked.all for checked in filled]), about=_about(wait_id))
    return Ready(offered.basis, wait_id, sealed)


def _checked(
    sealer: Sealer, offered: Offered, given: Attendees
) -> tuple[list[forms.Answers], list[Person], list[Wanted]]:
    """Check answers by the form as it is now; return them, who gave them and what they claim, or raise what is wrong."""
    filled = forms.check_all(offered.form, given)
    people = [Person(new_id(), number, checked.all) for number, checked in enumerate(filled, start=1)]
    return filled, people, claims.wanted(sealer, offered.slot, offered.form, people)


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
    inventory.record_line(session, _slot(offered), changed)
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
    is_over = rules.waitlist == "off" or asked.now >= line.closes(offered.offer)
    if is_over or any(field.type in UPLOADS for field in offered.form):
        raise errors.WaitingOff
    if offered.slot.asked is not None and people > max(1, offered.slot.asked):
        raise errors.PartyTooLarge(party_max=max(1, offered.slot.asked), people=people)
    there = _going_on(session, offered.slot.id)
    if any(row.user_id == user.id for row in there):
        raise errors.WaitingAlready
    # A full line keeps nobody from places that no one in it can use.
    late = Waiting("", people, 0)
    if len(there) >= rules.max_waiting and _next_served(offered, [*_in_order(there), late], now=asked.now) is not late:
        raise errors.LineFull(most=rules.max_waiting)
    return offered


def accept(session: Session, sealer: Sealer, *, user_id: str, wait_id: str, now: datetime) -> list[Join]:
    """Book the places that are held for the party, or raise the first rule broken. Repeated, it returns the same joins.

    FormInvalid and PersonAlreadyJoined are for good, as answers of who waits don't change: the caller then ends the wait
    (`refuse`).
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
    return _book(session, sealer, user, wait, offered, now=now)


def refuse(session: Session, *, user_id: str, wait_id: str, code: str, now: datetime) -> None:
    """End a wait whose offer was not for its answers as they are (`accept` has raised why); the places go to the next."""
    wait, offered = locked(session, Wait.id == wait_id, Wait.user_id == user_id)
    if wait.ended_at is None:
        end(session, wait, offered, WaitOutcome.REFUSED, now=now, code=code)


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
    changed = inventory.shift(session, wait.slot_id, held=-_held(wait), waiting=-_in_line(wait))
    _close(session, wait, offered, outcome, now=now, reason=reason, code=code)
    inventory.record_line(session, _slot(offered), changed)


def end_line(session: Session, slot_id: str, outcome: WaitOutcome, *, now: datetime, reason: str = "") -> int:
    """End all waits of a slot that began by `now`, those with an offer too; return how many."""
    inventory.lock(session, {slot_id})
    of_slot = (Wait.slot_id == slot_id, Wait.ended_at.is_(None), Wait.created_at <= now)
    line = session.scalars(
        select(Wait).where(*of_slot).order_by(Wait.position).execution_options(populate_existing=True)
    ).all()
    if line:
        offered = offers.of_joins(session, {slot_id})[slot_id]
        held, in_line = sum(map(_held, line)), sum(map(_in_line, line))
        changed = inventory.shift(session, slot_id, held=-held, waiting=-in_line)
        for wait in line:
            _close(session, wait, offered, outcome, now=now, reason=reason)
        inventory.record_line(session, _slot(offered), changed)
    return len(line)


def end_where_moved(session: Session, facts: Sequence[SlotChanged], *, now: datetime) -> None:
    """End the lines of slots that are to start at another time: nobody is booked for one that they did not choose."""
    slots = inventory.lock(session, {fact.slot_id for fact in facts})
    for fact in facts:
        slot = slots.get(fact.slot_id)
        if slot is None or slot.definition_version >= fact.version or slot.starts_at == fact.starts_at:
            continue
        end_line(session, slot.id, WaitOutcome.CLOSED, now=now)


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


def _in_line(wait: Wait) -> int:
    """How many people of the party stand in the line: all, or none any more."""
    return wait.people if wait.offered_until is None else 0


def _held(wait: Wait) -> int:
    return wait.people - _in_line(wait)


def _close(
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
    wait.outcome, wait.reason, wait.code, wait.party_id = outcome, reason, code, party_id
    wait.ended_at, wait.sealed, wait.version = now, None, wait.version + 1
    fact = _fact(WaitEndedFact, wait, offered, outcome=outcome, code=code, party_id=party_id)
    outbox.record(session, fact)


# --- serving the line ---


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
    rows = _going_on(session, slot_id)
    if not rows:
        return None
    offered = offers.of_joins(session, {slot_id})[slot_id]
    over = [(row.id, outcome) for row in rows if (outcome := _over(offered, row, now)) is not None]
    if over:
        return Step(over=tuple(over))
    parties = _in_order(rows)
    chosen = _next_served(offered, parties, now=now)
    if chosen is not None:
        return Step(served=chosen.id, user_id=next(row.user_id for row in rows if row.id == chosen.id))
    if line.is_in_the_way(parties, free=_free(offered), is_last_call=line.is_last_call(offered.offer, now=now)):
        return Step(over=tuple((party.id, WaitOutcome.CLOSED) for party in parties))
    return None


def _over(offered: Offered, row: Any, now: datetime) -> WaitOutcome | None:
    return line.over(
        offered.offer,
        is_deleted=offered.slot.deleted,
        is_disabled=row.disabled_at is not None,
        offered_until=row.offered_until,
        now=now,
    )


def _going_on(session: Session, slot_id: str) -> Sequence[Any]:
    """Return what is to be known of each wait for a slot that goes on, in order; the offers, too."""
    query = (
        select(Wait.id, Wait.user_id, Wait.people, Wait.passed, Wait.offered_until, User.disabled_at)
        .join(User, User.id == Wait.user_id)
        .where(Wait.slot_id == slot_id, Wait.ended_at.is_(None))
        .order_by(Wait.position)
    )
    return session.execute(query).all()


def _in_order(rows: Sequence[Any]) -> list[Waiting]:
    """Return the parties that stand in the line."""
    return [Waiting(row.id, row.people, row.passed) for row in rows if row.offered_until is None]


def _next_served(offered: Offered, parties: list[Waiting], *, now: datetime) -> Waiting | None:
    is_last_call = line.is_last_call(offered.offer, now=now)
    return line.next_served(parties, free=_free(offered), asked=offered.slot.asked, is_last_call=is_last_call)


def _free(offered: Offered) -> int | None:
    """How many places are neither taken nor held, None where there is no limit."""
    slot = offered.slot
    return None if slot.capacity is None else slot.capacity - slot.taken - slot.held


def _is_still_next(session: Session, slot_id: str, step: Step, now: datetime) -> bool:
    """Look again, under the lock of the slot: nothing changes any more until commit."""
    return _next(session, slot_id, now) == step


def _end_those(session: Session, slot_id: str, step: Step, *, now: datetime, skip_locked: bool) -> int | None:
    """End what is over, all of it in one change of the slot. No places are given: no user has to be locked."""
    if not inventory.lock(session, {slot_id}, skip_locked=skip_locked):
        return None
    if not _is_still_next(session, slot_id, step, now):
        return 0
    outcomes = dict(step.over)
    gone = session.scalars(select(Wait).where(Wait.id.in_(outcomes)).order_by(Wait.position)).all()
    offered = offers.of_joins(session, {slot_id})[slot_id]
    changed = inventory.shift(session, slot_id, held=-sum(map(_held, gone)), waiting=-sum(map(_in_line, gone)))
    for wait in gone:
        _close(session, wait, offered, outcomes[wait.id], now=now)
    inventory.record_line(session, _slot(offered), changed)
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


def _refuse(session: Session, slot_id: str, step: Step, code: str, *, now: datetime) -> int:
    """End the wait of who was next, and may not have the places that there are."""
    inventory.lock(session, {slot_id})
    if not _is_still_next(session, slot_id, step, now):
        return 0
    wait = session.get_one(Wait, step.served)
    end(session, wait, offers.of_joins(session, {slot_id})[slot_id], WaitOutcome.REFUSED, now=now, code=code)
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
        _book(session, sealer, user, wait, offered, now=now)
        return
    elsewhere = _offered_to(session, user.id, offered.slot, now=now)
    joins.may_book(
        session, user, wait.slot_id, people=wait.people, now=now, kept=wait.people, offered_elsewhere=elsewhere
    )
    _, _, wanted = _checked(sealer, offered, attendees(sealer, wait))  # nothing is held for who could not accept it
    claims.require_free(session, wanted)
    changed = inventory.shift(session, wait.slot_id, held=wait.people, waiting=-wait.people)
    until = line.held_until(offered.offer, now=now)
    wait.offered_until, wait.version = until, wait.version + 1
    outbox.record(session, _fact(WaitOffered, wait, offered, offered_until=until))
    inventory.record_line(session, _slot(offered), changed)


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


def _book(session: Session, sealer: Sealer, user: User, wait: Wait, offered: Offered, *, now: datetime) -> list[Join]:
    """Make the party's joins of its answers, by the same rules anew but that its places are kept for it."""
    joins.may_book(session, user, wait.slot_id, people=wait.people, now=now, kept=wait.people)
    filled, as_people, wanted = _checked(sealer, offered, attendees(sealer, wait))
    claims.hold(session, wanted)
    taken = inventory.shift(
        session, wait.slot_id, taken=wait.people, holder=user.id, held=-_held(wait), waiting=-_in_line(wait)
    )
    party_id = new_id()
    made = [
        joins.made(
            sealer, offered, join_id=person.join_id, party_id=party_id, user_id=user.id, answers=checked, now=now
        )
        for person, checked in zip(as_people, filled, strict=True)
    ]
    session.add_all(made)
    session.flush()
    outbox.record(session, *events.of_action(JoinBooked, [(join, offered, taken) for join in made]))
    _close(session, wait, offered, WaitOutcome.BOOKED, now=now, party_id=party_id)
    return made


def with_something_to_do(session: Session, *, now: datetime) -> list[str]:
    """Return the slots in whose lines there is something to do."""
    going_on = Wait.ended_at.is_(None)
    is_due = or_(Wait.offered_until <= now, User.disabled_at.is_not(None))
    due = set(session.scalars(select(Wait.slot_id).join(User, User.id == Wait.user_id).where(going_on, is_due)))
    offered = offers.of_joins(session, set(session.scalars(select(Wait.slot_id).where(going_on))))
    likely = [one.slot.id for one in offered.values() if one.slot.id in due or _has_room(one) or _is_over(one, now)]
    return [slot_id for slot_id in sorted(likely) if _next(session, slot_id, now) is not None]


def _has_room(offered: Offered) -> bool:
    slot = offered.slot
    return slot.waiting > 0 and (slot.capacity is None or slot.taken + slot.held < slot.capacity)


def _is_over(offered: Offered, now: datetime) -> bool:
    deleted = offered.slot.deleted
    return line.over(offered.offer, is_deleted=deleted, is_disabled=False, offered_until=None, now=now) is not None


def forget(session: Session, *, before: datetime) -> int:
    """Forget waits that ended before then; return how many."""
    gone = session.execute(delete(Wait).where(Wait.ended_at < before).execution_options(synchronize_session=False))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def waiting(session: Session) -> int:
    """Return how many people wait."""
    return session.scalar(select(func.coalesce(func.sum(Slot.waiting), 0)).where(Slot.waiting > 0)) or 0


# --- reading ---


def attendees(sealer: Sealer, wait: Wait) -> Attendees:
    """Return the answers of each attendee in clear; none where the wait is over."""
    if wait.sealed is None:
        return []
    found: Attendees = json.loads(sealer.open(wait.sealed, about=_about(wait.id)))
    return found


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


def _about(wait_id: str) -> str:
    return f"wait:{wait_id}"


def _about_key(asked: Asking) -> str:
    return f"success:{asked.user_id}:{asked.key}"


def _slot(offered: Offered) -> Slot:
    assert isinstance(offered.slot, Slot)  # noqa: S101  # loaded by a session
    return offered.slot


def _fact(kind: type[WaitEvent], wait: Wait, offered: Offered, **more: Any) -> WaitEvent:
    return kind(
        version=wait.version,
        wait_id=wait.id,
        user_id=wait.user_id,
        people=wait.people,
        hall_id=wait.hall_id,
        hall_name=offered.hall.name,
        item_id=wait.item_id,
        item_title=offered.item.title,
        slot_id=wait.slot_id,
        date=offered.slot.date,
        start=offered.slot.start,
        end=offered.slot.end,
        starts_at=offered.slot.starts_at,
        ends_at=offered.slot.ends_at,
        timezone=offered.hall.timezone,
        reason=wait.reason,
        **more,
    )
