"""Days and their slots, as staff edit them: only what differs changes, and what was booked is never lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.catalog import SlotStatus
from libs.contracts.principals import Staff
from services.catalog import closures, edits, errors, facts, policy
from services.catalog.day_schemas import DayIn, SlotIn
from services.catalog.models import Closure, Day, Hall, Item, Slot


@dataclass(frozen=True)
class Place:
    """The item whose day it is, and its hall."""

    item: Item
    hall: Hall


def place(session: Session, staff: Staff, item_id: str, *, to_define: bool = False) -> Place:
    """Return an item within the staff's scope with its hall, or raise NotFound.

    With `to_define` the hall's zone stays as it is until the transaction ends.
    """
    query = select(Item, Hall).join(Hall, Hall.id == Item.hall_id).where(Item.id == item_id, staff.sees(Item.hall_id))
    if to_define:
        query = query.with_for_update(read=True, of=Hall)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound
    return Place(item=row[0], hall=row[1])


def listed(
    session: Session, item_id: str, *, first: date | None, last: date | None, limit: int, cursor: str | None
) -> tuple[list[tuple[Day, list[Slot]]], str | None]:
    """Return the days of an item between two dates inclusive, each with all its slots."""
    query = select(Day).where(Day.item_id == item_id)
    if first is not None:
        query = query.where(Day.date >= first)
    if last is not None:
        query = query.where(Day.date <= last)
    found, following = fetch(session, query, keys=[Key(Day.date, date)], limit=limit, cursor=cursor)
    slots = session.scalars(
        select(Slot)
        .where(Slot.item_id == item_id, Slot.date.in_([day.date for day in found]), ~Slot.deleted)
        .order_by(Slot.start, Slot.id)
    ).all()
    return [(day, [slot for slot in slots if slot.date == day.date]) for day in found], following


def get(session: Session, item_id: str, on: date) -> tuple[Day, list[Slot]]:
    """Return a day with all its slots, or raise NotFound."""
    day = session.scalar(select(Day).where(Day.item_id == item_id, Day.date == on))
    if day is None:
        raise NotFound
    return day, slots_of(session, item_id, on)


def slots_of(session: Session, item_id: str, on: date, *, lock: bool = False) -> list[Slot]:
    """Return the slots of a day by start; with `lock`, as nobody else can change them now."""
    query = select(Slot).where(Slot.item_id == item_id, Slot.date == on, ~Slot.deleted).order_by(Slot.start, Slot.id)
    return list(session.scalars(query.with_for_update() if lock else query))


@dataclass(frozen=True)
class Precondition:
    """What the caller says about the day's present version: If-Match and If-None-Match."""

    if_match: str | None
    if_none_match: str | None


def save(
    session: Session,
    staff: Staff,
    item_id: str,
    on: date,
    data: DayIn,
    precondition: Precondition,
    *,
    now: datetime,
) -> tuple[Place, Day, bool]:
    """Bring a day to what `data` says, changing what differs; return it and whether it is new.

    Raises DayVersionMissing, Stale, PeriodsUnfit, NoSuchLocalTime, SlotUnknown, SlotHasJoins, SlotInPast, or JoinsMoved
    where the caller does not say that this is meant.
    """
    where = place(session, staff, item_id, to_define=True)
    day, is_new = _claim(session, item_id, on, precondition)
    standing = slots_of(session, item_id, on, lock=True)
    before = None if is_new else summary(day, standing)
    loaded = {} if is_new else {"note": day.note} | edits.slot_fields(standing)
    kept = _match(data.slots, standing)
    _check(data.slots, kept)
    gone = [slot for slot in standing if slot not in kept]
    refuse_joins(gone)
    _check_moves(where, on, data, kept, now=now)
    closure = closures.on(closures.over(session, where.hall.id, item_id, on, on), on)
    changed = _delete(gone) + _define(session, where, on, data.slots, kept, closure=closure)
    if not is_new and not changed and day.note == data.note:
        return where, day, False
    day.note = data.note
    day.version += 0 if is_new else 1
    session.flush()
    outbox.record(session, *(facts.of_slot(slot) for slot in changed))
    stands = slots_of(session, item_id, on)
    edits.note(session, staff, day, before=loaded, after={"note": day.note} | edits.slot_fields(stands))
    after = summary(day, stands)
    _audit(session, staff, "day.created" if is_new else "day.edited", where, on, before=before, after=after)
    return where, day, is_new


