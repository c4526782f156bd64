"""What the public reads: open halls, visible items, dates and open slots, in a fixed number of queries each."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Integer, Select, case, cast, false, func, or_, select
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.common.pages import Key, Page, fetch
from libs.contracts.catalog import HallStatus, ItemStatus, Rules, Window
from services.catalog import closures, policy, views
from services.catalog.day_schemas import PublicDay, PublicSlot
from services.catalog.hall_schemas import DateOfHall, PublicHall, PublicHallPage
from services.catalog.item_schemas import ItemCard, ItemOfDay, PublicItem
from services.catalog.models import Category, Day, Hall, Item, Slot

EARTH_RADIUS_M = 6_371_008.8
UNPLACED = 2**31 - 1  # where halls without a position stand in a list by distance
MOST_DAYS = 100


@dataclass(frozen=True)
class Place:
    """A point on the earth, in degrees."""

    lat: float
    lng: float


def halls(session: Session, *, q: str | None, near: Place | None, limit: int, cursor: str | None) -> Page[PublicHall]:
    """List open halls by order then newest, or by distance from a place."""
    query = select(Hall).where(Hall.status == HallStatus.OPEN)
    if q:
        query = query.where(Hall.name.icontains(q, autoescape=True) | Hall.address.icontains(q, autoescape=True))
    keys = [Key(Hall.order, int), Key(Hall.id, "id", descending=True)]
    if near is None:
        found, following = fetch(session, query, keys=keys, limit=limit, cursor=cursor)
        return Page(items=[views.public_hall(hall) for hall in found], next_cursor=following)
    distance = _distance_m(near)
    keys.insert(0, Key(distance, int))
    rows, following = fetch(session, query.add_columns(distance), keys=keys, limit=limit, cursor=cursor)
    shown = [views.public_hall(hall, distance_m=None if far == UNPLACED else far) for hall, far in rows]
    return Page(items=shown, next_cursor=following)


def _distance_m(place: Place) -> Any:
    # The haversine formula: exact enough on a sphere, and stable for places next door.
    half_lat = func.radians(Hall.lat - place.lat) / 2
    half_lng = func.radians(Hall.lng - place.lng) / 2
    across = func.cos(func.radians(place.lat)) * func.cos(func.radians(Hall.lat))
    square = func.power(func.sin(half_lat), 2) + across * func.power(func.sin(half_lng), 2)
    metres = 2 * EARTH_RADIUS_M * func.asin(func.sqrt(func.least(1.0, square)))
    return case((Hall.lat.is_(None), UNPLACED), else_=cast(func.round(metres), Integer)).label("distance_m")


def hall(session: Session, hall_id: str, *, now: datetime) -> PublicHallPage:
    """Return an open hall with its closures from today on, or raise NotFound."""
    found = open_hall(session, hall_id)
    closed = closures.over(session, hall_id, None, policy.today(found.timezone, now))
    return views.public_hall_page(found, closed[: closures.MOST_SHOWN])


def open_hall(session: Session, hall_id: str) -> Hall:
    """Return an open hall, or raise NotFound."""
    found = session.scalar(select(Hall).where(Hall.id == hall_id, Hall.status == HallStatus.OPEN))
    if found is None:
        raise NotFound
    return found


def dates(
    session: Session, hall_id: str, *, first: date | None, limit: int, cursor: str | None, now: datetime
) -> Page[DateOfHall]:
    """List the dates, from today at the hall on, that can be booked: with slots that are `bookable` now."""
    hall = open_hall(session, hall_id)
    earliest = policy.today(hall.timezone, now)
    columns: tuple[Any, ...] = (Slot.date, func.count())
    query = (
        select(*columns)
        .where(Slot.hall_id == hall_id, Slot.is_open)
        .where(Slot.date >= (earliest if first is None else max(earliest, first)))
        .where(Slot.capacity.is_(None) | (Slot.taken < Slot.capacity))
        .where(_within_window(session, hall, now=now))
        .group_by(Slot.date)
    )
    rows, following = fetch(session, query, keys=[Key(Slot.date, date)], limit=limit, cursor=cursor)
    return Page(items=[DateOfHall(date=day, slots=slots) for day, slots in rows], next_cursor=following)


def _within_window(session: Session, hall: Hall, *, now: datetime) -> ColumnElement[bool]:
    """Return the condition that a slot is of an item that takes bookings, and within its booking window."""
    rows = session.execute(select(Item.id, Item.rules).where(Item.hall_id == hall.id, Item.status == ItemStatus.OPEN))
    of_window: defaultdict[Window, list[str]] = defaultdict(list)
    for item_id, rules in rows:
        of_window[Rules.model_validate(rules).window(hall.timezone, now=now)].append(item_id)
    return or_(false(), *(_within(window) & Slot.item_id.in_(item_ids) for window, item_ids in of_window.items()))


def _within(window: Window) -> ColumnElement[bool]:
    edge = Slot.starts_at if window.edge == "start" else Slot.ends_at
    not_ended = edge > window.after
    return not_ended if window.last_day is None else not_ended & (Slot.date <= window.last_day)


def items_of_day(
    session: Session, hall_id: str, *, day: date | None, limit: int, cursor: str | None, now: datetime
) -> Page[ItemOfDay]:
    """List the items of a hall that have open slots on a date (today at the hall by default), with those slots."""
    hall = open_hall(session, hall_id)
    earliest = policy.today(hall.timezone, now)
    wanted = earliest if day is None else day
    if wanted < earliest:
        return Page(items=[], next_cursor=None)
    has_slots = select(Slot.id).where(Slot.item_id == Item.id, Slot.date == wanted, Slot.is_open)
    query = _visible_items().where(Item.hall_id == hall_id, has_slots.exists())
    rows, following = fetch(session, query, keys=_ITEM_ORDER, limit=limit, cursor=cursor)
    slots = session.execute(
        select(Slot.item_id, *views.PUBLIC_SLOT)
        .where(Slot.item_id.in_([item.id for item, _, _ in rows]), Slot.date == wanted)
        .where(Slot.is_open)
        .order_by(Slot.start)
    ).all()
    of_item: defaultdict[str, list[Any]] = defaultdict(list)
    for slot in slots:
        of_item[slot.item_id].append(slot)
    # A slot closed between the two queries can leave an item without any.
    shown = [_item_of_day(row, of_item[row[0].id], now) for row in rows if of_item[row[0].id]]
    return Page(items=shown, next_cursor=following)


def _item_of_day(row: Any, slots: list[Any], now: datetime) -> ItemOfDay:
    item, hall, category = row
    rules, zone = Rules.model_validate(item.rules), ZoneInfo(hall.timezone)
    is_open, lets_wait = policy.takes_bookings(item.status, hall.status), views.form_lets_wait(item)
    return ItemOfDay(
        **views.card_fields(item, hall, category),
        slot_count=len(slots),
        first_start=slots[0].start,
        slots=[
            views.public_slot(slot, rules, zone, is_open=is_open, form_lets_wait=lets_wait, now=now) for slot in slots
        ],
    )


def items(
    session: Session,
    *,
    hall_id: str | None,
    category_id: str | None,
    q: str | None,
    recommended: bool | None,
    limit: int,
    cursor: str | None,
) -> Page[ItemCard]:
    """List visible items by order then newest; `q` is looked for in the title, literally."""
    query = _visible_items()
    if hall_id is not None:
        query = query.where(Item.hall_id == hall_id)
    if category_id is not None:
        query = query.where(Item.category_id == category_id)
    if recommended is not None:
        query = query.where(Item.recommended == recommended)
    if q:
        query = query.where(Item.title.icontains(q, autoescape=True))
    rows, following = fetch(session, query, keys=_ITEM_ORDER, limit=limit, cursor=cursor)
    return Page(items=[views.card(*row) for row in rows], next_cursor=following)


def item(session: Session, item_id: str, *, first: date | None, now: datetime) -> PublicItem:
    """Return a visible item with its days that have open slots, from today at the hall on, or raise NotFound."""
    row = session.execute(_visible_items().where(Item.id == item_id)).one_or_none()
    if row is None:
        raise NotFound
    found, hall, category = row
    earliest = policy.today(hall.timezone, now)
    days, next_from = _days(session, found, hall, first=earliest if first is None else max(earliest, first), now=now)
    closed = closures.over(session, hall.id, found.id, earliest)
    return PublicItem(
        **views.card_fields(found, hall, category),
        **views.detail_fields(found),
        days=days,
        next_from=next_from,
        closures=[views.public_closure(closure) for closure in closed[: closures.MOST_SHOWN]],
    )


def _days(
    session: Session, item: Item, hall: Hall, *, first: date, now: datetime
) -> tuple[list[PublicDay], date | None]:
    is_open = (Slot.item_id == item.id, Slot.date >= first, Slot.is_open)
    found = session.scalars(select(Slot.date).where(*is_open).distinct().order_by(Slot.date).limit(MOST_DAYS + 1)).all()
    if not found:
        return [], None
    shown = found[:MOST_DAYS]
    slots = session.execute(
        select(*views.PUBLIC_SLOT, Day.note)
        .outerjoin(Day, (Day.item_id == Slot.item_id) & (Day.date == Slot.date))
        .where(*is_open, Slot.date <= shown[-1])
        .order_by(Slot.date, Slot.start)
    ).all()
    rules, zone = Rules.model_validate(item.rules), ZoneInfo(hall.timezone)
    takes_bookings, lets_wait = policy.takes_bookings(item.status, hall.status), views.form_lets_wait(item)
    of_date: defaultdict[date, list[PublicSlot]] = defaultdict(list)
    notes: dict[date, str] = {}
    for slot in slots:
        shown_slot = views.public_slot(slot, rules, zone, is_open=takes_bookings, form_lets_wait=lets_wait, now=now)
        of_date[slot.date].append(shown_slot)
        notes[slot.date] = slot.note or ""
    days = [PublicDay(date=day, note=notes[day], slots=of_date[day]) for day in of_date]
    return days, found[MOST_DAYS] if len(found) > MOST_DAYS else None


_ITEM_ORDER = [Key(Item.order, int), Key(Item.id, "id", descending=True)]


_ROW: tuple[Any, ...] = (Item, Hall, Category)


def _visible_items() -> Select[Any]:
    return (
        select(*_ROW)
        .join(Hall, Hall.id == Item.hall_id)
        .outerjoin(Category, Category.id == Item.category_id)
        .where(Item.status.in_(policy.VISIBLE_ITEM), Hall.status == HallStatus.OPEN)
    )
