"""Notices: what users are told about their joins, each action once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, case, cast, delete, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import pages
from libs.common.clock import utcnow
from libs.common.db import Uuid
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.contracts.booking import JoinEvent, JoinMissed, JoinMoved, WaitEnded, WaitEvent, WaitOffered
from services.notify import deliveries, news, quiet_hours, statements, ways
from services.notify.channel import Told
from services.notify.models import Announcement, ErasedUser, Notice
from services.notify.texts import NoticeKind

NEWEST_FIRST = (
    pages.Key(Notice.happened_at, datetime, descending=True),
    pages.Key(Notice.id, "id", descending=True),
)
_ERASURES = func.hashtextextended("notify.erasures", 0)


def tell(session: Session, told: Iterable[tuple[NoticeKind, JoinEvent | WaitEvent, Message]]) -> None:
    """Write the notices of actions, unless another join of the same action has written it.

    A late event is told too, under the time at which it happened. A replayed one is not: it was told then. Nor is anything
    to users who were erased.
    """
    rows = [
        {
            "id": new_id(),
            "user_id": fact.user_id,
            "hall_id": fact.hall_id,
            "kind": kind.value,
            **_subject(fact),
            "people": fact.people,
            "params": _params(fact),
            "happened_at": message.time,
        }
        for kind, fact, message in told
        if not message.replayed
    ]
    write(session, rows)


def write(
    session: Session, rows: Sequence[dict[str, Any]], *, visited: Mapping[str, str | None] = MappingProxyType({})
) -> None:
    """Write notices, each once for its user, kind and action, and none to users who were erased.

    Where they are of no hall, users are left in peace by the quiet hours of the one that they have `visited`.
    """
    if not rows:
        return
    # Nobody is erased between our look and our commit. One lock for all users: one slot can have more than there are locks.
    session.execute(select(func.pg_advisory_xact_lock_shared(_ERASURES)))
    user_ids = {row["user_id"] for row in rows}
    gone = set(session.scalars(select(ErasedUser.user_id).where(ErasedUser.user_id.in_(user_ids))))
    # In one order, so that two who write about the same do not wait for each other.
    fresh = sorted(
        (row for row in rows if row["user_id"] not in gone),
        key=lambda row: (row["user_id"], row["kind"], row["action_id"]),
    )
    if fresh:
        written = set(statements.carry_out(session, statements.ADD_NOTICES, fresh).scalars())
        told = [_told(row) for row in fresh if row["id"] in written]
        now = utcnow()
        wanted = quiet_hours.respected(session, ways.wanted(session, told), visited, now=now)
        deliveries.queue(session, wanted, now=now)


def _told(row: dict[str, Any]) -> Told:
    return Told(**{field.name: row[field.name] for field in fields(Told)})


def erase(session: Session, user_id: str) -> None:
    """Delete all that the user was told, and tell them nothing any more.

    Waits for everybody who is just writing notices: rows that those may hold are locked before, not after this.
    """
    session.execute(select(func.pg_advisory_xact_lock(_ERASURES)))
    session.execute(insert(ErasedUser).values(user_id=user_id).on_conflict_do_nothing())
    session.execute(delete(Notice).where(Notice.user_id == user_id))


def page_of(
    session: Session, user_id: str, *, unread_only: bool, now: datetime, limit: int, cursor: str | None
) -> tuple[list[Notice], str | None]:
    """Return a page of the user's notices, newest first, and the cursor of the next; without news that was taken back."""
    query = select(Notice).where(Notice.user_id == user_id, _is_shown(now))
    if unread_only:
        query = query.where(Notice.read_at.is_(None))
    return pages.fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def unread(session: Session, user_id: str, *, now: datetime) -> int:
    """Return how many notices the user has not read."""
    return session.scalar(select(func.count()).where(*_unread_of(user_id, now))) or 0


def mark_read(session: Session, user_id: str, ids: list[str] | None, *, now: datetime) -> None:
    """Mark these of the user's notices as read, or all (None). Ids that are not the user's change nothing."""
    statement = update(Notice).where(*_unread_of(user_id, now))
    if ids is not None:
        statement = statement.where(Notice.id.in_(ids))
    session.execute(statement.values(read_at=now))


def _unread_of(user_id: str, now: datetime) -> tuple[Any, ...]:
    return (Notice.user_id == user_id, Notice.read_at.is_(None), _is_shown(now))


def _is_shown(now: datetime) -> ColumnElement[bool]:
    # The id of an action is that of an announcement in notices of news alone: CASE, which reads it nowhere else.
    is_out = select(Announcement.id).where(Announcement.id == cast(Notice.action_id, Uuid), *news.is_out(now)).exists()
    return case((Notice.kind == NoticeKind.ANNOUNCEMENT, is_out), else_=true())


def when(starts_at: datetime, ends_at: datetime, zone: str) -> dict[str, str]:
    """Return when a slot is, as notices have it: on the hall's clock."""
    start, end = (instant.astimezone(ZoneInfo(zone)) for instant in (starts_at, ends_at))
    return {"date": start.date().isoformat(), "start": start.strftime("%H:%M"), "end": end.strftime("%H:%M")}


def _subject(fact: JoinEvent | WaitEvent) -> dict[str, str | None]:
    """What the notice is about. A wait has neither joins nor party."""
    if isinstance(fact, WaitEvent):
        return {"action_id": fact.wait_id, "join_id": None, "party_id": None}
    return {"action_id": fact.action_id, "join_id": fact.join_id, "party_id": fact.party_id}


def _params(fact: JoinEvent | WaitEvent) -> dict[str, Any]:
    """The facts of a notice as plain values; times as they are on the hall's clock."""
    params = {
        "hall_name": fact.hall_name,
        "item_title": fact.item_title,
        "date": fact.date.isoformat(),
        "start": fact.start.strftime("%H:%M"),
        "end": fact.end.strftime("%H:%M"),
        "reason": fact.reason,
    }
    if isinstance(fact, JoinMoved):
        left = fact.left_starts_at.astimezone(ZoneInfo(fact.timezone))
        params |= {"left_date": left.date().isoformat(), "left_start": left.strftime("%H:%M")}
    if isinstance(fact, JoinMissed) and fact.cooling_off_until is not None:
        params["again_date"] = fact.cooling_off_until.astimezone(ZoneInfo(fact.timezone)).date().isoformat()
    if isinstance(fact, WaitOffered):
        params["until"] = fact.offered_until.astimezone(ZoneInfo(fact.timezone)).isoformat()
    if isinstance(fact, WaitEnded):
        params["outcome"] = fact.outcome.value
    return params
