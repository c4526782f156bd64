"""Notify's own record of joins, which every stat is derived from."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from libs.contracts.booking import JoinEvent, JoinMoved
from services.notify import policy, statements, stats
from services.notify.policy import Counts
from services.notify.stats import UNHEARD, Inventory, Place

Record = dict[str, Any]


def follow(session: Session, facts: Sequence[JoinEvent], *, now: datetime) -> None:
    """Bring the record of joins and the stats of their slots to what the events say, one after another.

    An event older than the record leaves it alone; what it knows of an inventory still counts where it is news.
    """
    records, unseen = _records(session, facts)
    changes: defaultdict[str, Counts] = defaultdict(Counts)
    heard: dict[str, Inventory] = {}
    changed: dict[str, Record] = {}
    for fact in facts:
        before = records[fact.join_id]
        is_first = fact.join_id in unseen
        if is_first or before["version"] < fact.version:
            after = _values(fact)
            for slot_id, change in policy.changes(None if is_first else _seat(before), _seat(after)).items():
                changes[slot_id] += change
            records[fact.join_id] = after
            if not is_first:
                changed[fact.join_id] = after
            unseen.discard(fact.join_id)
        for slot_id, inventory in _heard(fact).items():
            heard[slot_id] = inventory.merged(heard.get(slot_id, UNHEARD))
    if changed:
        statements.carry_out(session, statements.CHANGE_RECORDS, list(changed.values()))
    stats.apply(session, changes, heard, now=now)


def _records(session: Session, facts: Sequence[JoinEvent]) -> tuple[dict[str, Record], set[str]]:
    """Return the record of each join, locked, and which were written just now: as the first event about each says."""
    first = {fact.join_id: _values(fact) for fact in reversed(facts)}
    rows = [first[join_id] for join_id in sorted(first)]
    added = set(statements.carry_out(session, statements.ADD_RECORDS, rows).scalars())
    known = sorted(first.keys() - added)
    records = {join_id: first[join_id] for join_id in added}
    if known:
        locked = session.execute(statements.LOCK_RECORDS, {"ids": known})
        records |= {row.join_id: dict(row._mapping) for row in locked}
    return records, added


def _values(fact: JoinEvent) -> Record:
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


def _seat(record: Record) -> policy.Seat:
    return policy.seat(
        record["slot_id"],
        status=record["status"],
        checked_in=record["checked_in_at"] is not None,
        missed=record["missed_at"] is not None,
        lead=record["starts_at"] - record["booked_at"],
    )


def _heard(fact: JoinEvent) -> dict[str, Inventory]:
    place = Place(item_id=fact.item_id, hall_id=fact.hall_id, day=fact.date, hour=fact.start.hour)
    heard = {fact.slot_id: Inventory.of(fact.slot, place)}
    if isinstance(fact, JoinMoved):
        heard[fact.left.slot_id] = Inventory.of(fact.left, None)
    return heard
