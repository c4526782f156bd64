"""The inventory: how many places of a slot are taken. Every change is one guarded UPDATE of the slot's row.

The caller makes it before it writes any join, so that the changes of one slot are totally ordered by the row's lock. Each
change is noted in the session, and told to the atomic counters after its commit.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import case, exists, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.contracts.booking import SlotTaken
from libs.contracts.catalog import SlotChanged, SlotStatus
from services.booking.counters import CHANGED
from services.booking.counts import Count
from services.booking.models import Join, Slot
from services.booking.rows import SlotRow


def take(
    session: Session, slot_id: str, people: int, *, holder: str | None, even_closed: bool = False
) -> SlotTaken | None:
    """Take places for `people` of the user `holder` (None: of users who never sign in), all or none.

    None where they are not free or (unless `even_closed`) the slot is closed.
    """
    statement = (
        update(Slot)
        .where(Slot.id == slot_id)
        .where(Slot.deleted.is_(False))
        .where(true() if even_closed else Slot.status == SlotStatus.OPEN)
        .where(Slot.capacity.is_(None) | (Slot.taken + people <= Slot.capacity))
        .values(taken=Slot.taken + people, version=Slot.version + 1)
    )
    return _changed(session, statement, holders=[holder] if holder else [])


def give_back(session: Session, slot_id: str, people: int) -> SlotTaken:
    """Free the places of `people`; a capacity that stood above what was asked falls with them."""
    left = Slot.taken - people
    statement = (
        update(Slot)
        .where(Slot.id == slot_id)
        .values(
            taken=left,
            capacity=case((Slot.asked.is_(None), None), else_=func.greatest(Slot.asked, left)),
            version=Slot.version + 1,
        )
    )
    changed = _changed(session, statement)
    if changed is None:
        raise LookupError(f"slot {slot_id} has joins but no inventory")
    return changed


def note(session: Session, count: Count) -> None:
    """Let the counters know of this change when it is committed."""
    counts: dict[str, Count] = session.info.setdefault(CHANGED, {})
    earlier = counts.get(count.slot_id)
    counts[count.slot_id] = earlier.then(count) if earlier else count


def _changed(session: Session, statement: Any, *, holders: Iterable[str] = ()) -> SlotTaken | None:
    """Carry out a change of one row, that makes one version, and note it; None where no row was changed."""
    returning = statement.returning(Slot.id, Slot.taken, Slot.capacity, Slot.version, Slot.status, Slot.deleted)
    row = session.execute(returning.execution_options(synchronize_session=False)).first()
    if row is None:
        return None
    changed = Count(
        slot_id=row.id,
        before=max(0, row.version - 1),  # what was just made at version 0 had no holder before
        version=row.version,
        taken=row.taken,
        capacity=row.capacity,
        is_open=row.status == SlotStatus.OPEN and not row.deleted,
        holders=frozenset(holders),
    )
    note(session, changed)
    return SlotTaken(slot_id=row.id, taken=row.taken, capacity=row.capacity, version=row.version)


def current(slot: Slot | SlotRow) -> SlotTaken:
    """Return the inventory as a loaded row has it."""
    return SlotTaken(slot_id=slot.id, taken=slot.taken, capacity=slot.capacity, version=slot.version)


def lock(session: Session, slot_ids: set[str]) -> dict[str, Slot]:
    """Lock the rows of these slots in ascending order and return them as they are now."""
    rows = session.scalars(
        select(Slot)
        .where(Slot.id.in_(slot_ids))
        .order_by(Slot.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {slot.id: slot for slot in rows}


def define(session: Session, fact: SlotChanged) -> None:
    """Take over catalog's definition of a slot, unless a newer one is here.

    A capacity below what is taken throws nobody out. A slot deleted while joins for it were made is closed instead.
    """
    known = session.scalar(
        select(Slot)
        .where(Slot.id == fact.slot_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    definition = {
        "item_id": fact.item_id,
        "hall_id": fact.hall_id,
        "date": fact.date,
        "start": fact.start,
        "end": fact.end,
        "starts_at": fact.starts_at,
        "ends_at": fact.ends_at,
        "status": fact.status,
        "deleted": fact.deleted,
        "asked": fact.capacity,
        "definition_version": fact.version,
    }
    if known is None:
        fresh = insert(Slot).values(id=fact.slot_id, capacity=fact.capacity, **definition)
        if (
            _changed(session, fresh.on_conflict_do_nothing()) is None
        ):  # another delivery has made it in this moment: look at it again
            define(session, fact)
        return
    if known.definition_version > fact.version:
        return
    if fact.deleted and session.scalar(select(exists().where(Join.slot_id == fact.slot_id))):
        definition |= {"deleted": False, "status": SlotStatus.CLOSED}
    capacity = None if fact.capacity is None else max(fact.capacity, known.taken)
    _changed(
        session,
        update(Slot).where(Slot.id == fact.slot_id).values(capacity=capacity, version=Slot.version + 1, **definition),
    )
