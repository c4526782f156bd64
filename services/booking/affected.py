"""Whom a change would affect: the people who are booked ahead or wait, slot by slot, and where they could go instead."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, distinct, exists, false, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from libs.common.errors import NotFound
from libs.common.pages import Key, fetch
from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import HallStatus, ItemStatus, Rules, SlotStatus, Window
from libs.contracts.principals import Staff
from services.booking import errors, offers, views
from services.booking.models import Hall, Item, Join, Slot
from services.booking.offers import Offered
from services.booking.schemas import AffectedOut, AffectedSlot, Alternative

MOST_ALTERNATIVES = 3
NEARBY_DAYS = 31


@dataclass(frozen=True)
class Chosen:
    """What is about to change: one slot, an item or a hall; on all days, or between two dates, both included."""

    slot_id: str | None = None
    item_id: str | None = None
    hall_id: str | None = None
    first: date | None = None
    last: date | None = None

    def holds(self, slot: Any) -> ColumnElement[bool]:
        """Return the condition that a slot is one of these."""
        asked: tuple[tuple[object, Callable[[], ColumnElement[bool]]], ...] = (
            (self.slot_id, lambda: slot.id == self.slot_id),
            (self.item_id, lambda: slot.item_id == self.item_id),
            (self.hall_id, lambda: slot.item_id.in_(select(Item.id).where(Item.hall_id == self.hall_id))),
            (self.first, lambda: slot.date >= self.first),
            (self.last, lambda: slot.date <= self.last),
        )
        return and_(true(), *(condition() for value, condition in asked if value is not None))


def by_slot(
    session: Session, staff: Staff, chosen: Chosen, *, now: datetime, limit: int, cursor: str | None
) -> AffectedOut:
    """Return the slots for which people are booked ahead or wait, the next one first, each with the nearest ones that take them instead.

    Raises NotFound where what is chosen is not within the staff's halls. The totals are those of all pages.
    """
    _require(session, staff, chosen)
    ahead = chosen.holds(Slot) & (Slot.ends_at > now) & (Slot.taken + Slot.held + Slot.waiting > 0)
    slots, waiting = session.execute(
        select(func.count(), func.coalesce(func.sum(Slot.held + Slot.waiting), 0)).where(ahead)
    ).one()
    joins, users = session.execute(
        select(func.count(Join.id), func.count(distinct(Join.user_id)))
        .join(Slot, Slot.id == Join.slot_id)
        .where(ahead, Join.status == JoinStatus.BOOKED)
    ).one()
    rows, following = fetch(
        session,
        offers.rows().where(ahead),
        keys=[Key(Slot.starts_at, datetime), Key(Slot.id, "id")],
        limit=limit,
        cursor=cursor,
    )
    found = [Offered(*row) for row in rows]
    people = _people(session, [offered.slot.id for offered in found])
    instead = _alternatives(session, staff, chosen, found, now=now)
    shown = [_shown(offered, people[offered.slot.id], instead[offered.slot.id]) for offered in found]
    return AffectedOut(items=shown, next_cursor=following, slots=slots, joins=joins, users=users, waiting=waiting)


def _require(session: Session, staff: Staff, chosen: Chosen) -> None:
    named = [
        (chosen.slot_id, exists().where(Slot.id == chosen.slot_id, staff.sees(Slot.hall_id))),
        (chosen.item_id, exists().where(Item.id == chosen.item_id, staff.sees(Item.hall_id))),
        (chosen.hall_id, exists().where(Hall.id == chosen.hall_id, staff.sees(Hall.id))),
    ]
    asked = [is_known for value, is_known in named if value is not None]
    if len(asked) != 1:
        raise errors.NotOneChosen
    if not session.scalar(select(asked[0])):
        raise NotFound


@dataclass(frozen=True)
class People:
    """Who is booked in a slot: how many places, of how many users, and how many are here already."""

    joins: int = 0
    users: int = 0
    checked_in: int = 0


def _people(session: Session, slot_ids: Sequence[str]) -> defaultdict[str, People]:
    rows = session.execute(
        select(Join.slot_id, func.count(), func.count(distinct(Join.user_id)), func.count(Join.checked_in_at))
        .where(Join.slot_id.in_(slot_ids), Join.status == JoinStatus.BOOKED)
        .group_by(Join.slot_id)
    )
    return defaultdict(People, {slot_id: People(*counts) for slot_id, *counts in rows})


def _alternatives(
    session: Session, staff: Staff, chosen: Chosen, found: Sequence[Offered], *, now: datetime
) -> defaultdict[str, list[Offered]]:
    """Return for each slot the nearest ones beyond what is chosen that can be booked now, those of its own item first.

    They are of the same item, or of one with the same title in another hall of the staff's.
    """
    there, its_item = aliased(Slot), aliased(Item)
    is_another = there.item_id != Slot.item_id
    how_far = func.abs(func.extract("epoch", there.starts_at - Slot.starts_at))
    nearest = (
        select(there.id, is_another.label("is_another"), how_far.label("how_far"))
        .join(its_item, its_item.id == there.item_id)
        .where(its_item.title == Item.title)
        .where(_bookable(session, staff, there, {offered.item.title for offered in found}, now=now))
        .where(~chosen.holds(there))
        .where(there.date.between(Slot.date - NEARBY_DAYS, Slot.date + NEARBY_DAYS))
        .order_by(is_another, how_far, there.id)
        .limit(MOST_ALTERNATIVES)
        .lateral()
    )
    rows = session.execute(
        select(Slot.id, nearest.c.id)
        .join(Item, Item.id == Slot.item_id)
        .join(nearest, true())
        .where(Slot.id.in_([offered.slot.id for offered in found]))
        .order_by(Slot.id, nearest.c.is_another, nearest.c.how_far, nearest.c.id)
    ).all()
    offered = offers.of_joins(session, {other_id for _, other_id in rows})
    instead: defaultdict[str, list[Offered]] = defaultdict(list)
    for slot_id, other_id in rows:
        instead[slot_id].append(offered[other_id])
    return instead


def _bookable(session: Session, staff: Staff, slot: Any, titles: set[str], *, now: datetime) -> ColumnElement[bool]:
    """Return the condition that a slot of an item with one of these titles can be booked now, as the rules have it."""
    rows = session.execute(
        select(Item.id, Item.rules, Hall.timezone)
        .join(Hall, Hall.id == Item.hall_id)
        .where(Item.title.in_(titles), staff.sees(Item.hall_id))
        .where(Item.status == ItemStatus.OPEN, Hall.status == HallStatus.OPEN)
    )
    of_window: defaultdict[Window, list[str]] = defaultdict(list)
    for item_id, rules, timezone in rows:
        of_window[Rules.model_validate(rules).window(timezone, now=now)].append(item_id)
    within = [slot.item_id.in_(item_ids) & _within(slot, window) for window, item_ids in of_window.items()]
    has_room = slot.capacity.is_(None) | ((slot.taken + slot.held < slot.capacity) & (slot.waiting == 0))
    return and_(slot.status == SlotStatus.OPEN, slot.deleted.is_(False), has_room, or_(false(), *within))


def _within(slot: Any, window: Window) -> ColumnElement[bool]:
    edge = slot.starts_at if window.edge == "start" else slot.ends_at
    return and_(edge > window.after, true() if window.last_day is None else slot.date <= window.last_day)


def _shown(offered: Offered, people: People, instead: list[Offered]) -> AffectedSlot:
    return AffectedSlot(
        slot=views.slot(offered),
        item=views.item(offered),
        hall=views.hall(offered),
        joins=people.joins,
        users=people.users,
        checked_in=people.checked_in,
        waiting=offered.slot.held + offered.slot.waiting,
        alternatives=[
            Alternative(slot=views.slot(other), item=views.item(other), hall=views.hall(other), remaining=other.left)
            for other in instead
        ],
    )
