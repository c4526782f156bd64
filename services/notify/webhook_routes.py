"""What staff do about webhooks: name addresses, choose events, look at what was sent, and send it again."""

from datetime import timedelta

from fastapi import APIRouter, Response

from libs.common import etags
from libs.common.etags import IfMatch
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts.principals import HallStaff
from services.notify import webhook_events, webhook_log, webhooks
from services.notify.models import Delivery, Webhook, WebhookEvent
from services.notify.outcomes import DeliveryState
from services.notify.resources import AllowedDep, SealerDep
from services.notify.webhook_schemas import (
    NewWebhook,
    SecretChange,
    WebhookCall,
    WebhookChange,
    WebhookDelivery,
    WebhookOut,
    WebhookStatus,
    WebhookWithSecret,
)

router = APIRouter(prefix="/staff/webhooks", tags=["webhooks"])


@router.get("")
def list_webhooks(
    session: Tx,
    staff: HallStaff,
    hall_id: Id | None = None,
    status: WebhookStatus | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[WebhookOut]:
    """The webhooks of one's halls (super admin: all of them), newest first."""
    found, next_cursor = webhooks.page_of(session, staff, hall_id=hall_id, status=status, limit=limit, cursor=cursor)
    return Page(items=[_shown(webhook) for webhook in found], next_cursor=next_cursor)


@router.post("", status_code=201)
def create_webhook(
    session: Tx,
    staff: HallStaff,
    now: Now,
    sealer: SealerDep,
    allowed: AllowedDep,
    body: NewWebhook,
    response: Response,
) -> WebhookWithSecret:
    """Let an address be told of events. The secret by which it knows us is shown once."""
    made, secret = webhooks.create(
        session,
        sealer,
        staff,
        body.hall_id,
        url=body.url,
        description=body.description,
        events=body.events,
        allowed=allowed,
        now=now,
    )
    return _with_secret(made, secret, response)


@router.get("/{webhook_id}")
def get_webhook(session: Tx, staff: HallStaff, webhook_id: Id, response: Response) -> WebhookOut:
    return _answer(webhooks.seen(session, staff, webhook_id), response)


@router.patch("/{webhook_id}")
def edit_webhook(
    session: Tx,
    staff: HallStaff,
    now: Now,
    allowed: AllowedDep,
    webhook_id: Id,
    body: WebhookChange,
    response: Response,
    if_match: IfMatch = None,
) -> WebhookOut:
    values = body.model_dump(exclude_unset=True)
    changed = webhooks.edit(session, staff, webhook_id, values, allowed=allowed, if_match=if_match, now=now)
    return _answer(changed, response)


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(runtime: RuntimeDep, staff: HallStaff, webhook_id: Id, if_match: IfMatch = None) -> None:
    """Delete a webhook with the log of all that it was sent."""
    runtime.db.run(lambda session: webhooks.remove(session, staff, webhook_id, if_match=if_match))


@router.post("/{webhook_id}/secret")
def rotate_secret(
    session: Tx,
    staff: HallStaff,
    now: Now,
    sealer: SealerDep,
    webhook_id: Id,
    body: SecretChange,
    response: Response,
) -> WebhookWithSecret:
    """Replace the secret. Both sign for as long as they overlap, so that the receiver can change over in peace."""
    overlap = timedelta(hours=body.overlap_hours)
    changed, secret = webhooks.rotate(session, sealer, staff, webhook_id, overlap=overlap, now=now)
    return _with_secret(changed, secret, response)


@router.post("/{webhook_id}/ping", status_code=202)
def ping_webhook(session: Tx, staff: HallStaff, now: Now, webhook_id: Id) -> WebhookDelivery:
    """Send a `ping`, whatever the webhook has chosen; what comes of it is under `/attempts`."""
    return _delivery(*webhook_log.ping(session, staff, webhook_id, now=now))


@router.get("/{webhook_id}/deliveries")
def list_webhook_deliveries(
    session: Tx,
    staff: HallStaff,
    webhook_id: Id,
    state: DeliveryState | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[WebhookDelivery]:
    """What was and will be sent, newest first; kept for a month."""
    found, next_cursor = webhook_log.page_of(session, staff, webhook_id, state=state, limit=limit, cursor=cursor)
    return Page(items=[_delivery(delivery, event) for delivery, event in found], next_cursor=next_cursor)


@router.post("/{webhook_id}/deliveries/{delivery_id}/resend", status_code=202)
def resend_webhook_delivery(
    session: Tx, staff: HallStaff, now: Now, webhook_id: Id, delivery_id: Id
) -> WebhookDelivery:
    """Send an event again, with the same `webhook-id`; the answer is the new delivery."""
    return _delivery(*webhook_log.resend(session, staff, webhook_id, delivery_id, now=now))


@router.get("/{webhook_id}/attempts")
def list_webhook_attempts(
    session: Tx,
    staff: HallStaff,
    webhook_id: Id,
    delivery_id: Id | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[WebhookCall]:
    """Each call with what was answered, newest first; kept for a month."""
    found, next_cursor = webhook_log.attempts(
        session, staff, webhook_id, delivery_id=delivery_id, limit=limit, cursor=cursor
    )
    calls = [WebhookCall.model_validate(attempt, from_attributes=True) for attempt in found]
    return Page(items=calls, next_cursor=next_cursor)


def _answer(webhook: Webhook, response: Response) -> WebhookOut:
    response.headers["ETag"] = etags.of(webhook)
    return _shown(webhook)


def _with_secret(webhook: Webhook, secret: str, response: Response) -> WebhookWithSecret:
    return WebhookWithSecret(**_answer(webhook, response).model_dump(), secret=secret)


def _shown(webhook: Webhook) -> WebhookOut:
    return WebhookOut.model_validate(webhook, from_attributes=True)


def _delivery(delivery: Delivery, event: WebhookEvent) -> WebhookDelivery:
    return WebhookDelivery(
        id=delivery.id,
        state=DeliveryState(delivery.state),
        attempts=delivery.attempts,
        possibly_twice=delivery.possibly_twice,
        answer=delivery.answer,
        queued_at=delivery.queued_at,
        due_at=delivery.due_at,
        ended_at=delivery.ended_at,
        event=webhook_events.written(event),
    )
