"""What users of notify can ask for: announcements for everybody, one's own notices."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from libs.common.errors import Language
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, ReadersLanguage, RuntimeDep, Tx
from libs.contracts.principals import CurrentUser
from services.notify import announcements, news, notices, templates
from services.notify.models import Announcement, Notice
from services.notify.schemas import (
    AnnouncementLine,
    AnnouncementOut,
    MarkRead,
    NoticeOut,
    NoticePage,
    Unread,
)
from services.notify.templates import Book
from services.notify.texts import NoticeKind

router = APIRouter()


@router.get("/notices")
def list_notices(
    session: Tx,
    user: CurrentUser,
    now: Now,
    language: ReadersLanguage,
    response: Response,
    unread: Annotated[bool, Query(description="only those not read yet")] = False,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> NoticePage:
    """The user's own notices, newest first."""
    response.headers["Content-Language"] = "zh-CN" if language == "zh" else "en"
    response.headers["Vary"] = "Accept-Language"
    found, next_cursor = notices.page_of(session, user.id, unread_only=unread, now=now, limit=limit, cursor=cursor)
    facts = news.facts(session, found, now=now)
    book = templates.book(session, {notice.hall_id for notice in found})
    return NoticePage(
        items=[_notice(notice, facts[notice.id], book, language) for notice in found],
        next_cursor=next_cursor,
        unread=notices.unread(session, user.id, now=now),
    )


@router.post("/notices/read")
def read_notices(session: Tx, user: CurrentUser, runtime: RuntimeDep, now: Now, body: MarkRead) -> Unread:
    """Mark notices as read; ids that are not the user's are passed over in silence."""
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)
    notices.mark_read(session, user.id, body.ids, now=now)
    return Unread(unread=notices.unread(session, user.id, now=now))


@router.get("/announcements")
def list_announcements(
    session: Tx, now: Now, hall_id: Id | None = None, limit: Limit = 20, cursor: CursorText = None
) -> Page[AnnouncementLine]:
    """What is published for everybody and, with `hall_id`, for that hall."""
    found, next_cursor = announcements.page_of(session, hall_id, now=now, limit=limit, cursor=cursor)
    return Page(items=[_line(announcement) for announcement in found], next_cursor=next_cursor)


@router.get("/announcements/{announcement_id}")
def get_announcement(session: Tx, now: Now, announcement_id: Id) -> AnnouncementOut:
    found = announcements.published(session, announcement_id, now=now)
    return AnnouncementOut(**_line(found).model_dump(), content=found.content)


def _notice(notice: Notice, facts: dict[str, Any], book: Book, language: Language) -> NoticeOut:
    kind = NoticeKind(notice.kind)
    title, body = book.render(kind, notice.hall_id, facts, people=notice.people, language=language)
    return NoticeOut(
        id=notice.id,
        kind=kind,
        title=title,
        body=body,
        join_id=notice.join_id,
        party_id=notice.party_id,
        announcement_id=facts.get("announcement_id"),
        people=notice.people,
        created_at=notice.happened_at,
        read_at=notice.read_at,
    )


def _line(announcement: Announcement) -> AnnouncementLine:
    return AnnouncementLine(
        id=announcement.id,
        hall_id=announcement.hall_id,
        title=announcement.title,
        summary=announcement.summary,
        order=announcement.order,
        published_at=announcement.publish_at or announcement.created_at,
    )
