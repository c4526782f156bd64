"""What staff can do in notify: edit announcements, look at stats."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from libs.common import etags
from libs.common.errors import check_range
from libs.common.etags import IfMatch
from libs.common.inputs import Date
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, Tx
from libs.contracts.principals import HallStaff
from services.notify import announcements, reports
from services.notify.models import Announcement
from services.notify.schemas import (
    AnnouncementChange,
    AnnouncementStatus,
    NewAnnouncement,
    SearchText,
    StaffAnnouncement,
    StatLine,
    StatPage,
    Sums,
)

router = APIRouter(prefix="/staff")


@router.get("/announcements")
def list_announcements(
    session: Tx,
    staff: HallStaff,
    hall_id: Id | None = None,
    status: AnnouncementStatus | None = None,
    q: SearchText | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[StaffAnnouncement]:
    """Every announcement of one's halls (super admin: all of them), drafts too, newest first."""
    found, next_cursor = announcements.staff_page_of(
        session, staff, hall_id=hall_id, status=status, q=q, limit=limit, cursor=cursor
    )
    return Page(items=[_shown(announcement) for announcement in found], next_cursor=next_cursor)


@router.post("/announcements", status_code=201)
def create_announcement(
    session: Tx, staff: HallStaff, now: Now, body: NewAnnouncement, response: Response
) -> StaffAnnouncement:
    """Write an announcement to everybody or to the visitors of a hall; with `tell`, a notice goes to some of them."""
    made = announcements.create(session, staff, body.hall_id, body.model_dump(exclude={"hall_id"}), now=now)
    return _answer(made, response)


@router.get("/announcements/{announcement_id}")
def get_announcement(session: Tx, staff: HallStaff, announcement_id: Id, response: Response) -> StaffAnnouncement:
    return _answer(announcements.seen(session, staff, announcement_id), response)


@router.patch("/announcements/{announcement_id}")
def edit_announcement(
    session: Tx,
    staff: HallStaff,
    now: Now,
    announcement_id: Id,
    body: AnnouncementChange,
    response: Response,
    if_match: IfMatch = None,
) -> StaffAnnouncement:
    changed = announcements.edit(
        session,
        staff,
        announcement_id,
        body.model_dump(include=body.model_fields_set),
        if_match=if_match,
        now=now,
    )
    return _answer(changed, response)


@router.delete("/announcements/{announcement_id}", status_code=204)
def delete_announcement(session: Tx, staff: HallStaff, announcement_id: Id, if_match: IfMatch = None) -> None:
    announcements.remove(session, staff, announcement_id, if_match=if_match)


def _wanted(
    hall_id: Id | None = None,
    item_id: Id | None = None,
    first_day: Annotated[Date | None, Query(alias="from", description="of the slot, in the hall's zone")] = None,
    last_day: Annotated[Date | None, Query(alias="to", description="this day included")] = None,
) -> reports.Filter:
    """The query of the list of stats, gathered once."""
    check_range(first_day, last_day)
    return reports.Filter(hall_id=hall_id, item_id=item_id, first_day=first_day, last_day=last_day)


Wanted = Annotated[reports.Filter, Depends(_wanted)]


@router.get("/stats")
def list_stats(
    session: Tx,
    staff: HallStaff,
    wanted: Wanted,
    group: reports.Group = reports.Group.SLOT,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> StatPage:
    """How many joins are in which state, by slot, item, hall or day; `total` sums up all pages."""
    found, next_cursor = reports.grouped(session, staff, wanted, group, limit=limit, cursor=cursor)
    return StatPage(
        items=[StatLine(**row._mapping) for row in found],
        next_cursor=next_cursor,
        total=Sums(**reports.total(session, staff, wanted)._mapping),
    )


def _answer(announcement: Announcement, response: Response) -> StaffAnnouncement:
    response.headers["ETag"] = etags.of(announcement)
    return _shown(announcement)


def _shown(announcement: Announcement) -> StaffAnnouncement:
    return StaffAnnouncement.model_validate(announcement, from_attributes=True)
