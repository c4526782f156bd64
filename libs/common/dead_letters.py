"""Dead letters: the messages that a consumer failed at for the last time, and how they are sent to it again."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker
from sqlalchemy import select, update

from libs.common import bus_rabbit
from libs.common.bus_local import QueueRow
from libs.common.clock import utcnow
from libs.common.db import Database

UNREADABLE = "?"


@dataclass(frozen=True)
class DeadLetter:
    """What may be shown of a message: never its data, which can hold what people have written."""

    id: str
    type: str
    subject: str
    error: str
    parked_at: datetime | None


class DeadLetters(Protocol):
    """The dead letters of one consumer."""

    def all(self) -> list[DeadLetter]:
        """Return them, the oldest first."""
        ...

    def replay(self, ids: Collection[str] | None = None) -> list[str]:
        """Send the original messages to their consumer again, these or all; return the ids of those sent.

        The consumer's inbox makes it safe: what was done after all is not done twice.
        """
        ...


class LocalDeadLetters:
    """Those in the queue table of the consumer's service."""

    def __init__(self, db: Database, consumer: str) -> None:
        self._db = db
        self._parked = (QueueRow.consumer == consumer, QueueRow.parked_at.is_not(None))

    def all(self) -> list[DeadLetter]:
        with self._db.transaction() as session:
            rows = session.scalars(
                select(QueueRow).where(*self._parked).order_by(QueueRow.parked_at, QueueRow.event_id)
            ).all()
            return [
                DeadLetter(row.event_id, row.message["type"], row.message["subject"], row.error or "", row.parked_at)
                for row in rows
            ]

    def replay(self, ids: Collection[str] | None = None) -> list[str]:
        statement = update(QueueRow).where(*self._parked)
        if ids is not None:
            statement = statement.where(QueueRow.event_id.in_(ids))
        again = statement.values(parked_at=None, attempts=0, error=None, due_at=utcnow()).returning(QueueRow.event_id)
        with self._db.transaction() as session:
            return list(session.scalars(again))


class RabbitDeadLetters:
    """Those in the queue `<consumer>.dead`.

    Every message is taken, published again (at its end of the same queue, or to the consumer) and acknowledged when the
    broker has confirmed that. Giving it back unread would count as a failed delivery, and RabbitMQ 4 drops what has
    failed twenty times. Whoever is killed in between leaves a message twice, never not at all.
    """

    def __init__(self, url: str, consumer: str) -> None:
        self._url = url
        self._consumer = consumer
        self._queue = f"{consumer}{bus_rabbit.DEAD}"

    def all(self) -> list[DeadLetter]:
        found = []

        def stay(properties: pika.BasicProperties, body: bytes) -> None:
            found.append(_read(properties, body))

        self._turn(stay)
        return found

    def replay(self, ids: Collection[str] | None = None) -> list[str]:
        sent = []

        def go(properties: pika.BasicProperties, body: bytes) -> str | None:
            letter = _read(properties, body)
            if ids is not None and letter.id not in ids:
                return None
            sent.append(letter.id)
            return self._consumer

        self._turn(go)
        return sent

    def _turn(self, decide: Callable[[pika.BasicProperties, bytes], str | None]) -> None:
        """Take each message once, and publish it to the queue that is decided, or else where it was."""
        with self._channel() as channel:
            try:
                count = channel.queue_declare(self._queue, passive=True).method.message_count
            except ChannelClosedByBroker:
                return  # no consumer has run yet
            for _ in range(count):
                method, properties, body = channel.basic_get(self._queue)
                if method is None:
                    return
                queue = decide(properties, body)
                if queue is not None:
                    properties.headers = {}
                channel.basic_publish("", queue or self._queue, body, properties, mandatory=True)
                channel.basic_ack(method.delivery_tag)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        try:
            with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
                channel = connection.channel()
                channel.confirm_delivery()  # from now on publishing waits for the broker, and raises where it refuses
                yield channel
        except AMQPError as error:
            raise bus_rabbit.BrokerDown(f"the broker is away, or has no such queue: {error!r}") from error


def _read(properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    headers = properties.headers or {}
    try:
        content = json.loads(body)
        named = {name: str(content[name]) for name in ("id", "type", "subject")}
    except (ValueError, TypeError, KeyError):
        named = {
            "id": properties.message_id or UNREADABLE,
            "type": properties.type or UNREADABLE,
            "subject": UNREADABLE,
        }
    if parked_at := headers.get(bus_rabbit.PARKED_AT):
        return DeadLetter(**named, error=headers[bus_rabbit.ERROR], parked_at=datetime.fromisoformat(parked_at))
    # Put here by the broker, because no consumer survived it. The newest death comes first.
    died = next((death["time"].replace(tzinfo=UTC) for death in headers.get("x-death", [])), None)
    return DeadLetter(
        **named, error=f"given to consumers {bus_rabbit.DELIVERY_LIMIT} times and never done", parked_at=died
    )
