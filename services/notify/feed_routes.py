"""What an export asks of notify: the stats in large pages, within the scope of the list."""

from typing import Annotated

from fastapi import APIRouter, Query

from libs.common.inputs import Date
from libs.common.pages import CursorText, Page
from libs.common.web import Id, Tx
from libs.contracts.principals import HallStaff
from services.notify import reports
from services.notify.schemas import StatLine

router = APIRouter(prefix="/staff/feed", tags=["feed"])


@router.get("/stats")
def feed_stats(
    session: Tx,
    staff: HallStaff,
    hall_id: Id | None = None,
    item_id: Id | None = None,
    first_day: Annotated[Date | None, Query(alias="from", description="of the slot, in the hall's zone")] = None,
    last_day: Annotated[Date | None, Query(alias="to", description="this day included")] = None,
    group: reports.Group = reports.Group.SLOT,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many at most")] = 500,
    cursor: CursorText = None,
) -> Page[StatLine]:
    """The lines that `/staff/stats` shows under the same filter, in the same order."""
    wanted = reports.Filter(hall_id=hall_id, item_id=item_id, first_day=first_day, last_day=last_day)
    found, next_cursor = reports.grouped(session, staff, wanted, group, limit=limit, cursor=cursor)
    return Page(items=[StatLine(**row._mapping) for row in found], next_cursor=next_cursor)
