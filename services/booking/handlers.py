"""What booking does about facts of others: it keeps its own copy of halls, items and slots."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.inbox import Consumer, Heard
from libs.common.messages import Message
from libs.contracts.catalog import HallChanged, ItemChanged, SlotChanged
from services.booking import inventory, lines, misses
from services.booking.models import Hall, Item

consumer = Consumer("booking.events")


@consumer.on(HallChanged)
def keep_hall(session: Session, fact: HallChanged, message: Message) -> None:
    values = {
        "name": fact.name,
        "address": fact.address,
        "timezone": fact.timezone,
        "status": fact.status,
        "missed_policy": fact.missed_policy.model_dump() if fact.missed_policy else None,
        "version": fact.version,
    }
    _keep(session, Hall, fact.hall_id, values)


@consumer.on(ItemChanged)
def keep_item(session: Session, fact: ItemChanged, message: Message) -> None:
    values = {
        "hall_id": fact.hall_id,
        "title": fact.title,
        "cover": fact.cover,
        "status": fact.status,
        "form": [field.model_dump(mode="json") for field in fact.form],
        "form_version": fact.form_version,
        "rules": fact.rules.model_dump(mode="json"),
        "version": fact.version,
    }
    _keep(session, Item, fact.item_id, values)


@consumer.on_all(SlotChanged)
def keep_slots(session: Session, heard: Sequence[Heard]) -> None:
    facts = [fact for fact, _ in heard]
    lines.end_where_moved(session, facts, now=utcnow())
    inventory.define(session, *facts)
    misses.withdraw(session, {fact.slot_id for fact in facts}, now=utcnow())


def _keep(session: Session, model: Any, key: str, values: dict[str, Any]) -> None:
    """Insert or overwrite a copy, unless a newer one is here."""
    session.execute(
        insert(model)
        .values(id=key, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values, where=model.version <= values["version"])
    )
