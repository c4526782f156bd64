"""The copy of each slot's stat: what it holds of booking's count and notify's counts, and what follows from it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime

from sqlalchemy import ColumnElement, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.contracts.catalog import SlotStatus
from libs.contracts.notify import SlotStatChanged
from services.catalog import edits, errors, facts
from services.catalog.models import Day, Slot

log = logger(__name__)


class DeletedMeanwhile(Exception):
    """A slot was deleted after its day could be locked; the fact is heard again."""


def take_over(session: Session, facts: Sequence[SlotStatChanged]) -> None:
    """Bring the copies to what the facts say, each half by its own version; what is older changes nothing.

    Rows are locked in the order of everywhere: days, then slots by item, date and start.
    """
    heard: defaultdict[str, list[SlotStatChanged]] = defaultdict(list)
    for fact in facts:
        heard[fact.slot_id].append(fact)
    places = session.execute(
        select(Slot.id, Slot.item_id, Slot.date, Slot.deleted)
        .where(Slot.id.in_(heard))
        .order_by(Slot.item_id, Slot.date, Slot.start, Slot.id)
    ).all()
    deleted = {place.id for place in places if place.deleted}
    _lock_days(session, [(place.item_id, place.date) for place in places if place.deleted])
    for place in places:
        for fact in heard[place.id]:
            _keep(session, fact)
        _bring_back(session, place.id, may_lock_day=place.id in deleted)


def _lock_days(session: Session, days: list[tuple[str, date]]) -> None:
    if days:
        among = tuple_(Day.item_id, Day.date).in_(days)
        session.execute(select(Day.id).where(among).order_by(Day.item_id, Day.date).with_for_update())


def _keep(session: Session, fact: SlotStatChanged) -> None:
    session.execute(
        update(Slot)
        .where(Slot.id == fact.slot_id, Slot.slot_version < fact.slot_version)
        .values(taken=fact.taken, slot_version=fact.slot_version)
    )
    session.execute(
        update(Slot)
        .where(Slot.id == fact.slot_id, Slot.stat_version < fact.version)
        .values(
            booked=fact.booked,
            cancelled=fact.cancelled,
            revoked=fact.revoked,
            checked_in=fact.checked_in,
            missed=fact.missed,
            stat_version=fact.version,
        )
    )


def _bring_back(session: Session, slot_id: str, *, may_lock_day: bool) -> None:
    # Somebody booked before booking had heard of the deletion. The slot comes back, closed, so that staff see the joins.
    slot = session.scalar(
        select(Slot).where(Slot.id == slot_id, Slot.deleted).execution_options(populate_existing=True).with_for_update()
    )
    if slot is None or not slot.had_joins:
        return
    if not may_lock_day:
        raise DeletedMeanwhile
    slot.deleted = False
    slot.status = SlotStatus.CLOSED
    slot.version += 1
    session.flush()
    made = insert(Day).values(id=new_id(), item_id=slot.item_id, date=slot.date, note="", version=1)
    again = made.on_conflict_do_update(index_elements=["item_id", "date"], set_={"version": Day.version + 1})
    day = session.scalars(again.returning(Day), execution_options={"populate_existing": True}).one()
    edits.note(session, None, day, before={}, after=edits.slot_fields([slot]))
    outbox.record(session, facts.of_slot(slot))
    log.warning("deleted slot has joins and comes back closed", slot_id=slot_id)


def refuse_joins_ahead(session: Session, within: ColumnElement[bool], *, now: datetime) -> None:
    """Raise JoinsAhead, with how many and on which days, where people hold places in slots not over yet."""
    days = session.execute(
        select(Slot.date, func.sum(Slot.booked))
        .where(within, Slot.ends_at > now, Slot.taken > 0, ~Slot.deleted)  # the index has those with places taken
        .where(Slot.booked > 0)
        .group_by(Slot.date)
        .order_by(Slot.date)
    ).all()
    if days:
        raise errors.JoinsAhead(joins=sum(booked for _, booked in days), days=[day.isoformat() for day, _ in days])
