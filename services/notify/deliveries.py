"""Deliveries: each notice at most once by each channel, whoever carries it and whatever dies on the way."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import context
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.common.outward import storable
from services.notify import metrics, news, outcomes, second_look
from services.notify.channel import Announced, ByTurns, Channel, Delivering, Letter, Told, Wanted
from services.notify.models import Delivery, Notice
from services.notify.outcomes import DeliveryState, Later, Nothing, Outcome, Overtaken, Refused, Sent, Step, Unknown
from services.notify.texts import TO_MANY

log = logger(__name__)

QUEUED = "queued_delivery"  # in a session's info: this transaction queued a delivery
OPEN = (DeliveryState.QUEUED.value, DeliveryState.SENDING.value)
SPARE_S = 20.0  # on top of what a send takes at most, before it counts as lost
LONGEST_ANSWER = 500
NO_ANSWER = "no answer: the process that sent it has died"


@dataclass(frozen=True)
class Taken(Generic[Letter]):
    """A delivery that is ours until `until`, ready to be sent."""

    delivering: Delivering
    letter: Letter
    until: datetime
    good_until: datetime | None


@dataclass(frozen=True)
class Ended:
    """The delivery whose turn it was is not to be sent now; there may be others."""


def queue(session: Session, wanted: Iterable[Wanted], *, now: datetime) -> None:
    """Let notices go out as this transaction commits; what was queued for a channel and target before is not again."""
    rows = [
        {
            "id": new_id(),
            "notice_id": one.told.id,
            "channel": one.channel,
            "target": one.target,
            "state": DeliveryState.QUEUED.value,
            "is_bulk": one.told.kind in TO_MANY,
            "due_at": one.due_at or now,
            "good_until": one.good_until,
            "queued_at": now,
            "request_id": context.request_id(),
        }
        for one in sorted(
            wanted, key=lambda one: one.told.happened_at
        )  # their ids keep the order where they are due at once
    ]
    if rows:
        session.execute(insert(Delivery).on_conflict_do_nothing(), rows)
        session.info[QUEUED] = True


def announce(session: Session, announced: Iterable[Announced], channel: str, *, now: datetime) -> list[str]:
    """Let webhooks be told of events as this transaction commits; return the ids of the deliveries."""
    rows: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "webhook_id": one.webhook_id,
            "event_id": one.event_id,
            "channel": channel,
            "target": "",
            "state": DeliveryState.QUEUED.value,
            "due_at": now,
            "queued_at": now,
            "request_id": context.request_id(),
        }
        for one in announced
    ]
    if rows:
        session.execute(insert(Delivery), rows)
        session.info[QUEUED] = True
    return [row["id"] for row in rows]


def take(session: Session, channel: Channel[Letter], *, now: datetime) -> Taken[Letter] | Ended | None:
    """Take the next delivery that is due, for as long as its sending may take at most, and make it ready; None: there is none.

    What was taken before and not settled in time has lost its answer. One that can't be sent at all ends here, for now or
    for good: that is recorded by itself, as news that were taken back have left many such, and none may hold up the rest.
    """
    row = _whose_turn(session, channel, now)
    if row is None:
        return None
    return _ready(session, channel, row, now) or Ended()


def settle(
    session: Session, channel: Channel[Letter], taken: Taken[Letter], outcome: Outcome, *, now: datetime
) -> bool:
    """Record how an attempt ended; False where the delivery was lost meanwhile, and is another's or gone."""
    delivering = taken.delivering
    row = session.scalar(
        select(Delivery)
        .where(
            Delivery.id == delivering.id,
            Delivery.state == DeliveryState.SENDING,
            Delivery.attempts == delivering.attempt,
        )
        .with_for_update()
    )
    if row is None:
        return False
    channel.settle(session, delivering, taken.letter, outcome)
    _end_attempt(channel, row, outcome, now=now)
    return True


def give_up(session: Session, webhook_id: str, *, now: datetime) -> None:
    """Let everything that waits for a webhook have failed; what is on its way ends by itself."""
    waiting = update(Delivery).where(Delivery.webhook_id == webhook_id, Delivery.state == DeliveryState.QUEUED)
    session.execute(
        waiting.values(state=DeliveryState.FAILED.value, ended_at=now, answer="the webhook was disabled"),
        execution_options={"synchronize_session": False},
    )


def pending(session: Session, channel: str) -> int:
    """Return how many deliveries of a channel wait or are under way; what is held for later (quiet hours) does not wait yet."""
    waits = or_(Delivery.due_at <= func.now(), Delivery.attempts > 0)
    return session.scalar(select(func.count()).where(Delivery.channel == channel, Delivery.state.in_(OPEN), waits)) or 0


def retrying(session: Session, channel: str) -> int:
    """Return how many deliveries of a channel were tried in vain and are to be tried, or are tried, again."""
    tried = or_(Delivery.attempts > 1, and_(Delivery.attempts == 1, Delivery.state == DeliveryState.QUEUED))
    return session.scalar(select(func.count()).where(Delivery.channel == channel, Delivery.state.in_(OPEN), tried)) or 0


