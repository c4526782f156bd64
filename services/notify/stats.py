"""Stats of slots: kept exact with every change of the record, counted again by night, published as they change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import and_, case, func, literal, or_, select, union, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.logs import logger
from libs.contracts.booking import SlotTaken
from libs.contracts.catalog import SlotChanged
from libs.contracts.notify import SlotStatChanged
from services.notify.models import JoinRecord, SlotStat
from services.notify.policy import Counts, first_version, in_force

log = logger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a slot belongs."""

    item_id: str
    hall_id: str
    day: date


@dataclass(frozen=True)
class Inventory:
    """What an event says about a slot: its places at commit, and where it belongs if the event tells."""

    taken: int
    capacity: int | None
    version: int
    place: Place | None

    @classmethod
    def of(cls, slot: SlotTaken, place: Place | None) -> "Inventory":
        return cls(taken=slot.taken, capacity=slot.capacity, version=slot.version, place=place)

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
    facts = []
    for slot_id in sorted({*changes, *heard}):
        row = _merge(session, slot_id, changes.get(slot_id, Counts()), heard.get(slot_id, UNHEARD), now=now)
        if row is not None and row.item_id is not None:
            facts.append(_fact(row))
    outbox.record(session, *facts)


def _merge(session: Session, slot_id: str, change: Counts, heard: Inventory, *, now: datetime) -> SlotStat | None:
    """Lock the slot's row and change it; return it, or None where there was nothing new in it."""
    place = heard.place
    statement = insert(SlotStat).values(
        slot_id=slot_id,
        item_id=place.item_id if place else None,
        hall_id=place.hall_id if place else None,
        day=place.day if place else None,
        taken=heard.taken,
        capacity=heard.capacity,
        slot_version=heard.version,
        version=first_version(now),
        **asdict(change),
    )
    new = statement.excluded
    is_newer = new.slot_version > SlotStat.slot_version
    is_placed_now = and_(SlotStat.item_id.is_(None), new.item_id.is_not(None))
    merged: dict[str, Any] = {name: getattr(SlotStat, name) + getattr(new, name) for name in asdict(change)}
    for name in ("taken", "slot_version"):
        merged[name] = case((is_newer, getattr(new, name)), else_=getattr(SlotStat, name))
    merged["capacity"] = case(
        (SlotStat.definition_version == 0, case((is_newer, new.capacity), else_=SlotStat.capacity)),
        (SlotStat.asked.is_not(None), func.greatest(SlotStat.asked, merged["taken"])),  # policy.in_force
    )
    for name in ("item_id", "hall_id", "day"):
        merged[name] = func.coalesce(getattr(SlotStat, name), getattr(new, name))
    merged["version"] = SlotStat.version + 1
    return session.scalars(
        statement.on_conflict_do_update(
            index_elements=["slot_id"],
            set_=merged,
            where=or_(literal(bool(change)), is_newer, is_placed_now),
        ).returning(SlotStat),
        execution_options={"populate_existing": True},
    ).first()