def delete(session: Session, staff: Staff, item_id: str, on: date, *, if_match: str | None) -> None:
    """Delete a day that nobody ever booked, or raise SlotHasJoins."""
    where = place(session, staff, item_id, to_define=True)
    day = _locked(session, item_id, on)
    if day is None:
        raise NotFound
    edits.require(session, if_match, day)
    standing = slots_of(session, item_id, on, lock=True)
    refuse_joins(standing)
    before = summary(day, standing)
    gone = _delete(standing)
    session.delete(day)
    session.flush()
    outbox.record(session, *(facts.of_slot(slot) for slot in gone))
    _audit(session, staff, "day.deleted", where, on, before=before, after=None)


def count_up(session: Session, table: type[Slot] | type[Day], ids: Sequence[str], **values: Any) -> None:
    """Change these rows in one statement, and with them the entities that are loaded: row by row takes seconds."""
    changed = update(table).where(table.id.in_(ids)).values(version=table.version + 1, **values).returning(table)
    session.execute(changed, execution_options={"synchronize_session": False, "populate_existing": True}).all()


def refuse_joins(slots: Sequence[Slot]) -> None:
    """Raise SlotHasJoins, naming them, where somebody has ever booked one of the slots."""
    booked = [slot for slot in slots if slot.had_joins]
    if booked:
        raise errors.SlotHasJoins(slots=[_named(slot) for slot in booked])


def _named(slot: Slot) -> dict[str, Any]:
    return {"id": slot.id, "start": _clock(slot.start), "end": _clock(slot.end), "taken": slot.booked}


def instants(on: date, start: time, end: time, zone: str) -> tuple[datetime, datetime]:
    """Return when a period starts and ends, or raise NoSuchLocalTime."""
    starts_at, ends_at = policy.instant(on, start, zone), policy.end_of_period(on, end, zone)
    if starts_at is None or ends_at is None:
        raise errors.NoSuchLocalTime(date=on.isoformat(), start=_clock(start), end=_clock(end))
    return starts_at, ends_at


def summary(day: Day, slots: Sequence[Slot]) -> dict[str, Any]:
    """Return what the audit trail keeps of a day."""
    return {
        "note": day.note,
        "slots": [edits.slot_definition(slot) for slot in slots],
    }


def _clock(at: time) -> str:
    return at.strftime("%H:%M")


def _locked(session: Session, item_id: str, on: date) -> Day | None:
    return session.scalar(select(Day).where(Day.item_id == item_id, Day.date == on).with_for_update())


def _claim(session: Session, item_id: str, on: date, precondition: Precondition) -> tuple[Day, bool]:
    # Every edit of a day goes through here first: the row's lock, or the unique index where it is new, orders them.
    if precondition.if_match is not None:
        day = _locked(session, item_id, on)
        if day is None:
            raise errors.DayGone(version=None, etag=None)
        edits.require(session, precondition.if_match, day)
        return day, False
    if precondition.if_none_match is None or precondition.if_none_match.strip() != "*":
        raise errors.DayVersionMissing
    made = session.scalar(
        insert(Day)
        .values(id=new_id(), item_id=item_id, date=on, note="", version=1)
        .on_conflict_do_nothing(index_elements=["item_id", "date"])
        .returning(Day)
    )
    if made is None:
        present = session.scalars(select(Day).where(Day.item_id == item_id, Day.date == on)).one_or_none()
        raise errors.DayGone(version=None, etag=None) if present is None else edits.outdated(session, present, loaded=0)
    return made, True


