"""What an export asks of notify: the stats in large pages, within the scope of the list."""

from typing import Annotated

from fastapi import APIRouter, Query

from libs.common.pages import CursorText, Page
from libs.common.web import Tx
from libs.contracts.principals import HallStaff
from services.notify import reports
from services.notify.schemas import StatLine
from services.notify.staff_routes import Wanted

router = APIRouter(prefix="/staff/feed", tags=["feed"])


@router.get("/stats")
def feed_stats(
    session: Tx,
    staff: HallStaff,
    wanted: Wanted,
    group: reports.Group = reports.Group.SLOT,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many at most")] = 500,
    cursor: CursorText = None,
) -> Page[StatLine]:
    """The lines that `/staff/stats` shows under the same filter, in the same order."""
    found, next_cursor = reports.grouped(session, staff, wanted, group, limit=limit, cursor=cursor)
    return Page(items=[StatLine(**row._mapping) for row in found], next_cursor=next_cursor)
