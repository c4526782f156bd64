"""Misses: who had not come when the slot was over, noted, and taken back where the slot's end has moved ahead since.

Staff may forgive them: then they stay noted, and do not count any more. Where slot, item or hall was closed by then, nobody has
missed anything, whatever is opened later: those joins are excused.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, and_, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.contracts.booking import JoinEvent, JoinExpected, JoinMissed, JoinStatus
from libs.contracts.catalog import SERVED, HallStatus, SlotStatus
from services.booking import errors, events, inventory, offers, standings
from services.booking.models import Hall, Item, Join, Slot, User

# What is locked while misses are noted; what somebody else has locked is left for the next time. A slot, because its end may
# be being moved in this moment; a user, because they may be booking: what they book comes before the miss, or minds it.
LOCKED = (Join, Slot, User)

E = TypeVar("E", bound=JoinEvent)


def note(session: Session, *, now: datetime, at_most: int) -> int:
    """Note some of the booked joins whose slot is over and whose attendee did not come; return how many."""
    was_open = and_(
        Slot.status == SlotStatus.OPEN,
        Item.status.in_(SERVED),
        Hall.status == HallStatus.OPEN,
    )
    found = session.execute(
        _booked()
        .add_columns(was_open)
        .join(Item, Item.id == Join.item_id)
        .join(Hall, Hall.id == Join.hall_id)
        .join(User, User.id == Join.user_id)
        .where(Slot.ends_at <= now)
        .where(Join.checked_in_at.is_(None))
        .where(Join.missed_at.is_(None))
        .where(~Join.excused)
        .limit(at_most)
        .with_for_update(of=LOCKED, key_share=True, skip_locked=True)
    ).all()
    _write(session, [join for join, was_open in found if not was_open], excused=True)
    joins = [join for join, was_open in found if was_open]
    facts = _set(session, JoinMissed, joins, missed_at=now)
    until = standings.pauses(session, joins, now=now)
    told = [fact.model_copy(update={"cooling_off_until": until.get((fact.user_id, fact.hall_id))}) for fact in facts]
    outbox.record(session, *told)
    return len(found)


def withdraw(session: Session, slot_ids: set[str], *, now: datetime) -> None:
    """Expect again those whom slots noted as missed, where they are not over any more. The caller has locked the slots."""
    joins = session.scalars(
        _booked()
        .where(Join.slot_id.in_(slot_ids))
        .where(Slot.ends_at > now)
        .where(Join.missed_at.is_not(None) | Join.excused)
        .with_for_update(of=Join, key_share=True)
    ).all()
    _write(session, [join for join in joins if join.excused], excused=False)
    missed = [join for join in joins if join.missed_at is not None]
    outbox.record(session, *_set(session, JoinExpected, missed, missed_at=None, forgiven_at=None))


def forgive(session: Session, *, user_id: str, hall_id: str, join_id: str | None, now: datetime) -> list[Join]:
    """Let visits that the user missed at the hall count no more: that which the join is of, or all of them (None).

    Return their joins, or raise JoinNotFound or NothingToForgive.
    """
    theirs = select(Join).where(Join.user_id == user_id, Join.hall_id == hall_id)
    if join_id is not None:
        named = session.scalar(theirs.where(Join.id == join_id))
        if named is None:
            raise errors.JoinNotFound
        theirs = theirs.where(standings.visit(named))
    joins = session.scalars(theirs.where(standings.COUNTS).order_by(Join.id).with_for_update(key_share=True)).all()
    if not joins:
        raise errors.NothingToForgive
    for join in joins:
        join.forgiven_at = now
    session.flush()
    return list(joins)


def _booked() -> Select[Join]:
    return select(Join).join(Slot, Slot.id == Join.slot_id).where(Join.status == JoinStatus.BOOKED).order_by(Join.id)


def _set(session: Session, kind: type[E], joins: Sequence[Join], **values: Any) -> list[E]:
    if not joins:
        return []
    _write(session, joins, **values)
    offered = offers.of_joins(session, {join.slot_id for join in joins})
    for join in joins:
        session.refresh(join)
    places = [offered[join.slot_id] for join in joins]
    changed = [(join, place, inventory.current(place.slot)) for join, place in zip(joins, places, strict=True)]
    return events.of_action(kind, changed)


def _write(session: Session, joins: Sequence[Join], **values: Any) -> None:
    if not joins:
        return
    session.execute(
        update(Join)
        .where(Join.id.in_([join.id for join in joins]))
        .values(**values, version=Join.version + 1)
        .execution_options(synchronize_session=False)
    )
