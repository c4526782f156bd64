"""Stats of slots: kept exact with every change of the record, counted again by night, published as they change."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.contracts.booking import SlotTaken
from libs.contracts.catalog import SlotChanged, SlotStatus
from libs.contracts.notify import SlotStatChanged
from services.notify import statements, totals, webhook_events
from services.notify.models import JoinRecord, SlotStat
from services.notify.policy import COUNTS, LEADS, Counts, first_version, in_force

Stat = dict[str, Any]  # a row of slot_stats

LONG_AFTER = timedelta(days=-10_000)  # no join is booked so long after its slot began

PUBLISHED = tuple(SlotStatChanged.model_fields)


@dataclass(frozen=True)
class Place:
    """Where a slot belongs."""

    item_id: str
    hall_id: str
    day: date
    hour: int  # of its start, in the hall's zone


@dataclass(frozen=True)
class Inventory:
    """What an event says about a slot: its places at commit, and where it belongs if the event tells.

    `taken` are those that nobody can have who comes now: also what is held for people who waited, or is for who waits.
    """

    taken: int
    capacity: int | None
    version: int
    place: Place | None

    @classmethod
    def of(cls, slot: SlotTaken, place: Place | None) -> "Inventory":
        return cls(taken=slot.spoken_for, capacity=slot.capacity, version=slot.version, place=place)

    def merged(self, other: "Inventory") -> "Inventory":
        """Return the newer of both, with the place that either knows."""
        newer = self if self.version >= other.version else other
        return replace(newer, place=self.place or other.place)


UNHEARD = Inventory(taken=0, capacity=None, version=0, place=None)


@dataclass(frozen=True)
class Difference:
    """A stat that was not what the record says."""

    slot_id: str
    was: Counts
    counted: Counts


def apply(session: Session, changes: Mapping[str, Counts], heard: Mapping[str, Inventory], *, now: datetime) -> None:
    """Add changes to the stats and keep the newest inventory; publish each stat that is another now.

    The caller holds the locks of the joins' records. Rows are locked in ascending order of slots, here as in `recount`.
    """
    kept = _locked(session, {*changes, *heard}, now=now)
    _save(
        session,
        [
            (row, merged)
            for slot_id, row in kept.items()
            if (merged := _merged(row, changes.get(slot_id, Counts()), heard.get(slot_id, UNHEARD))) != row
        ],
    )


def _merged(row: Stat, change: Counts, heard: Inventory) -> Stat:
    """Return a stat with a change and what was heard of its inventory, under the next version if it is another."""
    new = row | {name: row[name] + getattr(change, name) for name in COUNTS}
    is_newer = heard.version > row["slot_version"]
    if is_newer:
        new |= {"taken": heard.taken, "slot_version": heard.version}
    if row["definition_version"]:
        new["capacity"] = in_force(row["asked"], new["taken"])
    elif is_newer:
        new["capacity"] = heard.capacity
    if heard.place is not None and row["item_id"] is None:
        new |= {"item_id": heard.place.item_id, "hall_id": heard.place.hall_id, "day": heard.place.day}
    if heard.place is not None and row["hour"] is None:
        new["hour"] = heard.place.hour
    return new if new == row else _next(new)


def _next(row: Stat) -> Stat:
    return row | {"version": row["version"] + 1}


def _locked(session: Session, slot_ids: Collection[str], *, now: datetime) -> dict[str, Stat]:
    """Lock the stats of these slots, ascending, and return them; those that had none begin with nothing."""
    wanted = sorted(slot_ids)
    nothing = dict.fromkeys(("taken", "slot_version", "definition_version", *COUNTS), 0)
    nothing |= {"version": first_version(now), "is_open": True, "status_since": 0}
    # Before the lock: what is new would otherwise be locked after slots that come later.
    statements.carry_out(session, statements.ADD_SLOTS, [nothing | {"slot_id": slot_id} for slot_id in wanted])
    locked = session.execute(statements.LOCK_SLOTS, {"ids": wanted})
    return {row.slot_id: dict(row._mapping) for row in locked}


def _save(session: Session, changed: Sequence[tuple[Stat, Stat]]) -> None:
    """Write locked stats as they are now, bring the totals along, and publish those with another version."""
    if not changed:
        return
    statements.carry_out(session, statements.CHANGE_SLOTS, [after for _, after in changed])
    shifts = totals.Shifts()
    for before, after in changed:
        shifts.replace(before, after)
    totals.add(session, shifts)
    facts = [
        _fact(after)
        for before, after in changed
        if after["item_id"] is not None and after["version"] > before["version"]
    ]
    outbox.record(session, *facts)
    webhook_events.of_stats(session, facts)


def define(session: Session, facts: Sequence[SlotChanged], *, now: datetime) -> None:
    """Keep what catalog says of slots, one fact of each, unless something newer is known; publish what it changes of capacities."""
    kept = _locked(session, [fact.slot_id for fact in facts], now=now)
    pairs = [(kept[fact.slot_id], _defined(kept[fact.slot_id], fact)) for fact in facts]
    _save(session, [(before, after) for before, after in pairs if after != before])


def _defined(row: Stat, fact: SlotChanged) -> Stat:
    """Return a stat with a slot's definition, under the next version if its capacity is another."""
    is_known = row["hour"] is not None and row["starts_at"] is not None
    if row["definition_version"] > fact.version or (row["definition_version"] == fact.version and is_known):
        return row
    new = row | {
        "hour": fact.start.hour,
        "starts_at": fact.starts_at,
        "ends_at": fact.ends_at,
        "asked": fact.capacity,
        "capacity": in_force(fact.capacity, row["taken"]),
        "definition_version": fact.version,
    }
    if row["is_open"] != is_open(fact):
        new |= {"is_open": is_open(fact), "status_since": fact.version}
    return new if new["capacity"] == row["capacity"] else _next(new)


