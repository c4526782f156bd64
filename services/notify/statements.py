"""The SQL of following events: raw, and one statement for many rows.

The ORM followed some hundred events a second on the machine of docs/performance.md, these statements some thousands. Rows
go in as one JSON text, so that a statement is the same for any number of them, and prepared once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.notify.models import Base, DayStat, HourStat, JoinRecord, Notice, SlotStat


def _names(model: type[Base]) -> list[str]:
    return [column.name for column in model.__table__.columns]


def _rows_of(table: str, names: Iterable[str]) -> str:
    return f"SELECT {', '.join(names)} FROM json_populate_recordset(NULL::{table}, CAST(:rows AS json))"  # noqa: S608  # names of our own


def _insert(model: type[Base], names: Sequence[str], then: str) -> str:
    table = model.__tablename__
    return f"INSERT INTO {table} ({', '.join(names)}) {_rows_of(table, names)} ON CONFLICT {then}"


def _update(model: type[Base], key: str, names: Sequence[str], *also: str) -> str:
    table = model.__tablename__
    sets = ", ".join([*(f"{name} = change.{name}" for name in names), *also])
    return f"UPDATE {table} SET {sets} FROM ({_rows_of(table, [key, *names])}) AS change WHERE {table}.{key} = change.{key}"  # noqa: S608


def _add(model: type[Base]) -> str:
    table = model.__tablename__
    keys = [column.name for column in model.__table__.primary_key]
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _names(model) if name not in keys)
    return _insert(model, _names(model), f"({', '.join(keys)}) DO UPDATE SET {sums}")


_OF_RECORD = [name for name in _names(JoinRecord) if name != "join_id"]
_OF_SLOT = [name for name in _names(SlotStat) if name not in ("slot_id", "changed_by")]

ADD_RECORDS = text(_insert(JoinRecord, _names(JoinRecord), "DO NOTHING RETURNING join_id::text"))
LOCK_RECORDS = text(
    """
SELECT join_id::text, slot_id::text, status, checked_in_at, missed_at, booked_at, starts_at, version
FROM join_records
WHERE join_id = ANY(CAST(:ids AS uuid[]))
ORDER BY join_id
FOR UPDATE"""
)
HOLD_RECORDS = text(
    """
SELECT record.join_id
FROM json_to_recordset(CAST(:rows AS json))
    AS said (slot_id uuid, definition_version bigint, starts_at timestamptz, ends_at timestamptz, is_open boolean)
JOIN join_records AS record ON record.slot_id = said.slot_id AND record.definition_version < said.definition_version
JOIN slot_stats AS stat ON stat.slot_id = said.slot_id
WHERE record.starts_at != said.starts_at OR record.ends_at != said.ends_at OR stat.is_open != said.is_open
ORDER BY record.join_id
FOR UPDATE OF record"""
)
CHANGE_RECORDS = text(_update(JoinRecord, "join_id", _OF_RECORD))

ADD_SLOTS = text(_insert(SlotStat, [name for name in _names(SlotStat) if name != "changed_by"], "(slot_id) DO NOTHING"))
LOCK_SLOTS = text(
    """
SELECT slot_id::text, item_id::text, hall_id::text, day, booked, cancelled, revoked, checked_in, missed, taken, capacity,
    slot_version, asked, definition_version, starts_at, ends_at, is_open, status_since, version, hour, lead_minutes, lead_hour, lead_day, lead_three_days, lead_week,
    lead_fortnight
FROM slot_stats
WHERE slot_id = ANY(CAST(:ids AS uuid[]))
ORDER BY slot_id
FOR UPDATE"""
)
# Who reads what has changed goes by the transaction: a number drawn from a sequence can be committed after a greater one.
CHANGE_SLOTS = text(
    _update(SlotStat, "slot_id", _OF_SLOT, "changed_by = CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
)

ADD_TO_DAYS = text(_add(DayStat))
ADD_TO_HOURS = text(_add(HourStat))

ADD_NOTICES = text(
    _insert(
        Notice,
        [name for name in _names(Notice) if name != "read_at"],
        "(user_id, kind, action_id) DO NOTHING RETURNING id::text",
    )
)


def carry_out(session: Session, statement: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """Carry out a statement that takes rows; they are locked in the order in which they are given."""
    return session.execute(statement, {"rows": to_json(rows).decode()})
