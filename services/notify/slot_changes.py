"""Changes of slots that people have joined: the record of their joins follows, and they are told, each change once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select, update
from sqlalchemy.orm import Session

from libs.common.ids import new_id
from libs.common.inbox import Heard
from libs.common.messages import Message
from libs.contracts.catalog import SlotChanged
from services.notify import notices, policy, statements, stats
from services.notify.models import Hall, Item, JoinRecord, SlotStat
from services.notify.policy import Counts
from services.notify.stats import is_open
from services.notify.texts import NoticeKind


def take_over(session: Session, heard: Sequence[Heard], *, now: datetime) -> None:
    """Keep the newest definition of each slot that is heard of, and let the joins there follow: a year is some statements."""
    newest: dict[str, Heard] = {}
    for fact, message in heard:
        if fact.slot_id not in newest or newest[fact.slot_id][0].version <= fact.version:
            newest[fact.slot_id] = (fact, message)
    facts = [fact for fact, _ in newest.values()]
    _hold(session, facts)
    stats.define(session, facts, now=now)
    follow(session, JoinRecord.slot_id.in_(newest), heard_in=lambda row: newest[row.slot_id][1], now=now)


def _hold(session: Session, facts: Sequence[SlotChanged]) -> None:
    """Lock the joins that definitions are about to change: records come before stats wherever both are locked."""
    rows = [
        {
            "slot_id": fact.slot_id,
            "definition_version": fact.version,
            "starts_at": fact.starts_at,
            "ends_at": fact.ends_at,
            "is_open": is_open(fact),
        }
        for fact in facts
    ]
    statements.carry_out(session, statements.HOLD_RECORDS, rows)


def follow(
    session: Session, which: ColumnElement[bool], *, heard_in: Callable[[Row[Any]], Message], now: datetime
) -> None:
    """Bring these joins to what catalog has said of their slots since; tell those who are expected there.

    `heard_in` returns what the change of a join, a row of these, was found by; what is replayed tells nobody. The caller has locked the stats of
    the slots, so that no join and no definition passes by the other unseen.
    """
    rows = session.execute(_behind(which)).all()
    if not rows:
        return
    session.execute(update(JoinRecord), [_followed(row, heard_in(row)) for row in rows])
    stats.apply(session, _changes(rows), {}, now=now)
    notices.write(session, _notices([row for row in rows if _is_news(row, heard_in(row), now)], heard_in))


def _changes(rows: Sequence[Row[Any]]) -> dict[str, Counts]:
    """Return what it changes of the stats that joins turn out to have been booked longer or shorter before the start."""
    changes: defaultdict[str, Counts] = defaultdict(Counts)
    for row in rows:
        record = row._asdict()
        before = policy.seat_of(record, starts_at=row.left_starts_at)
        after = policy.seat_of(record, starts_at=row.starts_at)
        for slot_id, change in policy.changes(before, after).items():
            changes[slot_id] += change
    return changes


def _behind(which: ColumnElement[bool]) -> Any:
    return (
        select(
            JoinRecord.join_id,
            JoinRecord.party_id,
            JoinRecord.user_id,
            JoinRecord.slot_id,
            JoinRecord.hall_id,
            JoinRecord.status,
            JoinRecord.checked_in_at,
            JoinRecord.missed_at,
            JoinRecord.booked_at,
            JoinRecord.starts_at.label("left_starts_at"),
            JoinRecord.ends_at.label("left_ends_at"),
            JoinRecord.next_reminder_at,
            (JoinRecord.definition_version < SlotStat.status_since).label("opened_or_closed"),
            SlotStat.starts_at,
            SlotStat.ends_at,
            SlotStat.is_open,
            SlotStat.definition_version,
            Item.title,
            Item.reminders,
            Hall.name.label("hall_name"),
            Hall.timezone,
        )
        .join(SlotStat, SlotStat.slot_id == JoinRecord.slot_id)
        .join(Item, Item.id == JoinRecord.item_id)
        .join(Hall, Hall.id == JoinRecord.hall_id)
        .where(which, JoinRecord.definition_version < SlotStat.definition_version)
        .where(
            or_(
                JoinRecord.starts_at != SlotStat.starts_at,
                JoinRecord.ends_at != SlotStat.ends_at,
                JoinRecord.definition_version < SlotStat.status_since,
            )
        )
        .order_by(JoinRecord.join_id)
        .with_for_update(of=JoinRecord)
    )


def _followed(row: Row[Any], message: Message) -> dict[str, Any]:
    """Return what the record of a join becomes."""
    return {
        "join_id": row.join_id,
        "starts_at": row.starts_at,
        "ends_at": row.ends_at,
        "definition_version": row.definition_version,
        "next_reminder_at": _next_reminder(row, message),
    }


def _next_reminder(row: Row[Any], message: Message) -> datetime | None:
    """Reminders go by the start: where the end alone is another, what is due and not sent yet stays due."""
    if row.left_starts_at == row.starts_at:
        before: datetime | None = row.next_reminder_at
        return before
    if not _is_awaited(row):
        return None
    return policy.next_reminder(policy.reminders_of(row.starts_at, row.reminders, row.timezone), since=message.time)


def _is_awaited(row: Row[Any]) -> bool:
    return row.status == "booked" and row.checked_in_at is None


def _has_moved(row: Row[Any]) -> bool:
    return (row.left_starts_at, row.left_ends_at) != (row.starts_at, row.ends_at)


def _is_news(row: Row[Any], message: Message, now: datetime) -> bool:
    return not message.replayed and _is_awaited(row) and max(row.left_ends_at, row.ends_at) > now


def _notices(rows: Sequence[Row[Any]], heard_in: Callable[[Row[Any]], Message]) -> list[dict[str, Any]]:
    told: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in rows:
        told.setdefault((row.user_id, row.slot_id), []).append(row)
    return [
        {
            "id": new_id(),
            "user_id": user_id,
            "hall_id": joined[0].hall_id,
            "kind": NoticeKind.SLOT_CHANGED.value,
            "action_id": f"{slot_id} {joined[0].definition_version}",
            "join_id": joined[0].join_id,
            "party_id": joined[0].party_id,
            "people": len(joined),
            "params": _params(joined[0]),
            "happened_at": heard_in(joined[0]).time,
        }
        for (user_id, slot_id), joined in told.items()
    ]


def _params(row: Row[Any]) -> dict[str, Any]:
    params = {"hall_name": row.hall_name, "item_title": row.title, "reason": ""}
    params |= notices.when(row.starts_at, row.ends_at, row.timezone)
    if _has_moved(row):
        left = notices.when(row.left_starts_at, row.left_ends_at, row.timezone)
        params |= {f"left_{name}": value for name, value in left.items()}
    if row.opened_or_closed:
        params["change"] = "opened" if row.is_open else "closed"
    return params
