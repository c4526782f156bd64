"""Notify's own copies of halls and items: what catalog last said, or, before its word, what events about joins say."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.common.messages import Message
from libs.contracts.booking import JoinEvent
from libs.contracts.catalog import SERVED, USUAL_REMINDERS, HallChanged, HallStatus, ItemChanged
from services.notify import reminders
from services.notify.models import Hall, Item, SlotStat


@dataclass(frozen=True)
class Known:
    """What tells when the users of an item are reminded."""

    reminders: list[int]
    timezone: str


def keep_hall(session: Session, fact: HallChanged, message: Message) -> None:
    """Take over what catalog says of a hall, unless something newer is here."""
    known = session.execute(
        select(Hall.version, Hall.timezone).where(Hall.id == fact.hall_id).with_for_update()
    ).first()
    values = {
        "name": fact.name,
        "timezone": fact.timezone,
        "quiet_hours": fact.quiet_hours and fact.quiet_hours.model_dump(mode="json"),
        "is_open": fact.status == HallStatus.OPEN,
        "version": fact.version,
    }
    _keep(session, Hall, fact.hall_id, values)
    if known is None or known.version == 0 or (known.version < fact.version and known.timezone != fact.timezone):
        reminders.reschedule(session, SlotStat.hall_id == fact.hall_id, since=message.time)


def keep_item(session: Session, fact: ItemChanged, message: Message) -> None:
    """Take over what catalog says of an item, unless something newer is here; its joins are reminded of by it."""
    known = session.execute(
        select(Item.version, Item.reminders).where(Item.id == fact.item_id).with_for_update()
    ).first()
    values = {
        "hall_id": fact.hall_id,
        "title": fact.title,
        "reminders": fact.reminders,
        "is_served": fact.status in SERVED,
        "version": fact.version,
    }
    _keep(session, Item, fact.item_id, values)
    if known is None or known.version == 0 or (known.version < fact.version and known.reminders != fact.reminders):
        reminders.reschedule(session, SlotStat.item_id == fact.item_id, since=message.time)


def of_joins(session: Session, facts: Iterable[JoinEvent]) -> dict[str, Known]:
    """Return what is known of the items of these joins, by id, and let nobody change it before the commit.

    Who changes an item waits, and then finds the records that were written by what it was.
    """
    first = {fact.item_id: fact for fact in facts}
    found = _of_items(session, first)
    missing = [fact for item_id, fact in first.items() if item_id not in found]
    if missing:
        _meet(session, missing)
        found = _of_items(session, first)
    return found


def require_hall(session: Session, hall_id: str) -> None:
    """Raise NotFound where notify has never heard of the hall."""
    if session.get(Hall, hall_id) is None:
        raise NotFound


def _of_items(session: Session, item_ids: Iterable[str]) -> dict[str, Known]:
    rows = session.execute(
        select(Item.id, Item.reminders, Hall.timezone)
        .join(Hall, Hall.id == Item.hall_id)
        .where(Item.id.in_(item_ids))
        .order_by(Item.id)
        .with_for_update(of=Item, read=True)
    )
    return {item_id: Known(minutes, timezone) for item_id, minutes, timezone in rows}


def _meet(session: Session, facts: Iterable[JoinEvent]) -> None:
    halls = {
        fact.hall_id: {"id": fact.hall_id, "name": fact.hall_name, "timezone": fact.timezone, "version": 0}
        for fact in facts
    }
    items = {
        fact.item_id: {
            "id": fact.item_id,
            "hall_id": fact.hall_id,
            "title": fact.item_title,
            "reminders": list(USUAL_REMINDERS),
            "version": 0,
        }
        for fact in facts
    }
    for model, rows in ((Hall, halls), (Item, items)):
        session.execute(insert(model).on_conflict_do_nothing(), [rows[key] for key in sorted(rows)])


def _keep(session: Session, model: Any, key: str, values: dict[str, Any]) -> None:
    session.execute(
        insert(model)
        .values(id=key, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values, where=model.version <= values["version"])
    )