def forget(session: Session, *, before: datetime) -> int:
    """Delete what was queued before that instant and is over; return how many."""
    old = delete(Delivery).where(Delivery.queued_at < before, Delivery.state.not_in(OPEN))
    gone = session.execute(old.execution_options(synchronize_session=False))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def _whose_turn(session: Session, channel: Channel[Letter], now: datetime) -> Delivery | None:
    if isinstance(channel, ByTurns):
        return channel.next_due(session, now=now)
    return _next_due(session, channel.name, now)


def _next_due(session: Session, channel: str, now: datetime) -> Delivery | None:
    """Lock the delivery that is due first and that nobody else is just taking: bulk only where nothing else is due.

    Two queries, so that each reads one entry of an index, however much is due of the other sort.
    """
    due = select(Delivery).where(Delivery.channel == channel, Delivery.state.in_(OPEN), Delivery.due_at <= now)
    first = due.where(~Delivery.is_bulk).order_by(Delivery.due_at, Delivery.id)
    for query in (first, due.order_by(Delivery.due_at)):
        found: Delivery | None = session.scalar(query.limit(1).with_for_update(skip_locked=True))
        if found is not None:
            return found
    return None


def _ready(session: Session, channel: Channel[Letter], row: Delivery, now: datetime) -> Taken[Letter] | None:
    """Make a locked delivery ready to be sent, or end this attempt at it."""
    was_lost = row.state == DeliveryState.SENDING
    if was_lost:
        log.warning("a delivery was lost", channel=channel.name, delivery_id=row.id, attempt=row.attempts)
        metrics.DELIVERIES.labels("notify", channel.name, "lost").inc()
        if row.possibly_twice and not isinstance(channel, ByTurns):
            _end_attempt(channel, row, Unknown(NO_ANSWER), now=now)
            return None
        row.possibly_twice, row.answer = True, NO_ANSWER
    row.attempts += 1
    delivering = _delivering(session, row, now)
    until = now + timedelta(seconds=channel.longest_s + SPARE_S)
    letter = _prepared(session, channel, row, delivering, now)
    if isinstance(letter, Nothing):
        session.delete(row)
        return None
    if isinstance(letter, (Refused, Later)):
        _end_attempt(channel, row, letter, now=now)
        return None
    row.state, row.due_at = DeliveryState.SENDING, until
    return Taken(delivering, letter, until, row.good_until)


def _prepared(
    session: Session, channel: Channel[Letter], row: Delivery, delivering: Delivering, now: datetime
) -> Letter | Refused | Later | Nothing:
    if outcomes.is_over(row.good_until, now):
        return Refused("too late to be of use")
    try:
        with session.begin_nested():
            if (why := _objection(session, delivering, now)) is not None:
                return Overtaken(why)
            return channel.prepare(session, delivering)
    except Exception as error:
        # One that can't be made ready must not stand before all others for ever: it waits, and fails in the end.
        log.exception("a delivery can't be made ready", channel=channel.name, delivery_id=row.id)
        return Later(f"internal error ({type(error).__name__})")


def _objection(session: Session, delivering: Delivering, now: datetime) -> str | None:
    """Why what waited is not to be sent any more. Events are told to webhooks as they were, each by its version."""
    if isinstance(delivering.matter, Announced):
        return None
    return second_look.objection(session, delivering.matter, delivering.channel, now=now)


def _delivering(session: Session, row: Delivery, now: datetime) -> Delivering:
    return Delivering(
        id=row.id,
        channel=row.channel,
        target=row.target,
        attempt=row.attempts,
        possibly_twice=row.possibly_twice,
        request_id=row.request_id,
        matter=_matter(session, row, now),
    )


def _matter(session: Session, row: Delivery, now: datetime) -> Told | Announced:
    if row.webhook_id is not None and row.event_id is not None:
        return Announced(webhook_id=row.webhook_id, event_id=row.event_id)
    notice = session.get_one(Notice, row.notice_id)
    return Told(
        id=notice.id,
        user_id=notice.user_id,
        kind=notice.kind,
        hall_id=notice.hall_id,
        action_id=notice.action_id,
        join_id=notice.join_id,
        party_id=notice.party_id,
        people=notice.people,
        params=news.facts(session, [notice], now=now)[notice.id],
        happened_at=notice.happened_at,
    )


def _end_attempt(channel: Channel[Letter], row: Delivery, outcome: Outcome, *, now: datetime) -> None:
    if isinstance(channel, ByTurns) and isinstance(outcome, Unknown):
        row.possibly_twice, outcome = True, Later(outcome.answer)
    step = outcomes.after(
        outcome,
        attempt=row.attempts,
        possibly_twice=row.possibly_twice,
        good_until=row.good_until,
        now=now,
        delays_s=channel.delays_s if isinstance(channel, ByTurns) else outcomes.DELAYS_S,
    )
    row.state, row.possibly_twice = step.state.value, step.possibly_twice
    row.due_at = step.due_at or row.due_at
    row.ended_at = None if step.due_at else now
    if isinstance(outcome, Sent):
        row.provider_id, row.answer = storable(outcome.provider_id)[:LONGEST_ANSWER], ""
    else:
        row.answer = storable(outcome.answer)[:LONGEST_ANSWER]
    metrics.DELIVERIES.labels("notify", row.channel, _result(outcome, step)).inc()


def _result(outcome: Outcome, step: Step) -> str:
    if isinstance(outcome, Overtaken):
        return "overtaken"
    return "retried" if step.state == DeliveryState.QUEUED else step.state.value
