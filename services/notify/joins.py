"""Notify's own record of joins, which every stat is derived from."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from libs.common.inbox import Heard
from libs.contracts.booking import JoinEvent, JoinMoved, JoinStatus
from services.notify import copies, policy, slot_changes, statements, stats
from services.notify.copies import Known
from services.notify.models import JoinRecord
from services.notify.policy import Counts
from services.notify.stats import UNHEARD, Inventory, Place

Record = dict[str, Any]


def follow(session: Session, heard: Sequence[Heard], *, now: datetime) -> None:
    """Bring the record of joins and the stats of their slots to what the events say, one after another.

    An event older than the record leaves it alone; what it knows of an inventory still counts where it is news.
    """
    known = copies.of_joins(session, [fact for fact, _ in heard])
    told = [(fact, _values(fact, message.time, known[fact.item_id])) for fact, message in heard]
    records, unseen = _records(session, [values for _, values in told])
    changes: defaultdict[str, Counts] = defaultdict(Counts)
    inventories: dict[str, Inventory] = {}
    changed: dict[str, Record] = {}
    for fact, after in told:
        before = records[fact.join_id]
        is_first = fact.join_id in unseen
        if is_first or before["version"] < fact.version:
            for slot_id, change in policy.changes(None if is_first else _seat(before), _seat(after)).items():
                changes[slot_id] += change
            records[fact.join_id] = after
            if not is_first:
                changed[fact.join_id] = after
            unseen.discard(fact.join_id)
        for slot_id, inventory in _inventories(fact).items():
            inventories[slot_id] = inventory.merged(inventories.get(slot_id, UNHEARD))
    if changed:
        statements.carry_out(session, statements.CHANGE_RECORDS, list(changed.values()))
    stats.apply(session, changes, inventories, now=now)
    last = {fact.join_id: message for fact, message in heard}
    slot_changes.follow(session, JoinRecord.join_id.in_(last), heard_in=lambda row: last[row.join_id], now=now)


def _records(session: Session, told: Sequence[Record]) -> tuple[dict[str, Record], set[str]]:
    """Return the record of each join, locked, and which were written just now: as the first event about each says."""
    first = {values["join_id"]: values for values in reversed(told)}
    rows = [first[join_id] for join_id in sorted(first)]
    added = set(statements.carry_out(session, statements.ADD_RECORDS, rows).scalars())
    known = sorted(first.keys() - added)
    records = {join_id: first[join_id] for join_id in added}
    if known:
        locked = session.execute(statements.LOCK_RECORDS, {"ids": known})
        records |= {row.join_id: dict(row._mapping) for row in locked}
    return records, added


def _values(fact: JoinEvent, at: datetime, known: Known) -> Record:
    """Return what the record of a join is after an event that happened at this instant."""
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
        "definition_version": fact.definition_version,
        "next_reminder_at": _next_reminder(fact, at, known),
    }


def _next_reminder(fact: JoinEvent, at: datetime, known: Known) -> datetime | None:
    if fact.status != JoinStatus.BOOKED or fact.checked_in_at is not None:
        return None
    return policy.next_reminder(policy.reminders_of(fact.starts_at, known.reminders, known.timezone), since=at)


def _seat(record: Record) -> policy.Seat:
    return policy.seat_of(record, starts_at=record["starts_at"])


def _inventories(fact: JoinEvent) -> dict[str, Inventory]:
    place = Place(item_id=fact.item_id, hall_id=fact.hall_id, day=fact.date, hour=fact.start.hour)
    found = {fact.slot_id: Inventory.of(fact.slot, place)}
    if isinstance(fact, JoinMoved):
        found[fact.left.slot_id] = Inventory.of(fact.left, None)
    return found
