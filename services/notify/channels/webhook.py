"""Webhooks as a channel: signed POSTs to addresses of integrators, each of which waits for no other."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from libs.common import signatures
from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.common.outward import Answer, Outward, Unreachable
from libs.common.service import Runtime
from services.notify import deliveries, webhook_events, webhooks
from services.notify.channel import Delivering, Told, Wanted
from services.notify.models import Delivery, Recipient, Webhook, WebhookAttempt, WebhookEvent
from services.notify.outcomes import DeliveryState, Later, Outcome, Refused, Sent

log = logger(__name__)
NAME = webhook_events.CHANNEL

# Waits before an event is sent again: ten times in all, the last about 26 hours after the first.
DELAYS_S = (5.0, 60.0, 300.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 36000.0)
LONGEST_REST_S = 300.0
GIVEN_UP_AFTER = timedelta(days=3)

AT_ONCE = 24
OF_ONE = 4  # on their way to one address, while it answers well
OF_UNWELL = 8  # on their way to all that are slow or fail: the rest of AT_ONCE is for those that answer well
SLOW_MS = 2000
GONE = 410

_OTHER = aliased(Webhook)


@dataclass
class Call:
    """One call of an address; `attempt` is what came of it."""

    url: str
    secrets: Sequence[str]
    event_id: str
    body: bytes
    answer: Answer | None = None
    reason: str = ""
    started: datetime | None = None
    duration_ms: int = 0


class WebhookChannel:
    """Calls every address by itself: at most four events at a time, one while it is slow or fails, and with rests between.
    All that are slow or fail share a third of the calls, so that however many they are, the others wait for none of them.

    What it answers by 2xx has arrived. All else is tried again by DELAYS_S, under the same `webhook-id`, and 410 ends it all.
    An address that has failed for three days is disabled.
    """

    name = NAME
    at_once = AT_ONCE
    delays_s = DELAYS_S

    def __init__(self, sealer: Sealer, outward: Outward) -> None:
        self._sealer = sealer
        self._outward = outward
        self.longest_s = outward.total_s

    def next_due(self, session: Session, *, now: datetime) -> Delivery | None:
        """Lock the delivery that waits longest for the address whose turn it is."""
        for webhook_id in session.scalars(_ready(now)).all():
            found: Delivery | None = session.scalar(
                select(Delivery)
                .where(Delivery.webhook_id == webhook_id, *_is_due(now))
                .order_by(Delivery.due_at, Delivery.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            if found is not None:
                return found
        return None

    def prepare(self, session: Session, delivering: Delivering) -> Call | Refused:
        announced = delivering.announced
        webhook = session.get_one(Webhook, announced.webhook_id)
        if webhook.status != webhooks.ACTIVE:
            return Refused("the webhook was disabled")
        event = session.get_one(WebhookEvent, announced.event_id)
        return Call(
            url=webhook.url,
            secrets=webhooks.secrets(self._sealer, webhook, now=utcnow()),
            event_id=event.id,
            body=to_json(webhook_events.written(event)),
        )

    def send(self, letter: Call) -> Outcome:
        letter.started = utcnow()
        signed = signatures.headers(letter.secrets, letter.event_id, letter.body, now=letter.started)
        headers = {"Content-Type": "application/json", "User-Agent": "Hallpass-Webhooks"} | signed
        clock = time.monotonic()
        try:
            letter.answer = self._outward.post(letter.url, letter.body, headers)
        except Unreachable as error:
            letter.reason = error.reason
        letter.duration_ms = round((time.monotonic() - clock) * 1000)
        return _outcome(letter)

    def settle(self, session: Session, delivering: Delivering, letter: Call, outcome: Outcome) -> None:
        """Log the call, and note how the address fares."""
        now = utcnow()
        webhook = session.scalars(
            select(Webhook).where(Webhook.id == delivering.announced.webhook_id).with_for_update(key_share=True)
        ).one()
        session.add(
            WebhookAttempt(
                id=new_id(),
                webhook_id=webhook.id,
                delivery_id=delivering.id,
                number=delivering.attempt,
                at=letter.started or now,
                duration_ms=letter.duration_ms,
                status=letter.answer.status if letter.answer else None,
                reason=letter.reason,
                answer=letter.answer.text if letter.answer else "",
            )
        )
        webhook.last_at, webhook.last_ms = now, letter.duration_ms
        if isinstance(outcome, Sent):
            webhook.failures, webhook.failing_since, webhook.rest_until = 0, None, None
            return
        webhook.failures += 1
        webhook.failing_since = webhook.failing_since or now
        asked_s = (letter.answer and letter.answer.retry_after_s) or 0.0
        webhook.rest_until = now + timedelta(seconds=min(max(rest_s(webhook.failures), asked_s), LONGEST_REST_S))
        if webhook.status != webhooks.ACTIVE:
            return
        if isinstance(outcome, Refused):
            webhooks.disable(session, webhook, "gone", now=now)
        elif now - webhook.failing_since > GIVEN_UP_AFTER:
            webhooks.disable(session, webhook, "failing", now=now)


def wanted(session: Session, told: Sequence[Told], by_user: Mapping[str, Recipient]) -> Iterable[Wanted]:
    """Notices are for people; webhooks are told of events (webhook_events)."""
    return ()


def channel(runtime: Runtime) -> WebhookChannel:
    return WebhookChannel(runtime.resources.sealer, runtime.resources.outward)


def rest_s(failures: int) -> float:
    """Return how long an address is left alone after it has failed so many times in a row."""
    return min(2.0 ** (failures - 1), LONGEST_REST_S) if failures < 20 else LONGEST_REST_S


def _outcome(call: Call) -> Outcome:
    if call.answer is None:
        return Later(call.reason)
    if 200 <= call.answer.status < 300:
        return Sent()
    if call.answer.status == GONE:
        return Refused("410: nobody wants it any more")
    return Later(f"answered {call.answer.status}", after_s=call.answer.retry_after_s)


def _ready(now: datetime) -> Select[str]:
    """The addresses that may be called now: first those with the fewest calls under way, of these whose last is the longest ago."""
    is_of_it = Delivery.webhook_id == Webhook.id
    first_due = select(func.min(Delivery.due_at)).where(is_of_it, *_is_due(now)).scalar_subquery()
    is_under_way = (Delivery.state == DeliveryState.SENDING, Delivery.due_at > now)
    under_way = select(func.count()).where(is_of_it, *is_under_way).scalar_subquery()
    to_unwell = (
        select(func.count()).select_from(Delivery).join(_OTHER, _OTHER.id == Delivery.webhook_id).where(*is_under_way)
    )
    may_be_called = case(
        (_is_well(Webhook), under_way < OF_ONE),
        else_=and_(under_way < 1, to_unwell.where(~_is_well(_OTHER)).scalar_subquery() < OF_UNWELL),
    )
    return (
        select(Webhook.id)
        .where(or_(Webhook.rest_until.is_(None), Webhook.rest_until <= now))
        .where(first_due.is_not(None))
        .where(may_be_called)
        .order_by(under_way, Webhook.last_at.asc().nulls_first(), first_due)
    )


def _is_well(webhook: type[Webhook]) -> ColumnElement[bool]:
    return and_(webhook.failures == 0, or_(webhook.last_ms.is_(None), webhook.last_ms < SLOW_MS))


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (Delivery.state.in_(deliveries.OPEN), Delivery.due_at <= now)
