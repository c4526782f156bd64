"""Decisions of notify about what a join counts for: pure, and decided from the old and new state alone."""

from dataclasses import astuple, dataclass
from datetime import UTC, datetime

FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Counts:
    """How many joins are in which state. `checked_in` and `missed` are among the `booked`."""

    booked: int = 0
    cancelled: int = 0
    revoked: int = 0
    checked_in: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __neg__(self) -> "Counts":
        return Counts(*(-count for count in astuple(self)))

    def __bool__(self) -> bool:
        return any(astuple(self))


@dataclass(frozen=True)
class Seat:
    """Where a join stands: its slot, and what it counts for there."""

    slot_id: str
    counts: Counts


def seat(slot_id: str, *, status: str, checked_in: bool, missed: bool) -> Seat:
    """Say what a join in this state counts for."""
    booked = status == "booked"
    counts = Counts(
        booked=int(booked),
        cancelled=int(status == "cancelled"),
        revoked=int(status == "revoked"),
        checked_in=int(booked and checked_in),
        missed=int(booked and missed),
    )
    return Seat(slot_id, counts)


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
