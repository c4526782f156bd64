"""What anybody may read, without signing in."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator

from libs.common.etags import IfNoneMatch
from libs.common.lean import answered_first_by
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Text, Tx
from services.catalog import browse, categories, item_page, views
from services.catalog.browse import Place
from services.catalog.category_schemas import CategoryOut
from services.catalog.hall_schemas import DateOfHall, PublicHall, PublicHallPage
from services.catalog.inputs import Date
from services.catalog.item_schemas import ItemCard, ItemOfDay, PublicItem

router = APIRouter(tags=["public"])

_NUMBER = r"-?\d{1,3}(?:\.\d{1,12})?"


def _place(text: str) -> str:
    found = re.fullmatch(rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*", text, re.ASCII)
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise ValueError("a place is written lat,lng in degrees")
    return text


Near = Annotated[Annotated[str, AfterValidator(_place)] | None, Query(description="lat,lng: the nearest come first")]
Search = Annotated[Text | None, Query(max_length=100, description="looked for literally, whatever its case")]
FromDate = Annotated[Date | None, Query(alias="from", description="YYYY-MM-DD; dates before today are left out")]


@router.get("/halls")
def list_halls(
    session: Tx, near: Near = None, q: Search = None, limit: Limit = 20, cursor: CursorText = None
) -> Page[PublicHall]:
    """List open halls by order then newest, or by distance from `near`."""
    place = None
    if near:
        lat, lng = near.split(",")
        place = Place(lat=float(lat), lng=float(lng))
    return browse.halls(session, q=q, near=place, limit=limit, cursor=cursor)


@router.get("/halls/{hall_id}")
def get_hall(session: Tx, now: Now, hall_id: Id) -> PublicHallPage:
    """Return an open hall, with the dates on which it is closed as a whole."""
    return browse.hall(session, hall_id, now=now)


@router.get("/halls/{hall_id}/days")
def list_dates_of_hall(
    session: Tx, now: Now, hall_id: Id, from_: FromDate = None, limit: Limit = 20, cursor: CursorText = None
) -> Page[DateOfHall]:
    """List the dates, from today at the hall on, that can be booked: that have a slot in state `bookable`."""
    return browse.dates(session, hall_id, first=from_, limit=limit, cursor=cursor, now=now)


@router.get("/halls/{hall_id}/items")
def list_items_of_day(
    session: Tx,
    now: Now,
    hall_id: Id,
    day: Annotated[Date | None, Query(description="default: today at the hall")] = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[ItemOfDay]:
    """List the items that have open slots on a day, with those slots, also where they can't be booked (see `state`)."""
    return browse.items_of_day(session, hall_id, day=day, limit=limit, cursor=cursor, now=now)


@router.get("/categories")
def list_categories(session: Tx, limit: Limit = 20, cursor: CursorText = None) -> Page[CategoryOut]:
    found, following = categories.listed(session, limit=limit, cursor=cursor)
    return Page(items=[views.category(row) for row in found], next_cursor=following)


@router.get("/items")
def list_items(
    session: Tx,
    hall_id: Id | None = None,
    category_id: Id | None = None,
    q: Search = None,
    recommended: bool | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[ItemCard]:
    """List what is offered, by order then newest."""
    return browse.items(
        session, hall_id=hall_id, category_id=category_id, q=q, recommended=recommended, limit=limit, cursor=cursor
    )


@router.get("/items/{item_id}", response_model=PublicItem, responses={304: {"description": "Not changed"}})
@answered_first_by(item_page.from_memory)
async def get_item(
    runtime: RuntimeDep, item_id: Id, from_: FromDate = None, if_none_match: IfNoneMatch = None
) -> Response:
    """Return an item with its form, rules and open slots; with If-None-Match, 304 while all of it is the same."""
    page = await item_page.get(runtime, item_id, first=from_)
    return page.for_who_has(if_none_match).response()