def define(session: Session, fact: SlotChanged, *, now: datetime) -> None:
    """Keep what catalog asks of a slot's capacity, unless something newer is known; publish what it changes."""
    row = session.scalars(
        select(SlotStat).where(SlotStat.slot_id == fact.slot_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).first()
    if row is None:
        made = session.scalar(_first_definition(fact, now=now))
        if made is None:  # somebody has joined it in this moment: look at it again
            define(session, fact, now=now)
        return
    if row.definition_version >= fact.version:
        return
    row.asked, row.definition_version = fact.capacity, fact.version
    capacity = in_force(fact.capacity, row.taken)
    if capacity == row.capacity:
        return
    row.capacity, row.version = capacity, row.version + 1
    if row.item_id is not None:
        outbox.record(session, _fact(row))


def _first_definition(fact: SlotChanged, *, now: datetime) -> Any:
    statement = insert(SlotStat).values(
        slot_id=fact.slot_id,
        taken=0,
        capacity=fact.capacity,
        slot_version=0,
        asked=fact.capacity,
        definition_version=fact.version,
        version=first_version(now),
        **asdict(Counts()),
    )
    return statement.on_conflict_do_nothing(index_elements=["slot_id"]).returning(SlotStat.slot_id)


def recount(session: Session, slot_ids: Sequence[str], *, now: datetime) -> list[Difference]:
    """Count the joins of these slots again from the record, put right what differs, publish it, and report it.

    Exact beside running consumers: a change of the record commits together with its stat, whose row is locked here
    before the record is read.
    """
    _add_missing(session, slot_ids, now=now)
    kept = session.scalars(
        select(SlotStat).where(SlotStat.slot_id.in_(slot_ids)).order_by(SlotStat.slot_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).all()
    counted = _count(session, slot_ids)
    differing = []
    for row in kept:
        found = Difference(row.slot_id, was=_counts(row), counted=counted.get(row.slot_id, Counts()))
        if found.was != found.counted:
            _repair(session, found)
            differing.append(found)
    return differing


def known_slots(session: Session) -> list[str]:
    """Return the ids of all slots in stats or record, ascending."""
    both = union(select(SlotStat.slot_id), select(JoinRecord.slot_id)).subquery()
    return list(session.scalars(select(both.c.slot_id).order_by(both.c.slot_id)))


def facts(session: Session) -> Iterator[SlotStatChanged]:
    """Yield the present stat of every slot."""
    rows = session.scalars(
        select(SlotStat)
        .where(SlotStat.item_id.is_not(None))
        .order_by(SlotStat.slot_id)
        .execution_options(yield_per=500)
    )
    for row in rows:
        yield _fact(row)


def _add_missing(session: Session, slot_ids: Iterable[str], *, now: datetime) -> None:
    missing = (
        select(JoinRecord.slot_id, JoinRecord.item_id, JoinRecord.hall_id, JoinRecord.day)
        .where(JoinRecord.slot_id.in_(slot_ids))
        .where(JoinRecord.slot_id.not_in(select(SlotStat.slot_id)))
        .ext(distinct_on(JoinRecord.slot_id))
        .order_by(JoinRecord.slot_id)
    )
    for slot_id, item_id, hall_id, day in session.execute(missing).all():
        place = Place(item_id=item_id, hall_id=hall_id, day=day)
        _merge(session, slot_id, Counts(), Inventory(taken=0, capacity=None, version=0, place=place), now=now)


def _count(session: Session, slot_ids: Sequence[str]) -> dict[str, Counts]:
    booked = JoinRecord.status == "booked"
    rows = session.execute(
        select(
            JoinRecord.slot_id,
            func.count().filter(booked),
            func.count().filter(JoinRecord.status == "cancelled"),
            func.count().filter(JoinRecord.status == "revoked"),
            func.count().filter(booked, JoinRecord.checked_in_at.is_not(None)),
            func.count().filter(booked, JoinRecord.missed_at.is_not(None)),
        )
        .where(JoinRecord.slot_id.in_(slot_ids))
        .group_by(JoinRecord.slot_id)
    )
    return {slot_id: Counts(*counts) for slot_id, *counts in rows.all()}


def _repair(session: Session, found: Difference) -> None:
    log.warning("stat put right", slot_id=found.slot_id, was=asdict(found.was), counted=asdict(found.counted))
    row = session.scalars(
        update(SlotStat)
        .where(SlotStat.slot_id == found.slot_id)
        .values(version=SlotStat.version + 1, **asdict(found.counted))
        .returning(SlotStat),
        execution_options={"populate_existing": True},
    ).one()
    if row.item_id is not None:
        outbox.record(session, _fact(row))


def _counts(row: SlotStat) -> Counts:
    return Counts(
        booked=row.booked,
        cancelled=row.cancelled,
        revoked=row.revoked,
        checked_in=row.checked_in,
        missed=row.missed,
    )


def _fact(row: SlotStat) -> SlotStatChanged:
    return SlotStatChanged(
        version=row.version,
        slot_id=row.slot_id,
        item_id=row.item_id,
        hall_id=row.hall_id,
        booked=row.booked,
        cancelled=row.cancelled,
        revoked=row.revoked,
        checked_in=row.checked_in,
        missed=row.missed,
        taken=row.taken,
        capacity=row.capacity,
        slot_version=row.slot_version,
    )
