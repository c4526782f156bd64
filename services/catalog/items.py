"""Items with their form and rules, as staff make and edit them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.catalog import ItemStatus
from libs.contracts.principals import Staff
from services.catalog import changes, edits, errors, facts, halls, policy, stats
from services.catalog.models import Category, Hall, Item, Slot
from services.catalog.schemas import ItemIn, ItemPatch


def listed(
    session: Session,
    staff: Staff,
    *,
    hall_id: str | None,
    category_id: str | None,
    status: ItemStatus | None,
    q: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[Any], str | None]:
    """Return (item, hall, category) for the items within the staff's scope, by order then newest."""
    query = _scoped(staff)
    if hall_id is not None:
        query = query.where(Item.hall_id == hall_id)
    if category_id is not None:
        query = query.where(Item.category_id == category_id)
    if status is not None:
        query = query.where(Item.status == status)
    if q:
        query = query.where(Item.title.icontains(q, autoescape=True))
    keys = [Key(Item.order, int), Key(Item.id, "id", descending=True)]
    return fetch(session, query, keys=keys, limit=limit, cursor=cursor)


def get(session: Session, staff: Staff, item_id: str) -> tuple[Item, Hall, Category | None]:
    """Return an item within the staff's scope with its hall and category, or raise NotFound."""
    row = session.execute(_scoped(staff).where(Item.id == item_id)).one_or_none()
    if row is None:
        raise NotFound
    item, hall, category = row
    return item, hall, category


def create(session: Session, staff: Staff, data: ItemIn) -> Item:
    """Make an item in a hall of the staff's, and tell the other services."""
    halls.get(session, staff, data.hall_id)
    policy.check_form(data.form)
    policy.check_rules(data.rules)
    _check_category(session, data.category_id)
    columns = data.model_dump(mode="json")
    item = Item(id=new_id(), form_version=1, version=1, **columns)
    session.add(item)
    session.flush()
    outbox.record(session, facts.of_item(item))
    audit.record(
        session, staff, "item.created", object_type="item", object_id=item.id, hall_id=item.hall_id, after=columns
    )
    return item


def edit(session: Session, staff: Staff, item_id: str, data: ItemPatch, *, if_match: str | None, now: datetime) -> Item:
    """Change what differs. Making it invisible with joins ahead needs the caller's word; they stay."""
    item = _locked(session, staff, item_id)
    edits.require(session, if_match, item)
    wanted = changes.given(data, apart={"accept_joins_ahead"})
    _check(session, data, wanted)
    hides = wanted.get("status", item.status) not in policy.VISIBLE_ITEM and item.status in policy.VISIBLE_ITEM
    if hides and not data.accept_joins_ahead:
        stats.refuse_joins_ahead(session, Slot.item_id == item_id, now=now)
    changed = changes.apply(item, wanted)
    if changed is None:
        return item
    before, after = changed
    if "form" in after:
        item.form_version += 1
    session.flush()
    edits.note(session, staff, item, before=before, after=after)
    outbox.record(session, facts.of_item(item))
    audit.record(
        session,
        staff,
        "item.edited",
        object_type="item",
        object_id=item_id,
        hall_id=item.hall_id,
        before=before,
        after=after,
    )
    return item


def _check(session: Session, data: ItemPatch, wanted: dict[str, Any]) -> None:
    if "form" in wanted:
        policy.check_form(data.form)
    if "rules" in wanted:
        policy.check_rules(data.rules)
    if "category_id" in wanted:
        _check_category(session, data.category_id)


def _check_category(session: Session, category_id: str | None) -> None:
    if category_id is None:
        return
    # The share lock keeps the category from being deleted before the item is in it.
    found = session.scalar(
        select(Category.id).where(Category.id == category_id).with_for_update(key_share=True, read=True)
    )
    if found is None:
        raise errors.CategoryUnknown


_ROW: tuple[Any, ...] = (Item, Hall, Category)


def _scoped(staff: Staff) -> Select[Any]:
    return (
        select(*_ROW)
        .join(Hall, Hall.id == Item.hall_id)
        .outerjoin(Category, Category.id == Item.category_id)
        .where(staff.sees(Item.hall_id))
    )


def _locked(session: Session, staff: Staff, item_id: str) -> Item:
    found = session.scalar(
        select(Item).where(Item.id == item_id, staff.sees(Item.hall_id)).with_for_update(key_share=True)
    )
    if found is None:
        raise NotFound
    return found
