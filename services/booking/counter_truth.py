"""What PostgreSQL says about slots, for counters that missed something or were never told."""

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select, text, union

from libs.common.clock import utcnow
from libs.common.db import Database
from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import SlotStatus
from services.booking.counts import Count, Epoch
from services.booking.models import Join, MovedAway, Slot, Wait

BATCH = 200

# All of it may be asked by any login (15 to 18). The timeline is that of the log being written: the one that
# pg_control_checkpoint() tells is the last checkpoint's, and after a promotion that may be the old one for minutes.
_EPOCH = text("""
    SELECT (SELECT system_identifier FROM pg_control_system())::text AS system,
           pg_walfile_name(pg_current_wal_insert_lsn()) AS wal_file,
           (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_us
""")


@dataclass(frozen=True)
class Reading:
    """What was read in one snapshot: the history it belongs to, a count for each slot, and who is in it if asked.

    `booked` people of each slot; `lined`: for how many of its line places are held, and how many wait.
    """

    epoch: Epoch
    counts: dict[str, Count]
    booked: dict[str, int]
    lined: dict[str, tuple[int, int]]


def epoch(db: Database) -> Epoch:
    """Return which history PostgreSQL is writing, or raise DBAPIError."""
    with db.engine.connect() as connection:
        return _epoch(connection)


def read(
    db: Database, slot_ids: Iterable[str], *, holders_of: Collection[str] = (), count_booked: bool = False
) -> Reading:
    """Read slots in one snapshot, with every user who has, had or is offered a place where asked; unknown ids are left out."""
    seen_at = time.monotonic()  # before the snapshot: whatever is committed later is no part of it
    with db.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        counts = _counts(connection, list(slot_ids), seen_at)
        for slot_id in counts.keys() & set(holders_of):
            counts[slot_id] = replace(counts[slot_id], before=0, holders=_holders(connection, slot_id))
        booked = _booked(connection, list(counts)) if count_booked else {}
        lined = _lined(connection, list(counts)) if count_booked else {}
        return Reading(_epoch(connection), counts, booked, lined)


def not_over(db: Database) -> Iterator[list[str]]:
    """Yield the ids of all slots that are not over, some at a time."""
    last = ""
    while True:
        query = select(Slot.id).where(Slot.ends_at > utcnow()).order_by(Slot.id).limit(BATCH)
        with db.transaction() as session:
            slot_ids = list(session.scalars(query.where(Slot.id > last) if last else query))
        if slot_ids:
            yield slot_ids
        if len(slot_ids) < BATCH:
            return
        last = slot_ids[-1]


def _epoch(connection: Connection) -> Epoch:
    row = connection.execute(_EPOCH).one()
    return Epoch(system=row.system, timeline=int(row.wal_file[:8], 16), started_us=row.started_us)


def _counts(connection: Connection, slot_ids: list[str], seen_at: float) -> dict[str, Count]:
    rows = connection.execute(
        select(
            Slot.id, Slot.version, Slot.taken, Slot.held, Slot.waiting, Slot.capacity, Slot.status, Slot.deleted
        ).where(Slot.id.in_(slot_ids))
    )
    return {
        row.id: Count(
            slot_id=row.id,
            before=row.version,
            version=row.version,
            taken=row.taken,
            capacity=row.capacity,
            is_open=row.status == SlotStatus.OPEN and not row.deleted,
            held=row.held,
            waiting=row.waiting,
            seen_at=seen_at,
        )
        for row in rows
    }


def _holders(connection: Connection, slot_id: str) -> frozenset[str]:
    here = select(Join.user_id).where(Join.slot_id == slot_id)
    moved_away = select(MovedAway.user_id).where(MovedAway.slot_id == slot_id)
    offered = select(Wait.user_id).where(
        Wait.slot_id == slot_id, Wait.ended_at.is_(None), Wait.offered_until.is_not(None)
    )
    return frozenset(connection.scalars(union(here, moved_away, offered)))


def _booked(connection: Connection, slot_ids: list[str]) -> dict[str, int]:
    rows = connection.execute(
        select(Join.slot_id, func.count().label("people"))
        .where(Join.slot_id.in_(slot_ids))
        .where(Join.status == JoinStatus.BOOKED)
        .group_by(Join.slot_id)
    )
    return {row.slot_id: row.people for row in rows}


def _lined(connection: Connection, slot_ids: list[str]) -> dict[str, tuple[int, int]]:
    is_offered = Wait.offered_until.is_not(None)
    rows = connection.execute(
        select(
            Wait.slot_id,
            func.coalesce(func.sum(Wait.people).filter(is_offered), 0),
            func.coalesce(func.sum(Wait.people).filter(~is_offered), 0),
        )
        .where(Wait.slot_id.in_(slot_ids), Wait.ended_at.is_(None))
        .group_by(Wait.slot_id)
    )
    return {slot_id: (held, waiting) for slot_id, held, waiting in rows}
