"""Announcements: news from the operator to everybody, or to the visitors of one hall."""

from datetime import datetime
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Select, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from libs.common import etags, pages
from libs.common.errors import NotFound, Stale
from libs.common.ids import new_id
from libs.contracts import audit
from libs.contracts.principals import Role, RoleForbids, Staff
from services.notify import copies, news, webhook_events
from services.notify.errors import AnnouncementTold
from services.notify.models import Announcement
from services.notify.news import PUBLISHED

SHOWN_FIRST = (
    pages.Key(Announcement.order, int),
    pages.Key(Announcement.publish_at, datetime, descending=True),
    pages.Key(Announcement.id, "id", descending=True),
)
NEWEST_FIRST = (pages.Key(Announcement.id, "id", descending=True),)
EDITABLE = ("title", "summary", "content", "status", "order", "publish_at", "tell")


# --- what everybody sees ---


def page_of(
    session: Session, hall_id: str | None, *, now: datetime, limit: int, cursor: str | None
) -> tuple[list[Announcement], str | None]:
    """Return a page of what is published for everybody and for this hall, in the operator's order, then newest."""
    audience: ColumnElement[bool] = Announcement.hall_id.is_(None)
    if hall_id is not None:
        audience = or_(audience, Announcement.hall_id == hall_id)
    return pages.fetch(session, _published(now).where(audience), keys=SHOWN_FIRST, limit=limit, cursor=cursor)


def published(session: Session, announcement_id: str, *, now: datetime) -> Announcement:
    """Return an announcement that is out, or raise NotFound."""
    found: Announcement | None = session.scalars(_published(now).where(Announcement.id == announcement_id)).first()
    if found is None:
        raise NotFound
    return found


def _published(now: datetime) -> Select[Any]:
    return select(Announcement).where(*news.is_out(now))


# --- what staff do ---


def staff_page_of(
    session: Session,
    staff: Staff,
    *,
    hall_id: str | None,
    status: str | None,
    q: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[Announcement], str | None]:
    """Return a page of all announcements within the scope of the account, newest first."""
    query = select(Announcement).where(staff.sees(Announcement.hall_id))
    if hall_id is not None:
        query = query.where(Announcement.hall_id == hall_id)
    if status is not None:
        query = query.where(Announcement.status == status)
    if q:
        query = query.where(func.lower(Announcement.title).contains(q.lower(), autoescape=True))
    return pages.fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def seen(session: Session, staff: Staff, announcement_id: str) -> Announcement:
    """Return an announcement within the scope of the account, or raise NotFound."""
    found: Announcement | None = session.scalars(_in_scope(staff, announcement_id)).first()
    if found is None:
        raise NotFound
    return found


def create(
    session: Session, staff: Staff, hall_id: str | None, values: dict[str, Any], *, now: datetime
) -> Announcement:
    """Write an announcement; one to everybody takes a super admin, one of a foreign hall, or of none, is NotFound."""
    if hall_id is not None:
        staff.require_hall(hall_id)
        copies.require_hall(session, hall_id)
    elif staff.role != Role.SUPER_ADMIN:
        raise RoleForbids(role=staff.role)
    complete = _dated(values, now=now)
    made = session.scalars(
        insert(Announcement)
        .values(id=new_id(), hall_id=hall_id, created_at=now, changed_at=now, version=1, **complete)
        .returning(Announcement)
    ).one()
    _audit(session, staff, "announcement.created", made, after=_plain(complete))
    _tell_webhooks(session, made, now=now)
    return made


def edit(
    session: Session,
    staff: Staff,
    announcement_id: str,
    values: dict[str, Any],
    *,
    if_match: str | None,
    now: datetime,
) -> Announcement:
    """Change what differs. Raises Stale where the caller names tags of which none is the present one.

    Raises AnnouncementTold for other readers than those who are told of it already.
    """
    present = _locked(session, staff, announcement_id, if_match)
    wanted = _dated({name: getattr(present, name) for name in EDITABLE} | values, now=now)
    differing = {name: value for name, value in wanted.items() if value != getattr(present, name)}
    if not differing:
        return present
    if "tell" in differing and present.readers is not None:
        raise AnnouncementTold
    before = {name: getattr(present, name) for name in differing}
    changed = session.scalars(
        update(Announcement)
        .where(Announcement.id == announcement_id)
        .values(changed_at=now, version=Announcement.version + 1, **differing)
        .returning(Announcement),
        execution_options={"populate_existing": True},
    ).one()
    _audit(session, staff, "announcement.changed", changed, before=_plain(before), after=_plain(differing))
    _tell_webhooks(session, changed, now=now)
    return changed


def remove(session: Session, staff: Staff, announcement_id: str, *, if_match: str | None) -> None:
    """Delete an announcement for good; the audit trail keeps what it said."""
    present = _locked(session, staff, announcement_id, if_match)
    if present.is_told:
        webhook_events.withdrawn(session, present)
    session.execute(delete(Announcement).where(Announcement.id == announcement_id))
    before = {name: getattr(present, name) for name in EDITABLE}
    _audit(session, staff, "announcement.deleted", present, before=_plain(before))


def come_out(session: Session, *, now: datetime) -> bool:
    """Tell webhooks of one of the announcements whose time has come; False where there is none of which that is open."""
    query = _published(now).where(Announcement.is_told.is_(False)).order_by(Announcement.id).limit(1)
    found: Announcement | None = session.scalars(query.with_for_update(skip_locked=True)).first()
    if found is not None:
        _tell_webhooks(session, found, now=now)
    return found is not None


def _tell_webhooks(session: Session, announcement: Announcement, *, now: datetime) -> None:
    """Tell webhooks what an announcement that is out says now, or that one which was out is so no more."""
    is_out = announcement.status == PUBLISHED and announcement.publish_at is not None and announcement.publish_at <= now
    if is_out:
        webhook_events.published(session, announcement)
    elif announcement.is_told:
        webhook_events.withdrawn(session, announcement)
    announcement.is_told = is_out


def _in_scope(staff: Staff, announcement_id: str) -> Select[Any]:
    return select(Announcement).where(Announcement.id == announcement_id, staff.sees(Announcement.hall_id))


def _locked(session: Session, staff: Staff, announcement_id: str, if_match: str | None) -> Announcement:
    present: Announcement | None = session.scalars(_in_scope(staff, announcement_id).with_for_update()).first()
    if present is None:
        raise NotFound
    if if_match is not None and not etags.matches(if_match, etags.of(present)):
        raise Stale
    return present


def _dated(values: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """What is published without a date is published now."""
    if values["status"] == PUBLISHED and values["publish_at"] is None:
        return values | {"publish_at": now}
    return values


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _audit(
    session: Session, staff: Staff, action: str, announcement: Announcement, **details: Unpack[audit.Details]
) -> None:
    audit.record(
        session,
        staff,
        action,
        object_type="announcement",
        object_id=announcement.id,
        hall_id=announcement.hall_id,
        **details,
    )
