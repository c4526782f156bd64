"""Closures: the dates on which a whole hall, or one of its items, is closed, and why."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Unpack

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.principals import Staff
from services.catalog import changes, edits, errors, facts, halls, items, policy, stats
from services.catalog.closure_schemas import ClosureIn, ClosurePatch
from services.catalog.models import Closure, Slot

MOST_SHOWN = 50


def listed(
    session: Session,
    staff: Staff,
    *,
    hall_id: str | None,
    item_id: str | None,
    since: date | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[Closure], str | None]:
    """Return the closures of the staff's halls that are not over before `since`, by their first date."""
    query = select(Closure).where(staff.sees(Closure.hall_id))
    if hall_id is not None:
        query = query.where(Closure.hall_id == hall_id)
    if item_id is not None:
        query = query.where(Closure.item_id == item_id)
    if since is not None:
        query = query.where(Closure.last >= since)
    return fetch(session, query, keys=[Key(Closure.first, date), Key(Closure.id, "id")], limit=limit, cursor=cursor)


def over(session: Session, hall_id: str, item_id: str | None, first: date, last: date | None = None) -> list[Closure]:
    """Return what closes an item (None: the hall as a whole) on some of these dates, the earliest first."""
    of_item = Closure.item_id.is_(None) if item_id is None else _closes(item_id)
    query = select(Closure).where(Closure.hall_id == hall_id, of_item, Closure.last >= first)
    if last is not None:
        query = query.where(Closure.first <= last)
    return list(session.scalars(query.order_by(Closure.first, Closure.id)))


def on(closures: Iterable[Closure], day: date) -> Closure | None:
    """Return which of some closures closes a date."""
    return next((closure for closure in closures if closure.first <= day <= closure.last), None)


def create(session: Session, staff: Staff, data: ClosureIn, *, now: datetime) -> Closure:
    """Close a hall or an item on some dates. With joins ahead this needs the caller's word; they stay."""
    if data.from_ > data.to:
        raise errors.ClosureUnfit
    hall_id = data.hall_id or items.get(session, staff, data.item_id or "")[0].hall_id
    halls.locked(session, staff, hall_id)
    closure = Closure(
        id=new_id(),
        hall_id=hall_id,
        item_id=data.item_id,
        first=data.from_,
        last=data.to,
        reason=data.reason,
        version=1,
    )
    if not data.accept_joins_ahead:
        stats.refuse_joins_ahead(session, _reached(closure), now=now)
    session.add(closure)
    session.flush()
    _close_and_open(session, _reached(closure))
    _audit(session, staff, "closure.created", closure, after=_shown(closure))
    return closure


def edit(
    session: Session, staff: Staff, closure_id: str, data: ClosurePatch, *, if_match: str | None, now: datetime
) -> Closure:
    """Change dates or reason. Slots that are closed no more open again, as far as they are open by themselves."""
    closure = _locked(session, staff, closure_id)
    edits.require(session, if_match, closure)
    reached = _reached(closure)
    wanted = {
        column: getattr(data, field)
        for field, column in (("from_", "first"), ("to", "last"), ("reason", "reason"))
        if field in data.model_fields_set
    }
    before = _shown(closure)
    if changes.apply(closure, wanted) is None:
        return closure
    if closure.first > closure.last:
        raise errors.ClosureUnfit
    if not data.accept_joins_ahead:
        stats.refuse_joins_ahead(session, _reached(closure) & Slot.closure_id.is_(None), now=now)
    session.flush()
    _close_and_open(session, reached | _reached(closure))
    edits.note(session, staff, closure, before=before, after=_shown(closure))
    _audit(session, staff, "closure.edited", closure, before=before, after=_shown(closure))
    return closure


def delete(session: Session, staff: Staff, closure_id: str, *, if_match: str | None) -> None:
    """Lift a closure: its slots open again, as far as they are open by themselves and nothing else closes them."""
    closure = _locked(session, staff, closure_id)
    edits.require(session, if_match, closure)
    session.delete(closure)
    session.flush()
    _close_and_open(session, _reached(closure))
    _audit(session, staff, "closure.lifted", closure, before=_shown(closure))


def _closes(item_id: Any) -> ColumnElement[bool]:
    return or_(Closure.item_id.is_(None), Closure.item_id == item_id)


def _reached(closure: Closure) -> ColumnElement[bool]:
    """Return the condition that a slot lies within a closure as it is now."""
    within = (Slot.hall_id == closure.hall_id) & Slot.date.between(closure.first, closure.last)
    return within if closure.item_id is None else within & (Slot.item_id == closure.item_id)


def _close_and_open(session: Session, within: ColumnElement[bool]) -> None:
    """Let each slot know which closure closes it now, and tell the others of those for which that has changed."""
    closes_it = (
        select(Closure.id)
        .where(Closure.hall_id == Slot.hall_id, _closes(Slot.item_id))
        .where(Slot.date.between(Closure.first, Closure.last))
        .order_by(Closure.first, Closure.id)
        .limit(1)
        .scalar_subquery()
    )
    changed = session.scalars(
        update(Slot)
        .where(within, Slot.closure_id.is_distinct_from(closes_it))
        .values(closure_id=closes_it, version=Slot.version + 1)
        .returning(Slot),
        execution_options={"synchronize_session": False, "populate_existing": True},
    ).all()
    if len(changed) > policy.MOST_CHANGES:
        raise errors.TooManySlots(most=policy.MOST_CHANGES)
    outbox.record(session, *(facts.of_slot(slot) for slot in changed))


def _locked(session: Session, staff: Staff, closure_id: str) -> Closure:
    found = session.scalar(select(Closure).where(Closure.id == closure_id, staff.sees(Closure.hall_id)))
    if found is None:
        raise NotFound
    # The hall first, as where one is made: who defines slots holds it, too, and sees either all of a closure or nothing.
    halls.locked(session, staff, found.hall_id)
    session.refresh(found, with_for_update=True)
    return found


def _shown(closure: Closure) -> dict[str, str]:
    return {"from": closure.first.isoformat(), "to": closure.last.isoformat(), "reason": closure.reason}


def _audit(session: Session, staff: Staff, action: str, closure: Closure, **details: Unpack[audit.Details]) -> None:
    audit.record(
        session,
        staff,
        action,
        object_type="hall" if closure.item_id is None else "item",
        object_id=closure.item_id or closure.hall_id,
        hall_id=closure.hall_id,
        **details,
    )
