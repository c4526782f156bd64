"""Decisions of notify about what a join counts for and when its user is told: pure, and handed the time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from operator import add, attrgetter, neg
from typing import Any
from zoneinfo import ZoneInfo

from libs.contracts.catalog import QuietHours
from services.notify.texts import NoticeKind

FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

# How long before the slot's start the booked were booked: shorter than this, and longer than the class before. Those
# that are longer than all are the rest of the booked.
LEADS = {
    "lead_hour": timedelta(hours=1),
    "lead_day": timedelta(days=1),
    "lead_three_days": timedelta(days=3),
    "lead_week": timedelta(days=7),
    "lead_fortnight": timedelta(days=14),
}


@dataclass(frozen=True)
class Counts:
    """How many joins are in which state. `checked_in` and `missed` are among the `booked`.

    `lead_minutes` is the sum, over the booked, of the time from booking to the slot's start; the others that begin with
    `lead` are how many of them were booked how long before (LEADS).
    """

    booked: int = 0
    cancelled: int = 0
    revoked: int = 0
    checked_in: int = 0
    missed: int = 0
    lead_minutes: int = 0
    lead_hour: int = 0
    lead_day: int = 0
    lead_three_days: int = 0
    lead_week: int = 0
    lead_fortnight: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(add, _values(self), _values(other)))

    def __neg__(self) -> "Counts":
        return Counts(*map(neg, _values(self)))

    def __bool__(self) -> bool:
        return any(_values(self))


COUNTS = tuple(field.name for field in fields(Counts))
_values = attrgetter(*COUNTS)


@dataclass(frozen=True)
class Seat:
    """Where a join stands: its slot, and what it counts for there."""

    slot_id: str
    counts: Counts


def seat(slot_id: str, *, status: str, checked_in: bool, missed: bool, lead: timedelta) -> Seat:
    """Say what a join in this state counts for that was booked so long before the slot's start."""
    booked = status == "booked"
    counts = Counts(
        booked=int(booked),
        cancelled=int(status == "cancelled"),
        revoked=int(status == "revoked"),
        checked_in=int(booked and checked_in),
        missed=int(booked and missed),
        lead_minutes=max(0, lead // timedelta(minutes=1)) if booked else 0,
        **(_class_of(lead) if booked else {}),
    )
    return Seat(slot_id, counts)


def seat_of(record: Mapping[str, Any], *, starts_at: datetime) -> Seat:
    """Say what the join of a record counts for in its slot if that starts at this instant."""
    return seat(
        record["slot_id"],
        status=record["status"],
        checked_in=record["checked_in_at"] is not None,
        missed=record["missed_at"] is not None,
        lead=starts_at - record["booked_at"],
    )


def _class_of(lead: timedelta) -> dict[str, int]:
    name = next((name for name, bound in LEADS.items() if lead < bound), None)
    return {name: 1} if name else {}


def changes(before: Seat | None, after: Seat) -> dict[str, Counts]:
    """Return what to add to the stat of each slot when a join goes from one seat to another; a move concerns two."""
    found = {after.slot_id: after.counts}
    if before is not None:
        found[before.slot_id] = found.get(before.slot_id, Counts()) + -before.counts
    return {slot_id: change for slot_id, change in found.items() if change}


def in_force(asked: int | None, taken: int) -> int | None:
    """Return the capacity of a slot of which this much was asked (None: no limit): nobody is thrown out."""
    return None if asked is None else max(asked, taken)


def first_version(now: datetime) -> int:
    """Return the version a new stat starts with: seconds since the product's first day.

    Not 1: where notify lost its tables and was filled again, others still remember the old, higher versions.
    """
    return max(1, int((now - FIRST_DAY).total_seconds()))


# --- reminders ---


@dataclass(frozen=True, order=True)
class Reminder:
    """When people are reminded of a slot, and how many minutes before its start its item calls that."""

    due_at: datetime
    minutes: int


def reminders_of(starts_at: datetime, minutes: Iterable[int], zone: str) -> list[Reminder]:
    """Return the reminders of a slot, the earliest first.

    Whole days are counted on the hall's clock, so that "a day before" is the same time of day in weeks with 23 and 25
    hours, too; what is left of a day counts in real minutes.
    """
    due = [Reminder(_before(starts_at, before, zone), before) for before in minutes]
    return sorted(reminder for reminder in due if reminder.due_at < starts_at)


def _before(starts_at: datetime, minutes: int, zone: str) -> datetime:
    days, rest = divmod(minutes, 24 * 60)
    if days:
        local = starts_at.astimezone(ZoneInfo(zone))
        starts_at = _instant(local.date() - timedelta(days=days), local.time(), zone)
    return starts_at - timedelta(minutes=rest)


def next_reminder(reminders: Iterable[Reminder], *, since: datetime) -> datetime | None:
    """Return when the first of them is due that is not due before `since`."""
    return min((reminder.due_at for reminder in reminders if reminder.due_at >= since), default=None)


def reminder_due(
    reminders: Iterable[Reminder], *, since: datetime, starts_at: datetime, now: datetime
) -> Reminder | None:
    """Return which one to send: the last that was due before now, however late; none where the slot has started."""
    if starts_at <= now:
        return None
    return max((reminder for reminder in reminders if since <= reminder.due_at < now), default=None)


# --- what has waited to be sent ---


@dataclass(frozen=True)
class Present:
    """What a notice is about, as it is when it is its turn to be sent; what its kind does not depend on is left out.

    `is_wanted`: the user wants the kind by this channel. `is_expected`: in the slot that they are reminded of, at the time
    that they are told. `is_out`: the announcement. `has_ended`: the wait with all that was offered.
    """

    is_wanted: bool = True
    is_expected: bool = True
    is_out: bool = True
    has_ended: bool = False


def objection(kind: str, present: Present) -> str | None:
    """Say why a notice is not to be sent any more, None: it is. What has happened stays so; what is ahead may change."""
    if not present.is_wanted:
        return "not wanted any more: the user has chosen otherwise"
    if kind == NoticeKind.REMINDER and not present.is_expected:
        return "not true any more: the user is not expected there at that time"
    if kind == NoticeKind.ANNOUNCEMENT and not present.is_out:
        return "not true any more: the announcement was taken back"
    if kind == NoticeKind.WAITING_OFFERED and present.has_ended:
        return "not true any more: the wait has ended"
    return None


# --- quiet hours ---

TIME_TO_ACT = timedelta(hours=1)  # what is of use for less after quiet hours than this does not wait for their end


def send_at(now: datetime, quiet: QuietHours | None, zone: str, useful_until: datetime | None) -> datetime:
    """Return when something may be sent that would disturb: now, or when the quiet hours that are on now end.

    What would be of no use by then, or for less than an hour after, is sent now: whoever is on their way must hear of it.
    """
    if quiet is None:
        return now
    ends_at = _quiet_until(now, quiet, zone)
    if ends_at is None or (useful_until is not None and useful_until < ends_at + TIME_TO_ACT):
        return now
    return ends_at


def useful_until(params: Mapping[str, Any], zone: str, *, now: datetime) -> datetime | None:
    """Return until when a notice with these facts is of use: until the start of the slot, or of the one that it left.

    What is offered `until` then is of use as long. None where no start is ahead: then it is no less true later.
    """
    if "until" in params:
        return datetime.fromisoformat(params["until"])
    starts = [
        _instant(date.fromisoformat(params[f"{which}date"]), time.fromisoformat(params[f"{which}start"]), zone)
        for which in ("", "left_")
        if f"{which}date" in params
    ]
    return min((start for start in starts if start > now), default=None)


def _quiet_until(now: datetime, quiet: QuietHours, zone: str) -> datetime | None:
    nights = timedelta(days=int(quiet.end <= quiet.start))
    today = now.astimezone(ZoneInfo(zone)).date()
    for day in (today - nights, today):
        ends_at = _instant(day + nights, quiet.end, zone)
        if _instant(day, quiet.start, zone) <= now < ends_at:
            return ends_at
    return None


def _instant(day: date, at: time, zone: str) -> datetime:
    """Return the instant of a time on the hall's clock, in UTC.

    One that comes twice means its first coming; one that the clocks jump over comes as much later as they jump.
    """
    return datetime.combine(day, at.replace(fold=0), ZoneInfo(zone)).astimezone(UTC)
