"""The inventory: how many places of a slot are taken. Every change is one guarded UPDATE of the slot's row.

The caller makes it before it writes any join, so that the changes of one slot are totally ordered by the row's lock. Each
change is noted in the session, and told to the atomic counters after its commit.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Row, case, exists, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.contracts.booking import LineChanged, SlotTaken
from libs.contracts.catalog import SlotChanged, SlotStatus
from services.booking.counters import CHANGED
from services.booking.counts import Count
from services.booking.errors import SlotFull
from services.booking.models import Join, Slot
from services.booking.rows import SlotRow


def take(
    session: Session, slot_id: str, people: int, *, holder: str | None, even_closed: bool = False
) -> SlotTaken | None:
    """Take places for `people` of the user `holder` (None: of users who never sign in), all or none.

    None where they are not free, people wait for them or (unless `even_closed`) the slot is closed.
    """
    statement = (
        update(Slot)
        .where(Slot.id == slot_id)
        .where(Slot.deleted.is_(False))
        .where(true() if even_closed else Slot.status == SlotStatus.OPEN)
        .where(Slot.capacity.is_(None) | ((Slot.waiting == 0) & (Slot.taken + Slot.held + people <= Slot.capacity)))
        .values(taken=Slot.taken + people, version=Slot.version + 1)
    )
    return _changed(session, statement, holders=[holder] if holder else [])


def give_back(session: Session, slot_id: str, people: int) -> SlotTaken:
    """Free the places of `people`; a capacity that stood above what was asked falls with them."""
    return shift(session, slot_id, taken=-people)


def shift(
    session: Session, slot_id: str, *, taken: int = 0, held: int = 0, waiting: int = 0, holder: str | None = None
) -> SlotTaken:
    """Change how many places are taken and held (by or for `holder`), and how many people wait, or raise SlotFull.

    For whoever gives places back, and for the slot's line, whose caller has locked the row: nobody else is asked here
    whether people wait.
    """
    people = Slot.taken + Slot.held + taken + held
    more = taken + held > 0
    statement = (
        update(Slot)
        .where(Slot.id == slot_id)
        .where(Slot.capacity.is_(None) | (people <= Slot.capacity) if more else true())
        .values(
            taken=Slot.taken + taken,
            held=Slot.held + held,
            waiting=Slot.waiting + waiting,
            capacity=case((Slot.asked.is_(None), None), else_=func.greatest(Slot.asked, people)),
            version=Slot.version + 1,
        )
    )
    changed = _changed(session, statement, holders=[holder] if holder else [])
    if changed is None and more:
        raise SlotFull(left=0, people=taken + held)
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
    row = session.execute(_returning(statement)).first()
    return None if row is None else _noted(session, row, holders)


def _returning(statement: Any) -> Any:
    returning = statement.returning(
        Slot.id, Slot.taken, Slot.held, Slot.waiting, Slot.capacity, Slot.version, Slot.status, Slot.deleted
    )
    return returning.execution_options(synchronize_session=False)


def _noted(session: Session, row: Row[Any], holders: Iterable[str] = ()) -> SlotTaken:
    changed = Count(
        slot_id=row.id,
        before=max(0, row.version - 1),  # what was just made at version 0 had no holder before
        version=row.version,
        taken=row.taken,
        capacity=row.capacity,
        is_open=row.status == SlotStatus.OPEN and not row.deleted,
        holders=frozenset(holders),
        held=row.held,
        waiting=row.waiting,
    )
    note(session, changed)
    return current(row)


def current(slot: Slot | SlotRow | Row[Any]) -> SlotTaken:
    """Return the inventory as a row has it."""
    return SlotTaken(
        slot_id=slot.id,
        taken=slot.taken,
        capacity=slot.capacity,
        version=slot.version,
        held=slot.held,
        waiting=slot.waiting,
    )


def lock(session: Session, slot_ids: set[str], *, skip_locked: bool = False) -> dict[str, Slot]:
    """Lock the rows of these slots in ascending order and return them as they are now.

    With `skip_locked` those that somebody else has locked are left out.
    """
    rows = session.scalars(
        select(Slot)
        .where(Slot.id.in_(slot_ids))
        .order_by(Slot.id)
        .with_for_update(key_share=True, skip_locked=skip_locked)
        .execution_options(populate_existing=True)
    )
    return {slot.id: slot for slot in rows}


def define(session: Session, *facts: SlotChanged) -> None:
    """Take over catalog's definitions of slots, unless newer ones are here.

    A capacity below what is taken throws nobody out. A slot deleted while joins for it were made is closed instead.
    """
    newest: dict[str, SlotChanged] = {}
    for fact in facts:
        if fact.slot_id not in newest or newest[fact.slot_id].version <= fact.version:
            newest[fact.slot_id] = fact
    known = lock(session, set(newest))
    fresh = sorted(newest.keys() - known.keys())
    made = _make(session, [newest[slot_id] for slot_id in fresh])
    for slot_id, slot in known.items():
        _redefine(session, slot, newest[slot_id])
    met = [newest[slot_id] for slot_id in fresh if slot_id not in made]
    if met:  # other deliveries have made them in this moment: look at them again
        define(session, *met)


def _make(session: Session, facts: Sequence[SlotChanged]) -> set[str]:
    """Write the slots that there were none of; return which."""
    if not facts:
        return set()
    rows = [{"id": fact.slot_id, "capacity": fact.capacity, **_definition(fact)} for fact in facts]
    made = session.execute(_returning(insert(Slot).values(rows).on_conflict_do_nothing())).all()
    return {_noted(session, row).slot_id for row in made}


def _redefine(session: Session, slot: Slot, fact: SlotChanged) -> None:
    if slot.definition_version > fact.version:
        return
    definition = _definition(fact)
    if fact.deleted and session.scalar(select(exists().where(Join.slot_id == fact.slot_id))):
        definition |= {"deleted": False, "status": SlotStatus.CLOSED}
    capacity = None if fact.capacity is None else max(fact.capacity, slot.taken + slot.held)
    changed = _changed(
        session,
        update(Slot).where(Slot.id == fact.slot_id).values(capacity=capacity, version=Slot.version + 1, **definition),
    )
    if changed is not None and changed.waiting:  # what is free now is not for who comes now: catalog has to hear of it
        record_line(session, slot, changed)


def _definition(fact: SlotChanged) -> dict[str, Any]:
    return {
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


def record_line(session: Session, slot: Slot | SlotRow, changed: SlotTaken) -> None:
    """Record what became of a slot's line, for those who show what is left."""
    outbox.record(session, _line(slot, changed))


def lines(session: Session) -> Iterator[LineChanged]:
    """Yield the fact of every line that there is, for services that start empty."""
    for slot in session.scalars(select(Slot).where((Slot.waiting > 0) | (Slot.held > 0))):
        yield _line(slot, current(slot))


def _line(slot: Slot | SlotRow, changed: SlotTaken) -> LineChanged:
    return LineChanged(
        version=changed.version,
        slot_id=slot.id,
        item_id=slot.item_id,
        hall_id=slot.hall_id,
        date=slot.date,
        start=slot.start,
        slot=changed,
    )
