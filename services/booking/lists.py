"""Lists of joins: a user's own, and those that staff look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, true
from sqlalchemy.orm import Session, undefer

from libs.common.pages import Key, fetch
from libs.contracts.booking import JoinStatus
from services.booking import findables, standings
from services.booking.findables import Sought
from services.booking.models import Hall, Item, Join, Slot, User


class MyFilter(StrEnum):
    ALL = "all"
    USABLE = "usable"
    CHECKED_IN = "checked_in"
    MISSED = "missed"
    BOOKED = "booked"
    CANCELLED = "cancelled"


def _condition(chosen: MyFilter, now: datetime) -> ColumnElement[bool]:
    booked = Join.status == JoinStatus.BOOKED
    not_here = and_(booked, Join.checked_in_at.is_(None))
    return {
        MyFilter.ALL: true(),
        MyFilter.USABLE: and_(booked, Slot.ends_at > now),
        MyFilter.CHECKED_IN: Join.checked_in_at.is_not(None),
        MyFilter.MISSED: and_(not_here, ~Join.excused, Slot.ends_at <= now),
        MyFilter.BOOKED: booked,
        MyFilter.CANCELLED: Join.status.in_([JoinStatus.CANCELLED, JoinStatus.REVOKED]),
    }[chosen]


def _with_places(*more: Any) -> Select[*tuple[Any, ...]]:
    return (
        select(Join, Slot, Item, Hall, *more)
        .join(Slot, Slot.id == Join.slot_id)
        .join(Item, Item.id == Join.item_id)
        .join(Hall, Hall.id == Join.hall_id)
    )


def mine(
    session: Session,
    user_id: str,
    *,
    chosen: MyFilter,
    q: str | None,
    day: date | None,
    now: datetime,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Any], str | None]:
    """Return a page of the user's (join, slot, item, hall): newest first, those of one day by their start."""
    query = _with_places().where(Join.user_id == user_id).where(_condition(chosen, now))
    if q:
        query = query.where(Item.title.icontains(q, autoescape=True))
    if day is None:
        keys = [Key(Join.id, "id", descending=True)]
    else:
        query = query.where(Slot.date == day)
        keys = [Key(Slot.starts_at, datetime), Key(Join.id, "id")]
    return fetch(session, query, keys=keys, limit=limit, cursor=cursor)


def all_of_user(session: Session, user_id: str) -> Sequence[Any]:
    """Return every (join, slot, item, hall) of the user, newest first."""
    return session.execute(_with_places().where(Join.user_id == user_id).order_by(Join.id.desc())).all()


NEWEST_FIRST = (Key(Join.id, "id", descending=True),)


@dataclass(frozen=True)
class StaffQuery:
    """What staff look for; None leaves a question open. `q` is part of a title, or a whole code; of `statuses` any.

    `missed` is asked of the instant `now`.
    """

    now: datetime
    hall_id: str | None = None
    item_id: str | None = None
    slot_id: str | None = None
    user_id: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    statuses: Sequence[JoinStatus] | None = None
    checked_in: bool | None = None
    missed: bool | None = None
    person: Sought | None = None
    q: str | None = None


def of_staff(
    session: Session, scope: ColumnElement[bool], wanted: StaffQuery, *, limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    """Return a page of (join, slot, item, hall, user) within the scope, newest first."""
    query = matching(_to_staff().where(scope), wanted)
    return fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def _to_staff() -> Select[*tuple[Any, ...]]:
    return _with_places(User).join(User, User.id == Join.user_id)


def matching(query: Select[*tuple[Any, ...]], wanted: StaffQuery) -> Select[*tuple[Any, ...]]:
    """Return a query of joins with their slots and items, bounded by what staff look for."""
    exact = (
        (Join.hall_id, wanted.hall_id),
        (Join.item_id, wanted.item_id),
        (Join.slot_id, wanted.slot_id),
        (Join.user_id, wanted.user_id),
    )
    for column, value in exact:
        if value is not None:
            query = query.where(column == value)
    if wanted.statuses:
        query = query.where(Join.status.in_(wanted.statuses))
    if wanted.first_day is not None:
        query = query.where(Slot.date >= wanted.first_day)
    if wanted.last_day is not None:
        query = query.where(Slot.date <= wanted.last_day)
    if wanted.checked_in is not None:
        query = query.where(Join.checked_in_at.is_not(None) if wanted.checked_in else Join.checked_in_at.is_(None))
    if wanted.missed is not None:
        missed = _condition(MyFilter.MISSED, wanted.now)
        query = query.where(missed if wanted.missed else ~missed)
    if wanted.person is not None:
        query = query.where(findables.is_of(wanted.person))
    if wanted.q:
        query = query.where(Item.title.icontains(wanted.q, autoescape=True) | (Join.code == wanted.q))
    return query


def counts_of_user(session: Session, scope: ColumnElement[bool], user_id: str, *, now: datetime) -> dict[str, int]:
    """Count the user's joins within the scope by what became of them; those that are booked hold the next two."""
    questions = {
        "booked": MyFilter.BOOKED,
        "checked_in": MyFilter.CHECKED_IN,
        "missed": MyFilter.MISSED,
    }
    counted = {name: _condition(chosen, now) for name, chosen in questions.items()}
    counted |= {"cancelled": Join.status == JoinStatus.CANCELLED, "revoked": Join.status == JoinStatus.REVOKED}
    query = select(*(func.count().filter(condition).label(name) for name, condition in counted.items()))
    row = session.execute(query.select_from(Join).join(Slot).where(Join.user_id == user_id).where(scope)).one()
    return dict(row._mapping)


def missed_visits(session: Session, user_id: str, hall_id: str, *, at_most: int) -> list[list[Any]]:
    """Return the (join, slot, item, hall) of the latest visits to the hall that the user missed, by visit, newest first."""
    query = (
        _with_places()
        .where(Join.user_id == user_id, Join.hall_id == hall_id, standings.MISSED)
        .order_by(Slot.starts_at.desc(), Join.party_id, Join.slot_id, Join.id)
        .limit(at_most)
    )
    by_visit = groupby(session.execute(query), key=lambda row: (row[0].party_id, row[0].slot_id))
    return [list(rows) for _, rows in by_visit]


def one_of_mine(session: Session, user_id: str, join_id: str) -> Any:
    """Return the user's (join, slot, item, hall), or None."""
    query = _with_places().where(Join.id == join_id).where(Join.user_id == user_id)
    return session.execute(query.options(undefer(Join.made_with))).first()


def one_of_staff(session: Session, scope: ColumnElement[bool], condition: ColumnElement[bool]) -> Any:
    """Return the (join, slot, item, hall, user) that meets the condition within the scope, or None."""
    return session.execute(_to_staff().where(scope).where(condition).options(undefer(Join.made_with))).first()


def last_of_item(session: Session, user_id: str, item_id: str) -> Join | None:
    """Return the first attendee's join of the user's latest booking for this item."""
    latest = (
        select(Join.party_id).where(Join.user_id == user_id, Join.item_id == item_id).order_by(Join.id.desc()).limit(1)
    )
    query = select(Join).where(Join.party_id == latest.scalar_subquery()).order_by(Join.id).limit(1)
    return session.scalars(query.options(undefer(Join.made_with))).first()
