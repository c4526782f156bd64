"""What staff see of figures: dashboards, recounts, and stats as they change."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query

from libs.common.inputs import Date
from libs.common.pages import CursorText, Limit, Page
from libs.common.streams import EventStream
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts.principals import AnyStaff, HallStaff, StaffCredentials
from services.notify import copies, dashboards, recounts
from services.notify.dashboards import Range, Sums, Wanted
from services.notify.figures import (
    DashboardOut,
    DayFigures,
    Figures,
    HallFigures,
    HourFigures,
    ItemFigures,
    Lead,
    NewRecount,
    RecountOut,
    States,
)
from services.notify.halls import KnownHall
from services.notify.models import Recount

router = APIRouter(prefix="/staff", tags=["figures"])


@router.get("/dashboard")
def get_dashboard(
    session: Tx,
    staff: HallStaff,
    first_day: Annotated[Date, Query(alias="from", description="of the slot, in the hall's zone")],
    last_day: Annotated[Date, Query(alias="to", description="this day included, at most 366 days")],
    hall_id: Id | None = None,
    item_id: Id | None = None,
) -> DashboardOut:
    """The figures of a range of days, beside those of as many days before: in all, by day, hall, item and hour."""
    days = Range.of(first_day, last_day)
    found = dashboards.look(session, staff, Wanted(days, hall_id, item_id))
    return DashboardOut(
        first_day=days.first,
        last_day=days.last,
        total=_figures(found.total),
        before=_figures(found.before),
        days=[DayFigures(day=day, **_with_lead(sums)) for day, sums in found.days],
        halls=[HallFigures(hall_id=hall, **_with_lead(sums)) for hall, sums in found.halls],
        items=[ItemFigures(hall_id=hall, item_id=item, **_with_lead(sums)) for (hall, item), sums in found.items],
        hours=[HourFigures(weekday=weekday, hour=hour, **_states(sums)) for (weekday, hour), sums in found.hours],
    )


@router.get("/live", response_class=EventStream)
async def follow_stats(
    runtime: RuntimeDep,
    staff: AnyStaff,
    credentials: StaffCredentials,
    now: Now,
    hall_id: KnownHall,
    day: Annotated[Date | None, Query(description="default: yesterday to tomorrow by UTC")] = None,
    last_event_id: Annotated[
        str | None, Header(description="of the last event that was seen: what has changed since comes first")
    ] = None,
) -> EventStream:
    """Server-sent events: `snapshot` with the slots of a hall that anybody joined, then `changes` as they happen.

    A slot comes whole, and replaces what was known of it; a snapshot replaces all that was known. The stream ends (`end`, with the reason) with the token or the
    sign-in, or when its time is up: come again with the id of the last event.
    """
    staff.require_hall(hall_id)
    claims = runtime.staff_keys.verify(credentials.credentials if credentials else "", now=now)
    events = runtime.resources.live.listen(
        runtime.db,
        staff,
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        hall_id=hall_id,
        day=day,
        last_id=last_event_id or "",
    )
    return EventStream(events)


@router.post("/recounts", status_code=202)
def ask_for_recount(session: Tx, staff: HallStaff, now: Now, body: NewRecount) -> RecountOut:
    """Have all stats counted again from the record: of a hall, or of all that one may see. Look at it under its id.

    It begins within a quarter of a minute, when those that were asked for before are done.
    """
    halls = None if staff.halls is None else sorted(staff.halls)
    if body.hall_id is not None:
        staff.require_hall(body.hall_id)
        copies.require_hall(session, body.hall_id)
        halls = [body.hall_id]
    return _recount(recounts.ask(session, staff.id, halls, now=now))


@router.get("/recounts")
def list_recounts(session: Tx, staff: HallStaff, limit: Limit = 20, cursor: CursorText = None) -> Page[RecountOut]:
    """Recounts of one's halls and what they found, newest first; a super admin sees those of every night, too."""
    found, next_cursor = recounts.page_of(session, staff, limit=limit, cursor=cursor)
    return Page(items=[_recount(one) for one in found], next_cursor=next_cursor)


@router.get("/recounts/{recount_id}")
def get_recount(session: Tx, staff: HallStaff, recount_id: Id) -> RecountOut:
    return _recount(recounts.seen(session, staff, recount_id))


def _recount(recount: Recount) -> RecountOut:
    return RecountOut.model_validate(recount, from_attributes=True)


def _states(sums: Sums) -> dict[str, Any]:
    return {name: sums[name] for name in States.model_fields if name in sums} | {
        "fill_rate": dashboards.fill_rate(sums),
        "no_show_rate": dashboards.no_show_rate(sums),
    }


def _with_lead(sums: Sums) -> dict[str, Any]:
    return _states(sums) | {"lead_hours": dashboards.average_lead(sums)}


def _figures(sums: Sums) -> Figures:
    return Figures(
        **_with_lead(sums),
        median_lead_hours=dashboards.median_lead(sums),
        leads=[Lead(below_hours=below, booked=booked) for below, booked in dashboards.leads(sums)],
    )
