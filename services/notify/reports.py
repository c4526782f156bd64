"""Sums of stats for staff: by slot, item, hall or day."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, null, select
from sqlalchemy.orm import Bundle, Session

from libs.common.pages import Key, fetch
from libs.contracts.principals import Staff
from services.notify.models import SlotStat


class Group(StrEnum):
    SLOT = "slot"
    ITEM = "item"
    HALL = "hall"
    DAY = "day"


# The columns that name a group, with their kinds of key; together they are unique, in the order of the list.
KEYS: dict[Group, tuple[tuple[str, Any], ...]] = {
    Group.SLOT: (("day", date), ("hall_id", "id"), ("item_id", "id"), ("slot_id", "id")),
    Group.ITEM: (("hall_id", "id"), ("item_id", "id")),
    Group.HALL: (("hall_id", "id"),),
    Group.DAY: (("day", date),),
}
NAMES = ("slot_id", "item_id", "hall_id", "day")
COUNTS = ("booked", "cancelled", "revoked", "checked_in", "missed", "taken")


@dataclass(frozen=True)
class Filter:
    hall_id: str | None
    item_id: str | None
    first_day: date | None
    last_day: date | None


def grouped(
    session: Session, staff: Staff, wanted: Filter, group: Group, *, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """Return a page of sums, one for each slot, item, hall or day within the scope of the account."""
    names = [name for name, _ in KEYS[group]]
    columns = [getattr(SlotStat, name) for name in names]
    sums = _within(staff, wanted, select(*columns, *_sums())).group_by(*columns).subquery()
    shown = [sums.c[name] if name in names else null().label(name) for name in NAMES]
    row: Bundle[Any] = Bundle("sums", *shown, *(sums.c[column.name] for column in _sums()))
    keys = [Key(sums.c[name], kind) for name, kind in KEYS[group]]
    return fetch(session, select(row), keys=keys, limit=limit, cursor=cursor)


def total(session: Session, staff: Staff, wanted: Filter) -> Any:
    """Return the sum over everything that the filter finds."""
    return session.execute(_within(staff, wanted, select(*_sums()))).one()


def _within(staff: Staff, wanted: Filter, query: Select[Any]) -> Select[Any]:
    query = query.where(SlotStat.item_id.is_not(None), staff.sees(SlotStat.hall_id))
    if wanted.hall_id is not None:
        query = query.where(SlotStat.hall_id == wanted.hall_id)
    if wanted.item_id is not None:
        query = query.where(SlotStat.item_id == wanted.item_id)
    if wanted.first_day is not None:
        query = query.where(SlotStat.day >= wanted.first_day)
    if wanted.last_day is not None:
        query = query.where(SlotStat.day <= wanted.last_day)
    return query


def _sums() -> list[Any]:
    """Every count and rate; capacity and fill rate over the slots that have a limit. A rate of nothing is null."""
    is_limited: ColumnElement[bool] = SlotStat.capacity.is_not(None)
    places = func.sum(SlotStat.capacity)
    fill_rate = func.sum(SlotStat.booked).filter(is_limited) * 1.0 / func.nullif(places, 0)
    no_show_rate = func.sum(SlotStat.missed) * 1.0 / func.nullif(func.sum(SlotStat.missed + SlotStat.checked_in), 0)
    lead_hours = func.sum(SlotStat.lead_minutes) / 60.0 / func.nullif(func.sum(SlotStat.booked), 0)
    return [
        func.count().label("slots"),
        *(func.coalesce(func.sum(getattr(SlotStat, name)), 0).label(name) for name in COUNTS),
        places.label("capacity"),
        fill_rate.label("fill_rate"),
        no_show_rate.label("no_show_rate"),
        lead_hours.label("lead_hours"),
    ]