def _match(wanted: Sequence[SlotIn], standing: Sequence[Slot]) -> list[Slot | None]:
    """Return for each wanted slot the one that it is: by id, else by the same period, else a new one (None)."""
    by_id = {slot.id: slot for slot in standing}
    named = [slot.id for slot in wanted if slot.id is not None]
    unknown = [slot_id for slot_id in named if slot_id not in by_id]
    if unknown or len(set(named)) < len(named):
        raise errors.SlotUnknown(ids=unknown or sorted(named))
    free = [slot for slot in standing if slot.id not in named]
    free.sort(key=lambda slot: slot.status != SlotStatus.OPEN)
    kept: list[Slot | None] = []
    for slot in wanted:
        if slot.id is not None:
            kept.append(by_id[slot.id])
            continue
        same = next((other for other in free if (other.start, other.end) == (slot.start, slot.end)), None)
        if same is not None:
            free.remove(same)
        kept.append(same)
    return kept


def _check(wanted: Sequence[SlotIn], kept: Sequence[Slot | None]) -> None:
    retired = [
        index
        for index, (slot, standing) in enumerate(zip(wanted, kept, strict=True))
        if slot.status == SlotStatus.CLOSED and standing is not None and standing.had_joins
    ]
    policy.check_periods([(slot.start, slot.end) for slot in wanted], retired=retired)


def _check_moves(where: Place, on: date, data: DayIn, kept: Sequence[Slot | None], *, now: datetime) -> None:
    moved = [
        (standing, instants(on, slot.start, slot.end, where.hall.timezone))
        for slot, standing in zip(data.slots, kept, strict=True)
        if standing is not None and standing.booked and (standing.start, standing.end) != (slot.start, slot.end)
    ]
    gone_by = [
        standing
        for standing, becomes in moved
        if policy.is_into_the_past((standing.starts_at, standing.ends_at), becomes, now=now)
    ]
    if gone_by:
        raise errors.SlotInPast(slots=[_named(standing) for standing in gone_by])
    if moved and not data.accept_joins_ahead:
        raise errors.JoinsMoved(joins=sum(standing.booked for standing, _ in moved), days=[on.isoformat()])


def _delete(slots: Sequence[Slot]) -> list[Slot]:
    for slot in slots:
        slot.deleted = True
        slot.version += 1
    return list(slots)


def _define(
    session: Session,
    where: Place,
    on: date,
    wanted: Sequence[SlotIn],
    kept: Sequence[Slot | None],
    *,
    closure: Closure | None,
) -> list[Slot]:
    """Write the wanted slots; return those that are new or differ from what stood."""
    changed = []
    for slot, standing in zip(wanted, kept, strict=True):
        if standing is None:
            standing = _new(where, on, slot, closure)
            session.add(standing)
        elif _differs(standing, slot):
            _change(standing, on, slot, where.hall.timezone)
        else:
            continue
        changed.append(standing)
    return changed


def _new(where: Place, on: date, slot: SlotIn, closure: Closure | None) -> Slot:
    starts_at, ends_at = instants(on, slot.start, slot.end, where.hall.timezone)
    return Slot(
        id=new_id(),
        item_id=where.item.id,
        hall_id=where.hall.id,
        date=on,
        start=slot.start,
        end=slot.end,
        starts_at=starts_at,
        ends_at=ends_at,
        status=slot.status,
        closure_id=closure and closure.id,
        capacity=slot.capacity,
        deleted=False,
        version=1,
    )


def _differs(standing: Slot, slot: SlotIn) -> bool:
    present = (standing.start, standing.end, standing.capacity, standing.status)
    return present != (slot.start, slot.end, slot.capacity, slot.status)


def _change(standing: Slot, on: date, slot: SlotIn, zone: str) -> None:
    if (standing.start, standing.end) != (slot.start, slot.end):
        standing.starts_at, standing.ends_at = instants(on, slot.start, slot.end, zone)
        standing.start, standing.end = slot.start, slot.end
    standing.capacity = slot.capacity
    standing.status = slot.status
    standing.version += 1


def _audit(
    session: Session,
    staff: Staff,
    action: str,
    where: Place,
    on: date,
    *,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    dated = [None if state is None else {"date": on.isoformat(), **state} for state in (before, after)]
    put_on_record(session, staff, action, where, before=dated[0], after=dated[1])


def put_on_record(
    session: Session,
    staff: Staff,
    action: str,
    where: Place,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Record what was done to the days of an item, in its hall's trail."""
    audit.record(
        session,
        staff,
        action,
        object_type="item",
        object_id=where.item.id,
        hall_id=where.hall.id,
        before=before,
        after=after,
    )
