"""Categories: listed for everybody, edited by super admins."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.principals import Staff
from services.catalog import changes, edits, errors
from services.catalog.category_schemas import CategoryIn, CategoryPatch
from services.catalog.models import Category, Item


def listed(session: Session, *, limit: int, cursor: str | None) -> tuple[list[Category], str | None]:
    """Return all categories by order then newest."""
    keys = [Key(Category.order, int), Key(Category.id, "id", descending=True)]
    return fetch(session, select(Category), keys=keys, limit=limit, cursor=cursor)


def create(session: Session, staff: Staff, data: CategoryIn) -> Category:
    """Make a category, or raise NameTaken."""
    category = Category(id=new_id(), name=data.name, order=data.order, version=1)
    session.add(category)
    with changes.names_unique():
        session.flush()
    audit.record(
        session,
        staff,
        "category.created",
        object_type="category",
        object_id=category.id,
        after=data.model_dump(mode="json"),
    )
    return category


def edit(session: Session, staff: Staff, category_id: str, data: CategoryPatch, *, if_match: str | None) -> Category:
    """Change what differs, or raise NameTaken."""
    category = _locked(session, category_id)
    edits.require(session, if_match, category)
    changed = changes.apply(category, changes.given(data))
    if changed is None:
        return category
    with changes.names_unique():
        session.flush()
    before, after = changed
    edits.note(session, staff, category, before=before, after=after)
    audit.record(
        session,
        staff,
        "category.edited",
        object_type="category",
        object_id=category_id,
        before=before,
        after=after,
    )
    return category


def delete(session: Session, staff: Staff, category_id: str, *, if_match: str | None) -> None:
    """Delete a category that no item is in, or raise CategoryInUse."""
    category = _locked(session, category_id)
    edits.require(session, if_match, category)
    items = session.scalar(select(func.count()).select_from(Item).where(Item.category_id == category_id))
    if items:
        raise errors.CategoryInUse(items=items)
    session.delete(category)
    session.flush()
    audit.record(
        session,
        staff,
        "category.deleted",
        object_type="category",
        object_id=category_id,
        before={"name": category.name, "order": category.order},
    )


def _locked(session: Session, category_id: str) -> Category:
    # FOR UPDATE, so that no item enters the category between the count and the deletion.
    found = session.scalar(select(Category).where(Category.id == category_id).with_for_update())
    if found is None:
        raise NotFound
    return found
