"""What staff read and edit of time: an item's days, the templates that fill them, special days and closures."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from libs.common import etags
from libs.common.errors import check_range
from libs.common.etags import IfMatch, IfNoneMatch
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts.principals import AnyStaff, HallStaff
from services.catalog import (
    capacities,
    closures,
    days,
    fills,
    halls,
    special_days,
    templates,
    views,
)
from services.catalog.bulk_schemas import CapacitiesIn, CapacitiesOut
from services.catalog.calendar_schemas import CalendarDay, CalendarOut, SpecialDayOut, SpecialDaysIn, SpecialDaysOut
from services.catalog.closure_schemas import ClosureIn, ClosureOut, ClosurePatch
from services.catalog.day_schemas import DayIn, StaffDay
from services.catalog.days import Place, Precondition
from services.catalog.fill_schemas import Cleared, ClearIn, CopyIn, Filled, FillIn
from services.catalog.inputs import Date
from services.catalog.models import Day, Slot, Template
from services.catalog.template_schemas import TemplateIn, TemplateOut, TemplatePatch

router = APIRouter(prefix="/staff", tags=["staff"])

# --- days -----------------------------------------------------------------------------------------------------------


@router.get("/items/{item_id}/days")
def list_days(
    session: Tx,
    now: Now,
    staff: AnyStaff,
    item_id: Id,
    from_: Annotated[Date | None, Query(alias="from")] = None,
    to: Date | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[StaffDay]:
    """List the item's days between two dates inclusive, each with all its slots and their numbers."""
    check_range(from_, to)
    where = days.place(session, staff, item_id)
    found, following = days.listed(session, item_id, first=from_, last=to, limit=limit, cursor=cursor)
    closed = closures.over(session, where.hall.id, item_id, found[0][0].date, found[-1][0].date) if found else []
    shown = [
        views.staff_day(day, slots, where.item, where.hall, closure=closures.on(closed, day.date), now=now)
        for day, slots in found
    ]
    return Page(items=shown, next_cursor=following)


@router.get("/items/{item_id}/days/{date}")
def get_day(session: Tx, now: Now, staff: AnyStaff, item_id: Id, date: Date, response: Response) -> StaffDay:
    where = days.place(session, staff, item_id)
    day, slots = days.get(session, item_id, date)
    response.headers["ETag"] = etags.of(day)
    return _shown(session, where, day, slots, now)


