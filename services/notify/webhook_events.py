"""What webhooks are told: events as integrators read them, without anything that says who somebody is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.contracts.booking import JoinEvent
from libs.contracts.notify import SlotStatChanged
from services.notify import deliveries
from services.notify.channel import Announced
from services.notify.models import Announcement, Webhook, WebhookEvent

CHANNEL = "webhook"
SOURCE = "hallpass"


class EventKind(StrEnum):
    """What a webhook can ask for. Announcements carry the version that grows with each edit."""

    JOIN_BOOKED = "join.booked"
    JOIN_CANCELLED = "join.cancelled"
    JOIN_REVOKED = "join.revoked"
    JOIN_MOVED = "join.moved"
    JOIN_CHECKED_IN = "join.checked_in"
    JOIN_CHECK_IN_UNDONE = "join.check_in_undone"
    JOIN_MISSED = "join.missed"
    JOIN_EXPECTED = "join.expected"
    SLOT_STAT_CHANGED = "slot.stat_changed"
    ANNOUNCEMENT_PUBLISHED = "announcement.published"
    ANNOUNCEMENT_WITHDRAWN = "announcement.withdrawn"


PING = "ping"  # asked for by staff, and sent whatever a webhook has chosen

# Ids, times, states and counts. Not the user (who has several joins would be known by them), no reason that staff wrote.
TOLD_OF_JOINS = frozenset(
    {
        "join_id",
        "party_id",
        "action_id",
        "people",
        "hall_id",
        "item_id",
        "slot_id",
        "date",
        "start",
        "end",
        "starts_at",
        "ends_at",
        "timezone",
        "status",
        "booked_at",
        "checked_in_at",
        "missed_at",
        "slot",
        "restored",
        "left",
        "left_starts_at",
    }
)
TOLD_OF_STATS = frozenset(SlotStatChanged.model_fields) - {"version"}


@dataclass(frozen=True)
class Fresh:
    """An event to be told, of one hall or (None) of all."""

    id: str
    type: str
    subject: str
    version: int
    time: datetime
    hall_id: str | None
    data: dict[str, Any]


def of_joins(session: Session, heard: Iterable[tuple[JoinEvent, Message]]) -> None:
    """Tell webhooks what became of joins. A replayed event they were told at its time."""
    _announce(
        session,
        (
            Fresh(
                id=message.id,
                type=fact.type,
                subject=fact.join_id,
                version=fact.version,
                time=message.time,
                hall_id=fact.hall_id,
                data=fact.model_dump(mode="json", include=set(TOLD_OF_JOINS)),
            )
            for fact, message in heard
            if not message.replayed
        ),
    )


def of_stats(session: Session, facts: Iterable[SlotStatChanged]) -> None:
    """Tell webhooks how many joins of slots are in which state now."""
    now = utcnow()
    _announce(
        session,
        (
            Fresh(
                id=new_id(),
                type=fact.type,
                subject=fact.slot_id,
                version=fact.version,
                time=now,
                hall_id=fact.hall_id,
                data=fact.model_dump(mode="json", include=set(TOLD_OF_STATS)),
            )
            for fact in facts
        ),
    )


def published(session: Session, announcement: Announcement) -> None:
    """Tell webhooks what an announcement that is out says."""
    shown = announcement.publish_at.isoformat() if announcement.publish_at else None
    said = {"title": announcement.title, "summary": announcement.summary, "publish_at": shown}
    _of_announcement(session, EventKind.ANNOUNCEMENT_PUBLISHED, announcement, said)


def withdrawn(session: Session, announcement: Announcement) -> None:
    """Tell webhooks that an announcement is out no more, and nothing of what it says: that may be a draft by now."""
    _of_announcement(session, EventKind.ANNOUNCEMENT_WITHDRAWN, announcement, {})


def _of_announcement(session: Session, kind: EventKind, announcement: Announcement, said: dict[str, Any]) -> None:
    told = Fresh(
        id=new_id(),
        type=kind.value,
        subject=announcement.id,
        version=announcement.version,
        time=utcnow(),
        hall_id=announcement.hall_id,
        data={"announcement_id": announcement.id, "hall_id": announcement.hall_id} | said,
    )
    _announce(session, [told])


def ping(session: Session, webhook: Webhook, *, now: datetime) -> str:
    """Tell one webhook that somebody tries it out; return the id of the delivery."""
    made = Fresh(new_id(), PING, webhook.id, 1, now, webhook.hall_id, {"webhook_id": webhook.id})
    _write(session, [made], now=now)
    [delivery_id] = deliveries.announce(session, [Announced(webhook.id, made.id)], CHANNEL, now=now)
    return delivery_id


def written(event: WebhookEvent) -> dict[str, Any]:
    """Return an event in the envelope in which webhooks receive it (CloudEvents 1.0, structured JSON)."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "type": event.type,
        "source": SOURCE,
        "subject": event.subject,
        "time": event.time.isoformat(),
        "datacontenttype": "application/json",
        "version": event.version,
        "data": event.data,
    }


def _announce(session: Session, told: Iterable[Fresh]) -> None:
    """Queue each event for every webhook that asks for its kind, in its hall or everywhere; none is made where none asks."""
    asking = _asking(session)
    if not asking:
        return
    made = list(told)
    wanted = [Announced(webhook_id, one.id) for one in made for webhook_id in asking if _asks(asking[webhook_id], one)]
    if not wanted:
        return
    now = utcnow()
    ids = {one.event_id for one in wanted}
    _write(session, [one for one in made if one.id in ids], now=now)
    deliveries.announce(session, wanted, CHANNEL, now=now)


def _asking(session: Session) -> Mapping[str, tuple[str | None, frozenset[str]]]:
    """Return hall and kinds of every active webhook, none of which is deleted before this transaction ends."""
    found = session.execute(
        select(Webhook.id, Webhook.hall_id, Webhook.events)
        .where(Webhook.status == "active")
        .order_by(Webhook.id)
        .with_for_update(read=True, key_share=True)
    )
    return {webhook_id: (hall_id, frozenset(events)) for webhook_id, hall_id, events in found}


def _asks(asking: tuple[str | None, frozenset[str]], told: Fresh) -> bool:
    hall_id, kinds = asking
    return told.type in kinds and (hall_id is None or told.hall_id is None or hall_id == told.hall_id)


def _write(session: Session, told: Sequence[Fresh], *, now: datetime) -> None:
    rows = [
        {
            "id": one.id,
            "type": one.type,
            "subject": one.subject,
            "version": one.version,
            "time": one.time,
            "data": one.data,
            "queued_at": now,
        }
        for one in told
    ]
    session.execute(insert(WebhookEvent), rows)
