"""The copy of each slot's stat: what it holds of booking's count and notify's counts, and what follows from it."""

from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
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


def take_over(session: Session, fact: SlotStatChanged) -> None:
    """Bring the copy to what the fact says, each half by its own version; what is older changes nothing."""
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
    _bring_back(session, fact.slot_id)


def _bring_back(session: Session, slot_id: str) -> None:
    # Somebody booked before booking had heard of the deletion. The slot comes back, closed, so that staff see the joins.
    slot = session.scalar(
        select(Slot).where(Slot.id == slot_id, Slot.deleted).execution_options(populate_existing=True).with_for_update()
    )
    if slot is None or not slot.had_joins:
        return
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
        select(Slot.date, func.sum(Slot.taken))
        .where(within, Slot.ends_at > now, Slot.taken > 0, ~Slot.deleted)
        .group_by(Slot.date)
        .order_by(Slot.date)
    ).all()
    if days:
        raise errors.JoinsAhead(joins=sum(taken for _, taken in days), days=[day.isoformat() for day, _ in days])
