"""Items with their form and rules, as staff make and edit them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.catalog import ItemStatus, Rules
from libs.contracts.principals import Staff
from services.catalog import changes, edits, errors, facts, halls, policy, stats
from services.catalog.bulk_schemas import ItemRulesIn
from services.catalog.inputs import LAST
from services.catalog.item_schemas import ItemIn, ItemPatch
from services.catalog.models import Category, Hall, Item, Slot


def listed(
    session: Session,
    staff: Staff,
    *,
    hall_id: str | None,
    category_id: str | None,
    status: ItemStatus | None,
    recommended: bool | None,
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
    if recommended is not None:
        query = query.where(Item.recommended == recommended)
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


def create(session: Session, staff: Staff, data: ItemIn, *, upload_max_bytes: int) -> Item:
    """Make an item in a hall of the staff's, and tell the other services."""
    halls.get(session, staff, data.hall_id)
    halls.check_order(staff, data.order, stands=LAST)
    policy.check_form(data.form, upload_max_bytes=upload_max_bytes)
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


def edit(
    session: Session,
    staff: Staff,
    item_id: str,
    data: ItemPatch,
    *,
    upload_max_bytes: int,
    if_match: str | None,
    now: datetime,
) -> Item:
    """Change what differs. Making it invisible with joins ahead needs the caller's word; they stay."""
    item = _locked(session, staff, item_id)
    edits.require(session, if_match, item)
    wanted = changes.given(data, apart={"accept_joins_ahead"})
    halls.check_order(staff, wanted.get("order", item.order), stands=item.order)
    _check(session, data, wanted, upload_max_bytes=upload_max_bytes)
    hides = wanted.get("status", item.status) not in policy.VISIBLE_ITEM and item.status in policy.VISIBLE_ITEM
    if hides and not data.accept_joins_ahead:
        stats.refuse_joins_ahead(session, Slot.item_id == item_id, now=now)
    _change(session, staff, item, wanted)
    return item


def change_rules(session: Session, staff: Staff, data: ItemRulesIn) -> list[Item]:
    """Change some rules of many items, whose other rules stay; all of them or, where RulesUnfit is raised, none."""
    wanted = data.rules.model_dump(mode="json", include=data.rules.model_fields_set)
    found = _locked_all(session, staff, data.item_ids)
    for item in found:
        rules = item.rules | wanted
        try:
            policy.check_rules(Rules.model_validate(rules))
        except errors.RulesUnfit as error:
            raise errors.RulesUnfit(item_id=item.id, title=item.title, **error.params) from None
        _change(session, staff, item, {"rules": rules})
    return found


def arrange(session: Session, staff: Staff, item_ids: Sequence[str]) -> list[Item]:
    """Put these items on top of every list, in this order; what stood there comes after them, in the order that it had."""
    # One after the other: what somebody else puts on top in this moment has to make room, or be made room for.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("items.order", 0))))
    on_top = {item_id: number for number, item_id in enumerate(item_ids)}
    place = on_top | _make_room(session, item_ids)
    found = _locked_all(session, staff, list(place))
    for item in found:
        _change(session, staff, item, {"order": place[item.id]})
    return sorted((item for item in found if item.id in on_top), key=lambda item: item.order)


def _make_room(session: Session, item_ids: Sequence[str]) -> dict[str, int]:
    """Return the new order of each item that stands where these are put, or where another of them moves to."""
    others = (
        select(Item.id, Item.order)
        .where(Item.id.not_in(item_ids), Item.order < LAST)
        .order_by(Item.order, Item.id.desc())
    )
    moved: dict[str, int] = {}
    for item_id, order in session.execute(others):
        free = len(item_ids) + len(moved)
        if order >= free:
            break
        moved[item_id] = free
    return moved


def all_of(session: Session, staff: Staff, item_ids: Sequence[str]) -> list[Item]:
    """Return these items, or raise NotFound where one of them is not within the staff's scope."""
    return _whole(session, select(Item).where(Item.id.in_(item_ids), staff.sees(Item.hall_id)), item_ids)


def _locked_all(session: Session, staff: Staff, item_ids: Sequence[str]) -> list[Item]:
    query = select(Item).where(Item.id.in_(item_ids), staff.sees(Item.hall_id)).order_by(Item.id)
    return _whole(session, query.with_for_update(key_share=True), item_ids)


def _whole(session: Session, query: Select[Item], item_ids: Sequence[str]) -> list[Item]:
    found = list(session.scalars(query))
    if len(found) < len(set(item_ids)):
        raise NotFound
    return found


def _change(session: Session, staff: Staff, item: Item, wanted: dict[str, Any]) -> None:
    """Write what differs of a locked item, and tell of it; where nothing does, nothing has happened."""
    changed = changes.apply(item, wanted)
    if changed is None:
        return
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
        object_id=item.id,
        hall_id=item.hall_id,
        before=before,
        after=after,
    )


def _check(session: Session, data: ItemPatch, wanted: dict[str, Any], *, upload_max_bytes: int) -> None:
    if "form" in wanted:
        policy.check_form(data.form, upload_max_bytes=upload_max_bytes)
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
