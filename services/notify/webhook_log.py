"""What was sent to webhooks and what they answered, as staff look it up, and sending it once more."""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from libs.common import pages
from libs.common.errors import NotFound
from libs.contracts import audit
from libs.contracts.principals import Staff
from services.notify import deliveries, webhook_events, webhooks
from services.notify.channel import Announced
from services.notify.models import Delivery, WebhookAttempt, WebhookEvent

NEWEST_FIRST = (pages.Key(Delivery.id, "id", descending=True),)
NEWEST_ATTEMPT_FIRST = (pages.Key(WebhookAttempt.id, "id", descending=True),)


def page_of(
    session: Session, staff: Staff, webhook_id: str, *, state: str | None, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """Return a page of (delivery, event) of a webhook within the scope of the account, newest first."""
    webhooks.seen(session, staff, webhook_id)
    query = (
        select(Delivery, WebhookEvent)
        .join(WebhookEvent, WebhookEvent.id == Delivery.event_id)
        .where(Delivery.webhook_id == webhook_id)
    )
    if state is not None:
        query = query.where(Delivery.state == state)
    return pages.fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def attempts(
    session: Session, staff: Staff, webhook_id: str, *, delivery_id: str | None, limit: int, cursor: str | None
) -> tuple[list[WebhookAttempt], str | None]:
    """Return a page of the calls of a webhook, or of one delivery to it, newest first."""
    webhooks.seen(session, staff, webhook_id)
    query = select(WebhookAttempt).where(WebhookAttempt.webhook_id == webhook_id)
    if delivery_id is not None:
        query = query.where(WebhookAttempt.delivery_id == delivery_id)
    return pages.fetch(session, query, keys=NEWEST_ATTEMPT_FIRST, limit=limit, cursor=cursor)


def ping(session: Session, staff: Staff, webhook_id: str, *, now: datetime) -> tuple[Delivery, WebhookEvent]:
    """Send a webhook an event that says nothing, or raise WebhookDisabled."""
    webhook = webhooks.active(session, staff, webhook_id)
    delivery_id = webhook_events.ping(session, webhook, now=now)
    return _read(session, webhook_id, delivery_id)


def resend(
    session: Session, staff: Staff, webhook_id: str, delivery_id: str, *, now: datetime
) -> tuple[Delivery, WebhookEvent]:
    """Send an event once more, whatever became of it before, by a delivery of its own; or raise WebhookDisabled."""
    webhook = webhooks.active(session, staff, webhook_id)
    _, event = _read(session, webhook_id, delivery_id)
    [again] = deliveries.announce(session, [Announced(webhook_id, event.id)], webhook_events.CHANNEL, now=now)
    audit.record(
        session,
        staff,
        "webhook.resent",
        object_type="webhook",
        object_id=webhook_id,
        hall_id=webhook.hall_id,
        after={"event_id": event.id, "delivery_id": again},
    )
    return _read(session, webhook_id, again)


def forget(session: Session, *, before: datetime) -> int:
    """Delete what was sent to webhooks, or given up, and queued before that instant; return how many events that were."""
    over = Delivery.webhook_id.is_not(None) & Delivery.state.not_in(deliveries.OPEN)
    options = {"synchronize_session": False}
    session.execute(delete(Delivery).where(over, Delivery.queued_at < before), execution_options=options)
    is_needed = exists().where(Delivery.event_id == WebhookEvent.id)
    gone = session.execute(
        delete(WebhookEvent).where(WebhookEvent.queued_at < before, ~is_needed), execution_options=options
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def _read(session: Session, webhook_id: str, delivery_id: str) -> tuple[Delivery, WebhookEvent]:
    found = session.execute(
        select(Delivery, WebhookEvent)
        .join(WebhookEvent, WebhookEvent.id == Delivery.event_id)
        .where(Delivery.id == delivery_id, Delivery.webhook_id == webhook_id)
    ).first()
    if found is None:
        raise NotFound
    return found[0], found[1]