@router.put("/items/{item_id}/days/{date}", responses={201: {"model": StaffDay}})
def save_day(
    session: Tx,
    now: Now,
    staff: HallStaff,
    item_id: Id,
    date: Date,
    data: DayIn,
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> StaffDay:
    """Bring a day to what is sent. If-Match with the day's ETag is a must; for a new day, `If-None-Match: *`.

    Changing the times of slots that people have booked is refused (`joins_ahead`) until it is confirmed; into the past
    such slots can't be moved at all (`slot_in_past`).
    """
    precondition = Precondition(if_match=if_match, if_none_match=if_none_match)
    where, day, is_new = days.save(session, staff, item_id, date, data, precondition, now=now)
    response.headers["ETag"] = etags.of(day)
    response.status_code = 201 if is_new else 200
    return _shown(session, where, day, days.slots_of(session, item_id, date), now)


def _shown(session: Session, where: Place, day: Day, slots: list[Slot], now: Now) -> StaffDay:
    closed = closures.over(session, where.hall.id, where.item.id, day.date, day.date)
    return views.staff_day(day, slots, where.item, where.hall, closure=closures.on(closed, day.date), now=now)


@router.delete("/items/{item_id}/days/{date}", status_code=204)
def delete_day(runtime: RuntimeDep, staff: HallStaff, item_id: Id, date: Date, if_match: IfMatch = None) -> None:
    """Delete a day that nobody ever booked."""
    runtime.db.run(lambda session: days.delete(session, staff, item_id, date, if_match=if_match))


@router.post("/items/{item_id}/days/fill")
def fill_days(session: Tx, staff: HallStaff, item_id: Id, data: FillIn) -> Filled:
    """Make the days of a range that do not exist yet, from periods or a template; days off are left out, and told."""
    return fills.fill(session, staff, item_id, data)


@router.post("/items/{item_id}/days/clear")
def clear_days(runtime: RuntimeDep, staff: HallStaff, item_id: Id, data: ClearIn) -> Cleared:
    """Delete the days of a range that nobody ever booked, as a wrong fill made them; the others are kept, and told."""
    return runtime.db.run(lambda session: fills.clear(session, staff, item_id, data))


@router.post("/items/{item_id}/days/{date}/copy")
def copy_day(session: Tx, staff: HallStaff, item_id: Id, date: Date, data: CopyIn) -> Filled:
    """Copy a day's note and open slots onto dates that do not exist yet; with none open, `nothing_to_copy`."""
    return fills.copy(session, staff, item_id, date, data.dates)


@router.post("/slots/capacity")
def change_capacities(runtime: RuntimeDep, staff: HallStaff, data: CapacitiesIn) -> CapacitiesOut:
    """Give many slots the same capacity at once. Where more are booked already, they stay, and the answer says so."""
    return runtime.db.run(lambda session: capacities.change(session, staff, data))


# --- templates ------------------------------------------------------------------------------------------------------


@router.get("/templates")
def list_templates(
    session: Tx,
    staff: AnyStaff,
    hall_id: Id | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[TemplateOut]:
    """List templates; with `hall_id`, those that this hall can use."""
    found, following = templates.listed(session, staff, hall_id=hall_id, limit=limit, cursor=cursor)
    return Page(items=[views.template(row) for row in found], next_cursor=following)


@router.post("/templates", status_code=201)
def create_template(session: Tx, staff: HallStaff, data: TemplateIn, response: Response) -> TemplateOut:
    return _template(templates.create(session, staff, data), response)


@router.get("/templates/{template_id}")
def get_template(session: Tx, staff: AnyStaff, template_id: Id, response: Response) -> TemplateOut:
    return _template(templates.get(session, staff, template_id), response)


@router.patch("/templates/{template_id}")
def edit_template(
    session: Tx, staff: HallStaff, template_id: Id, data: TemplatePatch, response: Response, if_match: IfMatch = None
) -> TemplateOut:
    return _template(templates.edit(session, staff, template_id, data, if_match=if_match), response)


@router.delete("/templates/{template_id}", status_code=204)
def delete_template(session: Tx, staff: HallStaff, template_id: Id, if_match: IfMatch = None) -> None:
    templates.delete(session, staff, template_id, if_match=if_match)


def _template(row: Template, response: Response) -> TemplateOut:
    response.headers["ETag"] = etags.of(row)
    return views.template(row)


# --- special days ---------------------------------------------------------------------------------------------------


@router.get("/halls/{hall_id}/calendar")
def get_calendar(
    session: Tx, staff: AnyStaff, hall_id: Id, from_: Annotated[Date, Query(alias="from")], to: Date
) -> CalendarOut:
    """List the dates of a range that are not like their weekday: days off and workdays, and by whose word."""
    hall = halls.get(session, staff, hall_id)
    dates = special_days.dates_between(from_, to)
    known = special_days.known(session, hall.id, dates, statutory=True)
    shown = [
        CalendarDay(date=on, kind=special.kind, name=special.name, source=special.source)
        for on, special in sorted(known.items())
    ]
    return CalendarOut(days=shown, years_not_announced=special_days.years_not_announced(dates))


@router.get("/special-days")
def list_special_days(
    session: Tx,
    staff: AnyStaff,
    hall_id: Id | None = None,
    from_: Annotated[Date | None, Query(alias="from")] = None,
    to: Date | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[SpecialDayOut]:
    """List days off and workdays by the operator's word; with `hall_id`, those that count for this hall."""
    check_range(from_, to)
    found, following = special_days.listed(
        session, staff, hall_id=hall_id, first=from_, last=to, limit=limit, cursor=cursor
    )
    return Page(items=[views.special_day(row) for row in found], next_cursor=following)


@router.put("/special-days")
def put_special_days(
    session: Tx,
    staff: HallStaff,
    data: SpecialDaysIn,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> SpecialDaysOut:
    """Make dates days off or workdays, for a hall or for all. Days that were filled already stay as they are.

    If-Match takes the ETags, one after another, of those of the dates that were special when they were loaded;
    `If-None-Match: *` says that none was.
    """
    rows = special_days.put(session, staff, data, if_match=if_match, if_none_match=if_none_match)
    return SpecialDaysOut(items=[views.special_day(row) for row in rows])


@router.delete("/special-days/{special_day_id}", status_code=204)
def delete_special_day(session: Tx, staff: HallStaff, special_day_id: Id, if_match: IfMatch = None) -> None:
    special_days.delete(session, staff, special_day_id, if_match=if_match)


# --- closures -------------------------------------------------------------------------------------------------------


@router.get("/closures")
def list_closures(
    session: Tx,
    staff: AnyStaff,
    hall_id: Id | None = None,
    item_id: Id | None = None,
    from_: Annotated[Date | None, Query(alias="from", description="those over before are left out")] = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[ClosureOut]:
    """List on which dates halls and items are closed, and why."""
    found, following = closures.listed(
        session, staff, hall_id=hall_id, item_id=item_id, since=from_, limit=limit, cursor=cursor
    )
    return Page(items=[views.closure(row) for row in found], next_cursor=following)


@router.post("/closures", status_code=201)
def create_closure(runtime: RuntimeDep, now: Now, staff: HallStaff, data: ClosureIn, response: Response) -> ClosureOut:
    """Close a hall or an item on some dates. With joins ahead this is refused (`joins_ahead`) until it is confirmed.

    Who is affected, `GET booking/staff/affected` tells. Their joins stay; slots keep their own status for afterwards.
    """
    made = runtime.db.run(lambda session: views.closure(closures.create(session, staff, data, now=now)))
    response.headers["ETag"] = made.etag
    return made


@router.patch("/closures/{closure_id}")
def edit_closure(
    runtime: RuntimeDep,
    now: Now,
    staff: HallStaff,
    closure_id: Id,
    data: ClosurePatch,
    response: Response,
    if_match: IfMatch = None,
) -> ClosureOut:
    """Change dates or reason; dates that are closed no more open at once."""
    edited = runtime.db.run(
        lambda session: views.closure(closures.edit(session, staff, closure_id, data, if_match=if_match, now=now))
    )
    response.headers["ETag"] = edited.etag
    return edited


@router.delete("/closures/{closure_id}", status_code=204)
def lift_closure(runtime: RuntimeDep, staff: HallStaff, closure_id: Id, if_match: IfMatch = None) -> None:
    """Lift a closure: what was open by itself is open again."""
    runtime.db.run(lambda session: closures.delete(session, staff, closure_id, if_match=if_match))
