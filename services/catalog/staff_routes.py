"""What staff read and edit of what is offered: halls, categories and items, within their halls."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from libs.common import etags, qr
from libs.common.etags import IfMatch
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Text, Tx
from libs.contracts.catalog import HallStatus, ItemStatus
from libs.contracts.principals import AnyStaff, HallStaff, SuperAdmin
from services.catalog import categories, halls, items, views
from services.catalog.bulk_schemas import ItemOrderIn, ItemRulesIn, ItemVersions
from services.catalog.category_schemas import CategoryIn, CategoryPatch, StaffCategory
from services.catalog.hall_schemas import HallIn, HallPatch, StaffHall
from services.catalog.item_schemas import ItemCard, ItemIn, ItemPatch, StaffItem

router = APIRouter(prefix="/staff", tags=["staff"])

Search = Annotated[Text | None, Query(max_length=100, description="looked for literally, whatever its case")]

# --- halls ----------------------------------------------------------------------------------------------------------


@router.get("/halls")
def list_halls(
    session: Tx,
    staff: AnyStaff,
    q: Search = None,
    status: HallStatus | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[StaffHall]:
    found, following = halls.listed(session, staff, q=q, status=status, limit=limit, cursor=cursor)
    return Page(items=[views.staff_hall(hall) for hall in found], next_cursor=following)


@router.post("/halls", status_code=201)
def create_hall(session: Tx, staff: SuperAdmin, data: HallIn, response: Response) -> StaffHall:
    hall = halls.create(session, staff, data)
    response.headers["ETag"] = etags.of(hall)
    return views.staff_hall(hall)


@router.get("/halls/{hall_id}")
def get_hall(session: Tx, staff: AnyStaff, hall_id: Id, response: Response) -> StaffHall:
    hall = halls.get(session, staff, hall_id)
    response.headers["ETag"] = etags.of(hall)
    return views.staff_hall(hall)


@router.patch("/halls/{hall_id}")
def edit_hall(
    session: Tx,
    now: Now,
    staff: HallStaff,
    hall_id: Id,
    data: HallPatch,
    response: Response,
    if_match: IfMatch = None,
) -> StaffHall:
    """Change what is sent. Closing with joins ahead is refused (`joins_ahead`) until it is confirmed."""
    hall = halls.edit(session, staff, hall_id, data, if_match=if_match, now=now)
    response.headers["ETag"] = etags.of(hall)
    return views.staff_hall(hall)


# --- categories -----------------------------------------------------------------------------------------------------


@router.get("/categories")
def list_categories(session: Tx, staff: AnyStaff, limit: Limit = 20, cursor: CursorText = None) -> Page[StaffCategory]:
    found, following = categories.listed(session, limit=limit, cursor=cursor)
    return Page(items=[views.staff_category(row) for row in found], next_cursor=following)


@router.post("/categories", status_code=201)
def create_category(session: Tx, staff: SuperAdmin, data: CategoryIn, response: Response) -> StaffCategory:
    category = categories.create(session, staff, data)
    response.headers["ETag"] = etags.of(category)
    return views.staff_category(category)


@router.patch("/categories/{category_id}")
def edit_category(
    session: Tx, staff: SuperAdmin, category_id: Id, data: CategoryPatch, response: Response, if_match: IfMatch = None
) -> StaffCategory:
    category = categories.edit(session, staff, category_id, data, if_match=if_match)
    response.headers["ETag"] = etags.of(category)
    return views.staff_category(category)


@router.delete("/categories/{category_id}", status_code=204)
def delete_category(session: Tx, staff: SuperAdmin, category_id: Id, if_match: IfMatch = None) -> None:
    """Delete a category that no item is in."""
    categories.delete(session, staff, category_id, if_match=if_match)


# --- items ----------------------------------------------------------------------------------------------------------


@router.get("/items")
def list_items(
    session: Tx,
    staff: AnyStaff,
    hall_id: Id | None = None,
    category_id: Id | None = None,
    status: ItemStatus | None = None,
    recommended: bool | None = None,
    q: Search = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[ItemCard]:
    found, following = items.listed(
        session,
        staff,
        hall_id=hall_id,
        category_id=category_id,
        status=status,
        recommended=recommended,
        q=q,
        limit=limit,
        cursor=cursor,
    )
    return Page(items=[views.card(*row) for row in found], next_cursor=following)


@router.post("/items", status_code=201)
def create_item(runtime: RuntimeDep, session: Tx, staff: HallStaff, data: ItemIn, response: Response) -> StaffItem:
    item = items.create(session, staff, data, upload_max_bytes=runtime.settings.upload_max_bytes)
    response.headers["ETag"] = etags.of(item)
    return views.staff_item(*items.get(session, staff, item.id))


@router.post("/items/rules")
def change_rules(runtime: RuntimeDep, staff: HallStaff, data: ItemRulesIn) -> ItemVersions:
    """Change some rules of many items at once: of all of them, or of none."""
    return runtime.db.run(lambda session: views.item_versions(items.change_rules(session, staff, data)))


@router.put("/items/order")
def arrange_items(runtime: RuntimeDep, staff: SuperAdmin, data: ItemOrderIn) -> ItemVersions:
    """Put items on top of every list, in this order; those that stood there come next."""
    return runtime.db.run(lambda session: views.item_versions(items.arrange(session, staff, data.item_ids)))


@router.get("/items/{item_id}/qr.svg", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}})
def get_item_qr(request: Request, runtime: RuntimeDep, session: Tx, staff: AnyStaff, item_id: Id) -> Response:
    """Draw the address of the item's page as a QR code, for posters."""
    item, _, _ = items.get(session, staff, item_id)
    origin = runtime.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return Response(qr.svg(f"{origin.rstrip('/')}/?item={item.id}"), media_type="image/svg+xml")


@router.get("/items/{item_id}")
def get_item(session: Tx, staff: AnyStaff, item_id: Id, response: Response) -> StaffItem:
    item, hall, category = items.get(session, staff, item_id)
    response.headers["ETag"] = etags.of(item)
    return views.staff_item(item, hall, category)


@router.patch("/items/{item_id}")
def edit_item(
    runtime: RuntimeDep,
    session: Tx,
    now: Now,
    staff: HallStaff,
    item_id: Id,
    data: ItemPatch,
    response: Response,
    if_match: IfMatch = None,
) -> StaffItem:
    """Change what is sent; form and rules are replaced as a whole (`items/rules` changes some rules and keeps the others).

    Making it invisible with joins ahead is refused (`joins_ahead`) until it is confirmed.
    """
    most = runtime.settings.upload_max_bytes
    item = items.edit(session, staff, item_id, data, upload_max_bytes=most, if_match=if_match, now=now)
    response.headers["ETag"] = etags.of(item)
    return views.staff_item(*items.get(session, staff, item_id))
