"""Notify's own record of joins, which every stat is derived from."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.contracts.booking import JoinEvent, JoinMoved
from services.notify import policy, stats
from services.notify.models import JoinRecord
from services.notify.policy import Counts
from services.notify.stats import UNHEARD, Inventory, Place


def follow(session: Session, facts: Sequence[JoinEvent], *, now: datetime) -> None:
    """Bring the record of joins and the stats of their slots to what the events say, one after another.

    An event older than the record leaves it alone; what it knows of an inventory still counts where it is news.
    """
    added = _add_missing(session, facts)
    changes: defaultdict[str, Counts] = defaultdict(Counts)
    heard: dict[str, Inventory] = {}
    for fact in facts:
        for slot_id, change in _changes(session, fact, added).items():
            changes[slot_id] += change
        for slot_id, inventory in _heard(fact).items():
            heard[slot_id] = inventory.merged(heard.get(slot_id, UNHEARD))
    stats.apply(session, changes, heard, now=now)


def _add_missing(session: Session, facts: Sequence[JoinEvent]) -> set[str]:
    """Write the record of each join that had none, as the first event about it says; return the ids of those."""
    first = {fact.join_id: _values(fact) for fact in reversed(facts)}
    added = insert(JoinRecord).on_conflict_do_nothing(index_elements=["join_id"]).returning(JoinRecord.join_id)
    return set(session.scalars(added, list(first.values())))


def _changes(session: Session, fact: JoinEvent, added: set[str]) -> dict[str, Counts]:
    """Bring the record of a join to what the event says; return what that changes, of which slot."""
    values = _values(fact)
    if fact.join_id in added:
        added.remove(fact.join_id)
        return policy.changes(None, _seat(values))
    known = _known(session, fact.join_id)
    if known["version"] >= fact.version:
        return {}
    session.execute(update(JoinRecord).where(JoinRecord.join_id == fact.join_id).values(**values))
    return policy.changes(_seat(known), _seat(values))


def _known(session: Session, join_id: str) -> dict[str, Any]:
    """Lock the record and return what it says."""
    row = session.execute(
        select(
            JoinRecord.slot_id,
            JoinRecord.status,
            JoinRecord.checked_in_at,
            JoinRecord.missed_at,
            JoinRecord.version,
        )
        .where(JoinRecord.join_id == join_id)
        .with_for_update()
    ).one()
    return dict(row._mapping)


def _values(fact: JoinEvent) -> dict[str, Any]:
    return {
        "join_id": fact.join_id,
        "party_id": fact.party_id,
        "user_id": fact.user_id,
        "slot_id": fact.slot_id,
        "item_id": fact.item_id,
        "hall_id": fact.hall_id,
        "day": fact.date,
        "starts_at": fact.starts_at,
        "ends_at": fact.ends_at,
        "status": fact.status.value,
        "booked_at": fact.booked_at,
        "checked_in_at": fact.checked_in_at,
        "missed_at": fact.missed_at,
        "version": fact.version,
    }


def _seat(record: dict[str, Any]) -> policy.Seat:
    return policy.seat(
        record["slot_id"],
        status=record["status"],
        checked_in=record["checked_in_at"] is not None,
        missed=record["missed_at"] is not None,
    )


def _heard(fact: JoinEvent) -> dict[str, Inventory]:
    place = Place(item_id=fact.item_id, hall_id=fact.hall_id, day=fact.date)
    heard = {fact.slot_id: Inventory.of(fact.slot, place)}
    if isinstance(fact, JoinMoved):
        heard[fact.left.slot_id] = Inventory.of(fact.left, None)
    return heard
