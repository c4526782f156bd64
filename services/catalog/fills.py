"""Filling many days at once: a range by periods or a template, or copies of one day."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.ids import new_id
from libs.contracts import audit
from libs.contracts.catalog import SlotStatus
from libs.contracts.principals import Staff
from services.catalog import days, errors, facts, policy, templates
from services.catalog.days import Place
from services.catalog.models import Day, Slot
from services.catalog.policy import Period
from services.catalog.schemas import MOST_DATES, Filled, FillIn, Skipped


def fill(session: Session, staff: Staff, item_id: str, data: FillIn) -> Filled:
    """Make the days of a range that do not exist yet; those that do are left alone and told."""
    span = (data.to - data.from_).days + 1
    if not 1 <= span <= MOST_DATES:
        raise errors.RangeUnfit(days=MOST_DATES)
    where = days.place(session, staff, item_id, to_define=True)
    periods = _periods(session, where, data)
    weekdays = set(data.weekdays or range(1, 8))
    dates = [data.from_ + timedelta(days=ahead) for ahead in range(span)]
    wanted = [day for day in dates if day.isoweekday() in weekdays]
    return _lay_out(session, staff, where, wanted, periods, note=data.note, action="days.filled")


def copy(session: Session, staff: Staff, item_id: str, on: date, dates: Iterable[date]) -> Filled:
    """Copy a day's note and open slots onto other dates; days that exist are left alone and told."""
    where = days.place(session, staff, item_id, to_define=True)
    day, slots = days.get(session, item_id, on)
    periods = [
        Period(start=slot.start, end=slot.end, capacity=slot.capacity)
        for slot in slots
        if slot.status == SlotStatus.OPEN
    ]
    return _lay_out(session, staff, where, sorted(set(dates)), periods, note=day.note, action="days.copied")


def _periods(session: Session, where: Place, data: FillIn) -> list[Period]:
    if data.template_id is not None:
        return templates.periods_for(session, data.template_id, hall_id=where.hall.id)
    periods = [Period(start=found.start, end=found.end, capacity=found.capacity) for found in data.periods or []]
    policy.check_periods([(period.start, period.end) for period in periods])
    return periods


def _lay_out(
    session: Session,
    staff: Staff,
    where: Place,
    dates: Sequence[date],
    periods: Sequence[Period],
    *,
    note: str,
    action: str,
) -> Filled:
    slots: dict[date, list[dict[str, Any]]] = {}
    skipped = []
    for on in dates:
        try:
            slots[on] = [_slot(where, on, period) for period in periods]
        except errors.NoSuchLocalTime:
            skipped.append(Skipped(date=on, reason="no_such_local_time"))
    created = _make_days(session, where.item.id, list(slots), note)
    skipped += [Skipped(date=on, reason="exists") for on in slots if on not in created]
    rows = [slot for on in slots if on in created for slot in slots[on]]
    if rows:
        session.execute(insert(Slot), rows)
        outbox.record(session, *(facts.of_slot(Slot(**row)) for row in rows))
    if created:
        _audit(session, staff, action, where, sorted(created), periods, note)
    return Filled(created=sorted(created), slots=len(rows), skipped=sorted(skipped, key=lambda one: one.date))


def _slot(where: Place, on: date, period: Period) -> dict[str, Any]:
    starts_at, ends_at = days.instants(on, period.start, period.end, where.hall.timezone)
    return {
        "id": new_id(),
        "item_id": where.item.id,
        "hall_id": where.hall.id,
        "date": on,
        "start": period.start,
        "end": period.end,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "status": SlotStatus.OPEN,
        "capacity": period.capacity,
        "deleted": False,
        "version": 1,
    }


def _make_days(session: Session, item_id: str, dates: Sequence[date], note: str) -> set[date]:
    if not dates:
        return set()
    made = session.scalars(
        insert_or(Day)
        .values([{"id": new_id(), "item_id": item_id, "date": on, "note": note, "version": 1} for on in dates])
        .on_conflict_do_nothing(index_elements=["item_id", "date"])
        .returning(Day.date)
    )
    return set(made)


def _audit(
    session: Session,
    staff: Staff,
    action: str,
    where: Place,
    created: Sequence[date],
    periods: Sequence[Period],
    note: str,
) -> None:
    after = {
        "days": [on.isoformat() for on in created],
        "note": note,
        "periods": [templates.as_json(period) for period in periods],
    }
    audit.record(
        session, staff, action, object_type="item", object_id=where.item.id, hall_id=where.hall.id, after=after
    )
