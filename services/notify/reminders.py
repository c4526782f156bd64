"""Reminders: each join knows when its user is to be reminded of it next, and whoever finds it due does so, once."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, select, update
from sqlalchemy.orm import Session

from libs.common import failpoints
from libs.common.ids import new_id
from services.notify import notices, policy
from services.notify.models import AWAITED, Hall, Item, JoinRecord, SlotStat
from services.notify.texts import NoticeKind

Told = tuple[str, str, int]  # a user, a slot, and which reminder, in minutes before

# Of a join with its slot, item and hall: it can be come to.
IS_OPEN = and_(func.coalesce(SlotStat.is_open, True), Item.is_served, Hall.is_open)
_MOST_OF_A_ZONE = timedelta(days=2)  # more than a hall's date can differ from ours


def reschedule(session: Session, of_slots: ColumnElement[bool], *, since: datetime) -> None:
    """Find out anew when the joins of some slots are to be reminded of, as hall and item are known now.

    What was due before and is not sent yet stays due.
    """
    ahead = select(SlotStat.slot_id).where(of_slots, SlotStat.day >= (since - _MOST_OF_A_ZONE).date())
    rows = session.execute(
        select(JoinRecord.join_id, JoinRecord.starts_at, JoinRecord.next_reminder_at, Item.reminders, Hall.timezone)
        .join(Item, Item.id == JoinRecord.item_id)
        .join(Hall, Hall.id == JoinRecord.hall_id)
        .where(JoinRecord.slot_id.in_(ahead), JoinRecord.starts_at > since, *AWAITED)
        .order_by(JoinRecord.join_id)
        .with_for_update(of=JoinRecord)
    )
    changed = []
    for join_id, starts_at, waits_for, minutes, zone in rows:
        due = policy.reminders_of(starts_at, minutes, zone)
        becomes = policy.next_reminder(due, since=min(since, waits_for or since))
        if becomes != waits_for:
            changed.append({"join_id": join_id, "next_reminder_at": becomes})
    if changed:
        session.execute(update(JoinRecord), changed)


def send(session: Session, *, now: datetime, at_most: int) -> int:
    """Remind the users of some joins for which that is due; return how many joins were looked at.

    A party is reminded once. What nobody was reminded of in time is sent late, unless the next reminder has come due or
    the slot has started. Nobody is reminded of what is closed. Any number of processes may do this beside each other.
    """
    rows = _take(session, now=now, at_most=at_most)
    told: dict[Told, Row[Any]] = {}
    looked_at = []
    for row in rows:
        all_of_slot = policy.reminders_of(row.starts_at, row.reminders, row.timezone)
        reminder = policy.reminder_due(all_of_slot, since=row.next_reminder_at, starts_at=row.starts_at, now=now)
        if reminder is not None and row.is_open:
            told.setdefault((row.user_id, row.slot_id, reminder.minutes), row)
        looked_at.append({"join_id": row.join_id, "next_reminder_at": policy.next_reminder(all_of_slot, since=now)})
    people = _people(session, told)
    notices.write(
        session,
        [
            _notice(row, minutes, people=people[user_id, slot_id], now=now)
            for (user_id, slot_id, minutes), row in told.items()
        ],
    )
    failpoints.reach("reminders.told")
    if looked_at:
        session.execute(update(JoinRecord), looked_at)
    return len(rows)


def erase(session: Session, join_ids: Iterable[str]) -> None:
    """Remind nobody of these joins any more."""
    awaited = select(JoinRecord.join_id).where(
        JoinRecord.join_id.in_(join_ids), JoinRecord.next_reminder_at.is_not(None)
    )
    found = session.scalars(awaited.order_by(JoinRecord.join_id).with_for_update()).all()
    session.execute(update(JoinRecord).where(JoinRecord.join_id.in_(found)).values(next_reminder_at=None))


def overdue_s(session: Session, *, now: datetime) -> float:
    """Return for how long the oldest reminder has been due, in seconds; 0 where none is."""
    oldest = session.scalar(select(func.min(JoinRecord.next_reminder_at)))
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def _take(session: Session, *, now: datetime, at_most: int) -> Sequence[Row[Any]]:
    """Lock some of the joins whose users are to be reminded, those who have waited longest first."""
    return session.execute(
        select(
            JoinRecord.join_id,
            JoinRecord.party_id,
            JoinRecord.user_id,
            JoinRecord.slot_id,
            JoinRecord.hall_id,
            JoinRecord.starts_at,
            JoinRecord.ends_at,
            JoinRecord.next_reminder_at,
            Item.title,
            Item.reminders,
            Hall.name.label("hall_name"),
            Hall.timezone,
            IS_OPEN.label("is_open"),
        )
        .outerjoin(SlotStat, SlotStat.slot_id == JoinRecord.slot_id)
        .join(Item, Item.id == JoinRecord.item_id)
        .join(Hall, Hall.id == JoinRecord.hall_id)
        .where(JoinRecord.next_reminder_at < now)
        .order_by(JoinRecord.next_reminder_at, JoinRecord.join_id)
        .limit(at_most)
        .with_for_update(of=JoinRecord, skip_locked=True)
    ).all()


def _people(session: Session, told: Iterable[Told]) -> dict[tuple[str, str], int]:
    """Return how many people each user has in each slot."""
    counted = session.execute(
        select(JoinRecord.user_id, JoinRecord.slot_id, func.count())
        .where(JoinRecord.slot_id.in_({slot_id for _, slot_id, _ in told}))
        .where(JoinRecord.user_id.in_({user_id for user_id, _, _ in told}), *AWAITED)
        .group_by(JoinRecord.user_id, JoinRecord.slot_id)
    )
    return {(user_id, slot_id): count for user_id, slot_id, count in counted}


def _notice(row: Row[Any], minutes: int, *, people: int, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "user_id": row.user_id,
        "hall_id": row.hall_id,
        "kind": NoticeKind.REMINDER.value,
        "action_id": f"{row.slot_id} {row.starts_at.isoformat()} -{minutes}",  # one that has moved reminds again
        "join_id": row.join_id,
        "party_id": row.party_id,
        "people": people,
        "params": {"hall_name": row.hall_name, "item_title": row.title, "reason": ""}
        | notices.when(row.starts_at, row.ends_at, row.timezone),
        "happened_at": now,
    }
