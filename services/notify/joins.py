"""Notify's own record of joins, which every stat is derived from."""

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.contracts.booking import JoinEvent, JoinMoved
from services.notify import policy, stats
from services.notify.models import JoinRecord
from services.notify.stats import Inventory, Place


def follow(session: Session, fact: JoinEvent, *, now: datetime) -> None:
    """Bring the record of a join and the stats of its slots to what the event says.

    An event older than the record leaves it alone; what it knows of an inventory still counts where it is news.
    """
    values = _values(fact)
    known = _known(session, values)
    if known is None:
        changes = policy.changes(None, _seat(values))
    elif known["version"] < fact.version:
        session.execute(update(JoinRecord).where(JoinRecord.join_id == fact.join_id).values(**values))
        changes = policy.changes(_seat(known), _seat(values))
    else:
        changes = {}
    stats.apply(session, changes, _heard(fact), now=now)


def _known(session: Session, values: dict[str, Any]) -> dict[str, Any] | None:
    """Lock the record and return what it says, or None where it did not exist and was written now."""
    added = session.scalar(
        insert(JoinRecord)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["join_id"])
        .returning(JoinRecord.join_id)
    )
    if added is not None:
        return None
    row = session.execute(
        select(
            JoinRecord.slot_id,
            JoinRecord.status,
            JoinRecord.checked_in_at,
            JoinRecord.missed_at,
            JoinRecord.version,
        )
        .where(JoinRecord.join_id == values["join_id"])
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
