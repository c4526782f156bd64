"""Readers: the users who are told of an announcement by a notice, each once, some at a time."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from libs.common.db import Uuid
from libs.common.ids import new_id
from services.notify import news, notices
from services.notify.models import Announcement, ErasedUser, JoinRecord, Reader
from services.notify.texts import NoticeKind


def list_due(session: Session, *, now: datetime) -> bool:
    """Find out whom one of the announcements that are out is told to; False where there is none of which that is open."""
    announcement = session.scalars(
        select(Announcement)
        .where(*news.is_out(now), Announcement.tell.is_not(None), Announcement.readers.is_(None))
        .order_by(Announcement.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if announcement is None:
        return False
    found = (
        select(literal(announcement.id, Uuid), JoinRecord.user_id, JoinRecord.hall_id)
        .where(*_meant(announcement, now=now))
        .ext(distinct_on(JoinRecord.user_id))
        .order_by(JoinRecord.user_id, JoinRecord.starts_at.desc(), JoinRecord.join_id)
    )
    session.execute(insert(Reader).from_select(["announcement_id", "user_id", "hall_id"], found))
    announcement.readers = session.scalar(select(func.count()).where(Reader.announcement_id == announcement.id))
    return True


def tell(session: Session, *, now: datetime, at_most: int) -> int:
    """Tell some of the readers that wait; return how many. Any number of processes may do this beside each other."""
    listed = session.execute(
        select(Reader.announcement_id, Reader.user_id, Reader.hall_id.label("visited"), Announcement.hall_id)
        .join(Announcement, Announcement.id == Reader.announcement_id)
        .where(*news.is_out(now))
        .order_by(Reader.announcement_id, Reader.user_id)
        .limit(at_most)
        .with_for_update(of=Reader, skip_locked=True)
    ).all()
    facts = news.said(session, {row.announcement_id for row in listed}, now=now)
    waiting = [row for row in listed if row.announcement_id in facts]  # the others were taken back this very moment
    if not waiting:
        return 0
    notices.write(
        session,
        [
            {
                "id": new_id(),
                "user_id": row.user_id,
                "hall_id": row.hall_id,
                "kind": NoticeKind.ANNOUNCEMENT.value,
                "action_id": row.announcement_id,
                "join_id": None,
                "party_id": None,
                "people": 0,
                "params": facts[row.announcement_id],
                "happened_at": now,
            }
            for row in waiting
        ],
        visited={row.user_id: row.visited for row in waiting},
    )
    key = tuple_(Reader.announcement_id, Reader.user_id)
    session.execute(delete(Reader).where(key.in_([(row.announcement_id, row.user_id) for row in waiting])))
    return len(waiting)


def erase(session: Session, user_id: str) -> None:
    """Forget that the user was to be told of announcements."""
    session.execute(delete(Reader).where(Reader.user_id == user_id))


def _meant(announcement: Announcement, *, now: datetime) -> list[ColumnElement[bool]]:
    """Return the conditions on joins whose users an announcement is told to."""
    wanted: dict[str, Any] = announcement.tell or {}
    reasons: list[ColumnElement[bool]] = []
    if wanted["upcoming"]:
        reasons.append((JoinRecord.status == "booked") & (JoinRecord.starts_at > now))
    if wanted["visited_days"] is not None:
        reasons.append(JoinRecord.checked_in_at > now - timedelta(days=wanted["visited_days"]))
    in_hall = [] if announcement.hall_id is None else [JoinRecord.hall_id == announcement.hall_id]
    is_here = JoinRecord.user_id.not_in(select(ErasedUser.user_id))
    return [*in_hall, or_(*reasons), is_here]
