"""Capacities of many slots at once: of some items, between two dates, at some times of day."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date

from sqlalchemy import ColumnElement, exists, extract, select
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.errors import check_range
from libs.contracts import audit
from libs.contracts.principals import Staff
from services.catalog import days, edits, errors, facts, items, policy, special_days
from services.catalog.bulk_schemas import CapacitiesIn, CapacitiesOut, SlotOverfull
from services.catalog.models import Day, Slot

MOST_OVERFULL = 100


def change(session: Session, staff: Staff, data: CapacitiesIn) -> CapacitiesOut:
    """Give all these slots the same capacity; nobody is thrown out where it is less than is taken.

    Raises RangeUnfit, NotFound where an item is foreign, or TooManySlots.
    """
    special_days.dates_between(data.from_, data.to)
    check_range(data.start, data.end)
    hall_of = {item.id: item.hall_id for item in items.all_of(session, staff, data.item_ids)}
    slots_of = _slots(session, data, _locked_days(session, data))
    slots = [slot for of_day in slots_of.values() for slot in of_day]
    before = {day: edits.slot_fields(of_day) for day, of_day in slots_of.items()}
    days.count_up(session, Slot, [slot.id for slot in slots], capacity=data.capacity)
    days.count_up(session, Day, [day.id for day in slots_of])
    edits.note_all(session, staff, [(day, before[day], edits.slot_fields(slots_of[day])) for day in slots_of])
    outbox.record(session, *(facts.of_slot(slot) for slot in slots))
    _audit(session, staff, hall_of, before, capacity=data.capacity)
    overfull = [slot for slot in slots if data.capacity is not None and slot.booked > data.capacity]
    return CapacitiesOut(
        slots=len(slots),
        days=len(slots_of),
        overfull=[SlotOverfull.model_validate(slot, from_attributes=True) for slot in overfull[:MOST_OVERFULL]],
    )


def _wanted(data: CapacitiesIn) -> ColumnElement[bool]:
    wanted = (
        Slot.item_id.in_(data.item_ids)
        & Slot.date.between(data.from_, data.to)
        & Slot.capacity.is_distinct_from(data.capacity)
        & ~Slot.deleted
    )
    if data.weekdays is not None:
        wanted &= extract("isodow", Slot.date).in_(data.weekdays)
    if data.start is not None:
        wanted &= Slot.start >= data.start
    if data.end is not None:
        wanted &= Slot.end <= data.end
    return wanted


def _locked_days(session: Session, data: CapacitiesIn) -> dict[tuple[str, date], Day]:
    # Whoever edits slots holds their day.
    rows = session.scalars(
        select(Day)
        .where(exists().where(Slot.item_id == Day.item_id, Slot.date == Day.date, _wanted(data)))
        .order_by(Day.item_id, Day.date)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {(day.item_id, day.date): day for day in rows}


def _slots(session: Session, data: CapacitiesIn, held: Mapping[tuple[str, date], Day]) -> Mapping[Day, Sequence[Slot]]:
    """Return by day the slots that change; those of a day that was made in this moment are left as they were made."""
    rows = session.scalars(
        select(Slot)
        .where(_wanted(data))
        .order_by(Slot.item_id, Slot.date, Slot.start)
        .limit(policy.MOST_CHANGES + 1)
        .execution_options(populate_existing=True)
    ).all()
    if len(rows) > policy.MOST_CHANGES:
        raise errors.TooManySlots(most=policy.MOST_CHANGES)
    found: defaultdict[Day, list[Slot]] = defaultdict(list)
    for slot in rows:
        if day := held.get((slot.item_id, slot.date)):
            found[day].append(slot)
    return found


def _audit(
    session: Session,
    staff: Staff,
    hall_of: Mapping[str, str],
    before: Mapping[Day, edits.Fields],
    *,
    capacity: int | None,
) -> None:
    """Record for each item what its slots took before: periods that were alike on many days are told once."""
    was: defaultdict[str, defaultdict[tuple[str, str, int | None], list[str]]] = defaultdict(lambda: defaultdict(list))
    for day, slots in before.items():
        for slot in slots.values():
            was[day.item_id][slot["start"], slot["end"], slot["capacity"]].append(day.date.isoformat())
    for item_id, periods in was.items():
        told = [
            {"start": start, "end": end, "capacity": taken, "days": days}
            for (start, end, taken), days in periods.items()
        ]
        audit.record(
            session,
            staff,
            "slots.capacity_changed",
            object_type="item",
            object_id=item_id,
            hall_id=hall_of[item_id],
            before={"slots": told},
            after={"capacity": capacity},
        )
