"""Many days at once: a range filled by a plan for the week, copies of one day, a range cleared again."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.ids import new_id
from libs.contracts.catalog import SlotStatus
from libs.contracts.principals import Staff
from services.catalog import closures, days, errors, facts, policy, special_days, templates
from services.catalog.days import Place
from services.catalog.fill_schemas import Cleared, ClearIn, Filled, FillIn, NamedDate, Skipped, Why
from services.catalog.models import Day, Slot
from services.catalog.policy import Part, Period, Plan
from services.catalog.workdays import SpecialKind

MONDAY = 1
# Why a special date has no day where its weekday has periods.
_WITHOUT_PERIODS: dict[SpecialKind, Why] = {
    SpecialKind.DAY_OFF: "day_off",
    SpecialKind.WORKDAY: "makeup_without_periods",
}


def fill(session: Session, staff: Staff, item_id: str, data: FillIn) -> Filled:
    """Make the days of a range that do not exist yet; those that do, and days off, are left alone and told."""
    dates = special_days.dates_between(data.from_, data.to)
    where = days.place(session, staff, item_id, to_define=True)
    plan = _plan(session, where, data)
    specials = special_days.known(session, where.hall.id, dates, statutory=plan.observes)
    wanted = {on: periods for on in dates if (periods := plan.periods_on(on, specials.get(on)))}
    left_out = [
        Skipped(date=on, reason=_WITHOUT_PERIODS[special.kind], name=special.name)
        for on, special in specials.items()
        if on not in wanted and plan.periods_of(on.isoweekday())
    ]
    filled = lay_out(session, staff, where, wanted, note=data.note, action="days.filled")
    return Filled(
        created=filled.created,
        slots=filled.slots,
        skipped=_by_date(filled.skipped + left_out),
        workdays=[
            NamedDate(date=on, name=specials[on].name)
            for on in filled.created
            if on in specials and specials[on].kind == SpecialKind.WORKDAY
        ],
        years_not_announced=special_days.years_not_announced(dates) if plan.observes else [],
    )


def copy(session: Session, staff: Staff, item_id: str, on: date, dates: Iterable[date]) -> Filled:
    """Copy a day's note and open slots onto other dates; days that exist are left alone and told.

    Raises NothingToCopy where no slot is open: an empty day would stand in the way of what fills the date.
    """
    where = days.place(session, staff, item_id, to_define=True)
    day, slots = days.get(session, item_id, on)
    periods = tuple(
        Period(start=slot.start, end=slot.end, capacity=slot.capacity)
        for slot in slots
        if slot.status == SlotStatus.OPEN
    )
    if not periods:
        raise errors.NothingToCopy
    wanted = dict.fromkeys(sorted(dates), periods)
    return lay_out(session, staff, where, wanted, note=day.note, action="days.copied")


def clear(session: Session, staff: Staff, item_id: str, data: ClearIn) -> Cleared:
    """Delete the days of a range that nobody ever booked; the others are left alone and told. Raises TooManySlots."""
    dates = special_days.dates_between(data.from_, data.to)
    where = days.place(session, staff, item_id, to_define=True)
    chosen = [on for on in dates if data.weekdays is None or on.isoweekday() in data.weekdays]
    # Whoever edits slots holds their day.
    found = session.scalars(
        select(Day).where(Day.item_id == item_id, Day.date.in_(chosen)).order_by(Day.date).with_for_update()
    ).all()
    slots_of: dict[date, list[Slot]] = {day.date: [] for day in found}
    standing = select(Slot).where(Slot.item_id == item_id, Slot.date.in_(slots_of), ~Slot.deleted)
    for slot in session.scalars(standing.order_by(Slot.date, Slot.start, Slot.id)):
        slots_of[slot.date].append(slot)
    kept = [on for on, slots in slots_of.items() if any(slot.had_joins for slot in slots)]
    cleared = {on: slots for on, slots in slots_of.items() if on not in kept}
    gone = [slot for slots in cleared.values() for slot in slots]
    if len(gone) > policy.MOST_CHANGES:
        raise errors.TooManySlots(most=policy.MOST_CHANGES)
    days.count_up(session, Slot, [slot.id for slot in gone], deleted=True)
    session.execute(delete(Day).where(Day.item_id == item_id, Day.date.in_(cleared)))
    outbox.record(session, *(facts.of_slot(slot) for slot in gone))
    if cleared:
        periods = {on: [Period(slot.start, slot.end, slot.capacity) for slot in slots] for on, slots in cleared.items()}
        days.put_on_record(session, staff, "days.cleared", where, before={"cleared": _alike(periods)})
    return Cleared(deleted=list(cleared), slots=len(gone), kept=kept)


def _plan(session: Session, where: Place, data: FillIn) -> Plan:
    if data.template_id is not None:
        plan = templates.plan_for(session, data.template_id, hall_id=where.hall.id)
    else:
        periods = tuple(Period(start=one.start, end=one.end, capacity=one.capacity) for one in data.periods or [])
        policy.check_periods([(period.start, period.end) for period in periods], field="periods")
        plan = Plan(parts=(Part(policy.EVERY_DAY, periods),), observes=True, makeup_as=MONDAY)
    return Plan(
        parts=plan.parts if data.weekdays is None else plan.narrowed(data.weekdays).parts,
        observes=plan.observes if data.holidays is None else data.holidays == "observe",
        makeup_as=data.makeup_as or plan.makeup_as,
    )


def lay_out(
    session: Session,
    staff: Staff,
    where: Place,
    wanted: Mapping[date, Sequence[Period]],
    *,
    note: str,
    action: str,
) -> Filled:
    """Make these days with these periods, but for those that exist, are closed, or have no such times.

    Raises TooManySlots.
    """
    if sum(map(len, wanted.values())) > policy.MOST_CHANGES:
        raise errors.TooManySlots(most=policy.MOST_CHANGES)
    slots: dict[date, list[dict[str, Any]]] = {}
    skipped = []
    closed = closures.over(session, where.hall.id, where.item.id, min(wanted), max(wanted)) if wanted else []
    for on, periods in wanted.items():
        if closure := closures.on(closed, on):
            skipped.append(Skipped(date=on, reason="closed", name=closure.reason))
            continue
        try:
            slots[on] = [_slot(where, on, period) for period in periods]
        except errors.NoSuchLocalTime:
            skipped.append(Skipped(date=on, reason="no_such_local_time"))
    created = sorted(_make_days(session, where.item.id, list(slots), note))
    skipped += [Skipped(date=on, reason="exists") for on in slots.keys() - set(created)]
    rows = [slot for on in created for slot in slots[on]]
    if rows:
        session.execute(insert(Slot), rows)
        outbox.record(session, *(facts.of_slot(Slot(**row)) for row in rows))
    if created:
        after = {"note": note, "made": _alike({on: wanted[on] for on in created})}
        days.put_on_record(session, staff, action, where, after=after)
    return Filled(created=created, slots=len(rows), skipped=_by_date(skipped))


def _by_date(skipped: Iterable[Skipped]) -> list[Skipped]:
    return sorted(skipped, key=lambda one: one.date)


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


def _alike(days_with: Mapping[date, Sequence[Period]]) -> list[dict[str, Any]]:
    """Return for the trail what days have or had: periods that are alike on many days are told once."""
    dates_of: defaultdict[tuple[Period, ...], list[str]] = defaultdict(list)
    for on, periods in days_with.items():
        dates_of[tuple(periods)].append(on.isoformat())
    return [
        {"days": dates, "periods": [templates.as_json(period) for period in periods]}
        for periods, dates in dates_of.items()
    ]