def is_open(fact: SlotChanged) -> bool:
    """Whether people who have joined a slot may take it that it takes place."""
    return fact.status == SlotStatus.OPEN and not fact.deleted


def recount(session: Session, slot_ids: Sequence[str], *, now: datetime) -> list[Difference]:
    """Count the joins of these slots again from the record, put right what differs, publish it, and report it.

    Exact beside running consumers: a change of the record commits together with its stat, whose row is locked here
    before the record is read.
    """
    if not slot_ids:
        return []
    kept = _locked(session, slot_ids, now=now)
    places = _places(session, [slot_id for slot_id, row in kept.items() if row["item_id"] is None])
    counted = _count(session, slot_ids)
    changed, differing = [], []
    for slot_id, row in kept.items():
        new = row | asdict(counted.get(slot_id, Counts())) | places.get(slot_id, {})
        if new != row:
            changed.append((row, _next(new)))
            if _counts(new) != _counts(row):
                differing.append(Difference(slot_id, was=_counts(row), counted=_counts(new)))
    _save(session, changed)
    return differing


def facts(session: Session) -> Iterator[SlotStatChanged]:
    """Yield the present stat of every slot."""
    rows = session.execute(
        select(*(getattr(SlotStat, name) for name in PUBLISHED))
        .where(SlotStat.item_id.is_not(None))
        .order_by(SlotStat.slot_id)
        .execution_options(yield_per=500)
    )
    for row in rows:
        yield _fact(dict(row._mapping))


def _places(session: Session, slot_ids: Sequence[str]) -> dict[str, Stat]:
    """Return where slots belong that somebody joined, as the record has it."""
    if not slot_ids:
        return {}
    rows = session.execute(
        select(JoinRecord.slot_id, JoinRecord.item_id, JoinRecord.hall_id, JoinRecord.day)
        .where(JoinRecord.slot_id.in_(slot_ids))
        .ext(distinct_on(JoinRecord.slot_id))
        .order_by(JoinRecord.slot_id)
    )
    return {row.slot_id: {"item_id": row.item_id, "hall_id": row.hall_id, "day": row.day} for row in rows}


def _count(session: Session, slot_ids: Sequence[str]) -> dict[str, Counts]:
    booked = JoinRecord.status == "booked"
    lead = JoinRecord.starts_at - JoinRecord.booked_at
    minutes = func.floor(func.extract("epoch", lead) / 60)
    rows = session.execute(
        select(
            JoinRecord.slot_id,
            func.count().filter(booked),
            func.count().filter(JoinRecord.status == "cancelled"),
            func.count().filter(JoinRecord.status == "revoked"),
            func.count().filter(booked, JoinRecord.checked_in_at.is_not(None)),
            func.count().filter(booked, JoinRecord.missed_at.is_not(None)),
            func.coalesce(func.sum(func.greatest(minutes, 0)).filter(booked), 0),
            *(
                func.count().filter(booked, lead < bound, lead >= above)
                for above, bound in pairwise([LONG_AFTER, *LEADS.values()])
            ),
        )
        .where(JoinRecord.slot_id.in_(slot_ids))
        .group_by(JoinRecord.slot_id)
    )
    return {slot_id: Counts(*map(int, counts)) for slot_id, *counts in rows.all()}


def _counts(row: Stat) -> Counts:
    return Counts(**{name: row[name] for name in COUNTS})


def _fact(row: Stat) -> SlotStatChanged:
    return SlotStatChanged(**{name: row[name] for name in PUBLISHED})
