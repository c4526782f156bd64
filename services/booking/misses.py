"""Misses: who had not come when the slot was over, noted, and taken back where the slot's end has moved ahead since."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.contracts.booking import JoinEvent, JoinExpected, JoinMissed, JoinStatus
from services.booking import events, inventory, offers
from services.booking.models import Join, Slot


def note(session: Session, *, now: datetime, at_most: int) -> int:
    """Note some of the booked joins whose slot is over and whose attendee did not come; return how many."""
    # The slots are locked, too: one whose end is being moved in this moment is left for the next time.
    joins = session.scalars(
        _booked()
        .where(Slot.ends_at <= now)
        .where(Join.checked_in_at.is_(None))
        .where(Join.missed_at.is_(None))
        .limit(at_most)
        .with_for_update(of=[Join, Slot], key_share=True, skip_locked=True)
    ).all()
    _set(session, JoinMissed, joins, now)
    return len(joins)


def withdraw(session: Session, slot_id: str, *, now: datetime) -> None:
    """Expect again those whom a slot noted as missed, where it is not over any more. The caller has locked the slot."""
    joins = session.scalars(
        _booked()
        .where(Join.slot_id == slot_id)
        .where(Slot.ends_at > now)
        .where(Join.missed_at.is_not(None))
        .with_for_update(of=Join, key_share=True)
    ).all()
    _set(session, JoinExpected, joins, None)


def _booked() -> Select[Join]:
    return select(Join).join(Slot, Slot.id == Join.slot_id).where(Join.status == JoinStatus.BOOKED).order_by(Join.id)


def _set(session: Session, kind: type[JoinEvent], joins: Sequence[Join], instant: datetime | None) -> None:
    if not joins:
        return
    session.execute(
        update(Join)
        .where(Join.id.in_([join.id for join in joins]))
        .values(missed_at=instant, version=Join.version + 1)
        .execution_options(synchronize_session=False)
    )
    offered = offers.of_joins(session, {join.slot_id for join in joins})
    for join in joins:
        session.refresh(join)
    places = [offered[join.slot_id] for join in joins]
    changed = [(join, place, inventory.current(place.slot)) for join, place in zip(joins, places, strict=True)]
    outbox.record(session, *events.of_action(kind, changed))
