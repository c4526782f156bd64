"""Booking's background work: noting who did not come, reconciling counts, and sweeping what nobody needs any more."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.messages import Fact
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events
from libs.contracts.booking import (
    JoinBooked,
    JoinCancelled,
    JoinCheckedIn,
    JoinEvent,
    JoinMissed,
    JoinRevoked,
    JoinStatus,
)
from services.booking import events, inventory, offers
from services.booking.models import Hall, Item, Join, Slot, Success
from services.booking.offers import Offered
from services.booking.reconcile import reconcile

KEEP_SUCCESSES = timedelta(days=7)
BATCH = 500


def mark_missed(runtime: Runtime) -> int:
    """Note every booked join whose slot is over and whose attendee did not come; return how many. May run anywhere."""
    total = 0
    while True:
        with runtime.db.transaction() as session:
            marked = _mark_some(session, utcnow())
        total += marked
        if marked < BATCH:
            return total


def _mark_some(session: Session, now: datetime) -> int:
    joins = session.scalars(
        select(Join)
        .join(Slot, Slot.id == Join.slot_id)
        .where(Slot.ends_at <= now)
        .where(Join.status == JoinStatus.BOOKED)
        .where(Join.checked_in_at.is_(None))
        .where(Join.missed_at.is_(None))
        .order_by(Join.id)
        .limit(BATCH)
        .with_for_update(of=Join, key_share=True, skip_locked=True)
    ).all()
    if not joins:
        return 0
    session.execute(
        update(Join)
        .where(Join.id.in_([join.id for join in joins]))
        .values(missed_at=now, version=Join.version + 1)
        .execution_options(synchronize_session=False)
    )
    offered = offers.of_joins(session, {join.slot_id for join in joins})
    for join in joins:
        session.refresh(join)
    places = [offered[join.slot_id] for join in joins]
    changed = [(join, place, inventory.current(place.slot)) for join, place in zip(joins, places, strict=True)]
    outbox.record(session, *events.of_action(JoinMissed, changed))
    return len(joins)


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Sweep old idempotency records, published events and consumed event ids; return how many of each."""
    now = utcnow()
    with runtime.db.transaction() as session:
        successes = session.execute(delete(Success).where(Success.created_at < now - KEEP_SUCCESSES))
        return {
            "idempotency_records": int(successes.rowcount),  # type: ignore[attr-defined]  # a DML result has a rowcount
            **sweep_events(session, now=now),
        }


def republish(session: Session) -> Iterator[Fact]:
    """Yield every join as it is now, each as the event that brought it there."""
    query = (
        select(Join, Slot, Item, Hall)
        .join(Slot, Slot.id == Join.slot_id)
        .join(Item, Item.id == Join.item_id)
        .join(Hall, Hall.id == Join.hall_id)
        .order_by(Join.id)
        .execution_options(yield_per=BATCH)
    )
    for join, slot, item, hall in session.execute(query):
        offered = Offered(slot, item, hall)
        yield events.of(_kind(join), join, offered, inventory.current(slot), action_id=new_id(), people=1)


def _kind(join: Join) -> type[JoinEvent]:
    if join.status == JoinStatus.CANCELLED:
        return JoinCancelled
    if join.status == JoinStatus.REVOKED:
        return JoinRevoked
    if join.checked_in_at is not None:
        return JoinCheckedIn
    return JoinMissed if join.missed_at is not None else JoinBooked


TASKS = (
    Task("booking.mark_missed", mark_missed, every=timedelta(minutes=1)),
    Task("booking.reconcile", reconcile, every=timedelta(minutes=1)),
    Task("booking.upkeep", upkeep, daily_at=(19, 10)),  # 03:10 in China
)
