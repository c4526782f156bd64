"""What catalog tells the other services: its rows as facts, one at a time or all of them."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common.messages import Fact
from libs.contracts.catalog import HallChanged, HallStatus, ItemChanged, ItemStatus, SlotChanged, SlotStatus
from services.catalog.models import Hall, Item, Slot

AT_ONCE = 500


def of_hall(hall: Hall) -> HallChanged:
    return HallChanged(
        version=hall.version,
        hall_id=hall.id,
        name=hall.name,
        address=hall.address,
        timezone=hall.timezone,
        status=HallStatus(hall.status),
        missed_policy=hall.missed_policy,  # Pydantic makes one of it
        quiet_hours=hall.quiet_hours,  # Pydantic makes QuietHours of it
    )


def of_item(item: Item) -> ItemChanged:
    return ItemChanged(
        version=item.version,
        item_id=item.id,
        hall_id=item.hall_id,
        title=item.title,
        cover=item.cover,
        status=ItemStatus(item.status),
        form=item.form,
        form_version=item.form_version,
        rules=item.rules,  # Pydantic makes Rules of it, as it makes fields of the form
        reminders=item.reminders,
    )


def of_slot(slot: Slot) -> SlotChanged:
    return SlotChanged(
        version=slot.version,
        slot_id=slot.id,
        item_id=slot.item_id,
        hall_id=slot.hall_id,
        date=slot.date,
        start=slot.start,
        end=slot.end,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        status=SlotStatus.CLOSED if slot.closure_id else SlotStatus(slot.status),
        capacity=slot.capacity,
        deleted=slot.deleted,
    )


def everything(session: Session) -> Iterator[Fact]:
    """Yield the present state of all halls, items and slots (deleted ones too), reading some at a time."""
    for hall in _all(session, Hall):
        yield of_hall(hall)
    for item in _all(session, Item):
        yield of_item(item)
    for slot in _all(session, Slot):
        yield of_slot(slot)


def _all(session: Session, table: Any) -> Iterator[Any]:
    # By id, page after page: the caller writes on the same connection in between.
    last = None
    while True:
        query = select(table).order_by(table.id).limit(AT_ONCE)
        if last is not None:
            query = query.where(table.id > last)
        rows = session.scalars(query).all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1].id
