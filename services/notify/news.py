"""News: what announcements that are out say, to everybody who is told of them by a notice."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from services.notify.models import Announcement, Hall, Notice
from services.notify.texts import NoticeKind

PUBLISHED = "published"


def is_out(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on announcements that are shown to users."""
    return (Announcement.status == PUBLISHED, Announcement.publish_at <= now)


def said(session: Session, announcement_ids: Iterable[str], *, now: datetime) -> dict[str, dict[str, Any]]:
    """Return the facts of those announcements that are out, by their ids."""
    rows = session.execute(
        select(Announcement.id, Announcement.title, Announcement.summary, func.coalesce(Hall.name, ""))
        .outerjoin(Hall, Hall.id == Announcement.hall_id)
        .where(Announcement.id.in_(announcement_ids), *is_out(now))
    )
    return {
        announcement_id: {
            "announcement_id": announcement_id,
            "title": title,
            "summary": summary,
            "hall_name": hall_name,
        }
        for announcement_id, title, summary, hall_name in rows
    }


def facts(session: Session, notices: Iterable[Notice], *, now: datetime) -> dict[str, dict[str, Any]]:
    """Return the facts of notices, by their ids: those of an announcement as it is now, the others as they were told."""
    notices = list(notices)
    told = {notice.action_id for notice in notices if notice.kind == NoticeKind.ANNOUNCEMENT}
    news = said(session, told, now=now) if told else {}
    return {notice.id: notice.params | news.get(notice.action_id, {}) for notice in notices}
