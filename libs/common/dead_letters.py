"""Dead letters: the messages that a consumer failed at for the last time; looked into, sent to it again, or dropped."""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from libs.common import bus_rabbit
from libs.common.bus_local import QueueRow
from libs.common.bus_rabbit import CONFIRM_WINDOW, Put, RabbitPublisher
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.ids import parse_id
from libs.common.service import Runtime

UNREADABLE = "unreadable"
MOST = 1000  # of one look; there is one alarm for all of them
PIECE = 200  # local letters of one transaction
BROKER_WITHIN_S = 3.0  # to be connected
TURN_WITHIN_S = 3.0  # to wait for somebody else who is at the same letters
MASK = "***"
SILENT_S = 3.0  # then there are no more letters, whatever was counted
RESOURCE_LOCKED = 405  # AMQP's reply code

_CANNOT_NAME_ANYBODY = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?|\d\d:\d\d(:\d\d)?", re.ASCII
)
_WORD = re.compile(r"[a-z][a-z_.]{0,40}", re.ASCII)
_KINDS = frozenset(
    {"action", "kind", "object_type", "role", "source", "state", "status", "type"}
)  # keys of a word of ours
_ENVELOPE = frozenset({"1.0", "application/json"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}", re.ASCII)


class InUse(OSError):
    """Somebody else is at the dead letters of this consumer."""


@dataclass(frozen=True)
class DeadLetter:
    """What may be shown of a message. `content` is all of it, with whatever a person may have written masked."""

    id: str
    type: str
    subject: str
    error: str
    attempts: int
    parked_at: datetime | None
    content: Any = field(repr=False)


Note = Callable[[Session, DeadLetter], None]
Taken = tuple[int, pika.BasicProperties, bytes]  # by the tag under which it is acknowledged


class DeadLetters(Protocol):
    """The dead letters of one consumer.

    `note` is called for each letter that is replayed or dropped, in a transaction that commits before it is gone.
    """

    def all(self) -> list[DeadLetter]:
        """Return them, the oldest first, or a thousand where there are more."""
        ...

    def one(self, letter_id: str) -> DeadLetter | None:
        """Return one of them, however many there are; None where it is not there."""
        ...

    def replay(self, note: Note, ids: Collection[str] | None = None) -> list[str]:
        """Send the original messages to their consumer again, these or all; return the ids of those sent.

        The consumer's inbox makes it safe: what was done after all is not done twice.
        """
        ...

    def drop(self, note: Note, ids: Collection[str]) -> list[str]:
        """Delete these messages for good; return the ids of those that were there."""
        ...


def of(runtime: Runtime, consumer: str) -> DeadLetters:
    """Return the dead letters of a consumer of this runtime's service, wherever its bus keeps them."""
    if runtime.settings.mode == "embedded":
        return LocalDeadLetters(runtime.db, consumer)
    return RabbitDeadLetters(runtime.settings.broker_url.get_secret_value(), consumer, runtime.db)


class LocalDeadLetters:
    """Those in the queue table of the consumer's service."""

    def __init__(self, db: Database, consumer: str) -> None:
        self._db = db
        self._parked = (QueueRow.consumer == consumer, QueueRow.parked_at.is_not(None))

    def all(self) -> list[DeadLetter]:
        with self._db.transaction() as session:
            rows = session.scalars(
                select(QueueRow).where(*self._parked).order_by(QueueRow.parked_at, QueueRow.event_id).limit(MOST)
            ).all()
            return [_stored(row) for row in rows]

    def one(self, letter_id: str) -> DeadLetter | None:
        with self._db.transaction() as session:
            row = session.scalar(select(QueueRow).where(*self._parked, QueueRow.event_id == parse_id(letter_id)))
            return None if row is None else _stored(row)

    def replay(self, note: Note, ids: Collection[str] | None = None) -> list[str]:
        again: dict[str, Any] = {"parked_at": None, "attempts": 0, "error": None, "due_at": utcnow()}
        return self._all_of(ids, note, update(QueueRow).values(**again))

    def drop(self, note: Note, ids: Collection[str]) -> list[str]:
        return self._all_of(ids, note, delete(QueueRow))

    def _all_of(self, ids: Collection[str] | None, note: Note, act: Any) -> list[str]:
        """Note and act in pieces, each in a transaction: what is parked again meanwhile is left for another time."""
        query = select(QueueRow).where(*self._parked, QueueRow.parked_at <= utcnow())
        if ids is not None:
            query = query.where(QueueRow.event_id.in_([found for each in ids if (found := parse_id(each))]))
        some = query.order_by(QueueRow.event_id).limit(PIECE).with_for_update()
        done: list[str] = []
        while True:
            with self._db.transaction() as session:
                letters = [_stored(row) for row in session.scalars(some)]
                for letter in letters:
                    note(session, letter)
                piece = [letter.id for letter in letters]
                session.execute(
                    act.where(*self._parked, QueueRow.event_id.in_(piece)),
                    execution_options={"synchronize_session": False},
                )
            done += piece
            if len(piece) < PIECE:
                return done


class RabbitDeadLetters:
    """Those in the queue `<consumer>.dead`.

    Every message is taken, published again (at its end of the same queue, or to the consumer) and acknowledged when the
    broker has confirmed that, some hundred at once: one by one, each waited for the broker's disk. Giving it back unread would
    count as a failed delivery, and RabbitMQ 4 drops what has failed twenty times. Whoever is killed in between leaves
    messages twice, never not at all; the next turn makes one of two.

    One at a time: two who turn the same queue would each see some messages twice and others not at all. A queue that
    belongs to one connection is the lock, so that it is gone with whoever held it.
    """

    def __init__(self, url: str, consumer: str, db: Database) -> None:
        self._url = url
        self._consumer = consumer
        self.queue = f"{consumer}{bus_rabbit.DEAD}"
        self._db = db

    def all(self) -> list[DeadLetter]:
        found: list[DeadLetter] = []

        def stay(letter: DeadLetter) -> str:
            found.append(letter)
            return self.queue

        self._turn(stay, most=MOST)
        return sorted(found, key=in_order)

    def one(self, letter_id: str) -> DeadLetter | None:
        found: list[DeadLetter] = []

        def stay(letter: DeadLetter) -> str:
            if letter.id == letter_id:
                found.append(letter)
            return self.queue

        self._turn(stay)
        return found[0] if found else None

    def replay(self, note: Note, ids: Collection[str] | None = None) -> list[str]:
        return self._each(ids, note, to=self._consumer)

    def drop(self, note: Note, ids: Collection[str]) -> list[str]:
        return self._each(ids, note, to=None)

    def _each(self, ids: Collection[str] | None, note: Note, *, to: str | None) -> list[str]:
        done: list[str] = []

        def act(letter: DeadLetter) -> str | None:
            if ids is not None and letter.id not in ids:
                return self.queue
            with self._db.transaction() as session:
                note(session, letter)
            done.append(letter.id)
            return to

        self._turn(act)
        return done

    def _turn(self, decide: Callable[[DeadLetter], str | None], *, most: int | None = None) -> None:
        """Take each message once, and publish it to the queue that is decided; None drops it."""
        with self._channel() as channel:
            try:
                count = channel.queue_declare(self.queue, passive=True).method.message_count
            except ChannelClosedByBroker:
                return  # no consumer has run yet
            left = count if most is None else min(count, most)
            seen: set[bytes] = set()
            with closing(RabbitPublisher(self._url, name=f"{self.queue}.turn")) as publisher:
                while left > 0:
                    window = self._take(channel, at_most=min(left, CONFIRM_WINDOW))
                    self._give(channel, publisher, window, decide, seen)
                    left = left - len(window) if window else 0

    def _take(self, channel: Any, *, at_most: int) -> list[Taken]:
        """Take so many messages, unacknowledged, or as many as there are."""
        window: list[Taken] = []
        channel.basic_qos(prefetch_count=at_most)  # none is sent to us that we would have to give back
        for method, properties, body in channel.consume(self.queue, inactivity_timeout=SILENT_S):
            if method is not None:
                window.append((method.delivery_tag, properties, body))
            if method is None or len(window) == at_most:
                break
        channel.cancel()
        return window

    def _give(
        self,
        channel: Any,
        publisher: RabbitPublisher,
        window: list[Taken],
        decide: Callable[[DeadLetter], str | None],
        seen: set[bytes],
    ) -> None:
        """Give messages to the queues that are decided, each only once; where that fails, it and those behind it stay."""
        queues: list[str | None] = [self.queue] * len(window)
        try:
            for place, (_, properties, body) in enumerate(window):
                queues[place] = None if body in seen else decide(_read(properties, body))
                seen.add(body)
        finally:
            puts = []
            for queue, (_, properties, body) in zip(queues, window, strict=True):
                if queue == self._consumer:
                    properties.headers = {}
                if queue is not None:
                    puts.append(Put(queue, body, properties))
            publisher.put(puts)
            if window:
                channel.basic_ack(window[-1][0], multiple=True)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        parameters = pika.URLParameters(self._url)
        parameters.socket_timeout = parameters.stack_timeout = BROKER_WITHIN_S
        parameters.blocked_connection_timeout = 5
        try:
            with pika.BlockingConnection(parameters) as connection:
                yield self._alone(connection)
        except AMQPError as error:
            raise bus_rabbit.BrokerDown(f"the broker is away, or has no such queue: {error!r}") from error

    def _alone(self, connection: pika.BlockingConnection) -> Any:
        deadline = time.monotonic() + TURN_WITHIN_S
        while True:
            channel = connection.channel()
            try:
                channel.queue_declare(f"{self.queue}.turn", exclusive=True)
            except ChannelClosedByBroker as error:
                if error.reply_code != RESOURCE_LOCKED:
                    raise
                if time.monotonic() > deadline:
                    raise InUse(f"somebody else is at the dead letters of {self._consumer}") from None
                connection.sleep(0.05)
            else:
                return channel


def in_order(letter: DeadLetter) -> tuple[datetime, str]:
    """The order in which letters are shown: the oldest first."""
    return letter.parked_at or datetime.fromtimestamp(0, UTC), letter.id


def _stored(row: QueueRow) -> DeadLetter:
    message = row.message
    return DeadLetter(
        id=row.event_id,
        type=message["type"],
        subject=message["subject"],
        error=row.error or "",
        attempts=row.attempts,
        parked_at=row.parked_at,
        content=masked(message),
    )


def _read(properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    headers = properties.headers or {}
    try:
        content = json.loads(body)
        named = {name: str(content[name]) for name in ("id", "type", "subject")}
    except (ValueError, TypeError, KeyError):
        content = None
        named = {
            "id": properties.message_id or f"{UNREADABLE}-{sha256(body).hexdigest()[:16]}",
            "type": properties.type or UNREADABLE,
            "subject": UNREADABLE,
        }
    at: datetime | None
    if parked_at := headers.get(bus_rabbit.PARKED_AT):
        error, attempts = headers[bus_rabbit.ERROR], int(headers[bus_rabbit.ATTEMPT])
        at = datetime.fromisoformat(parked_at)
    else:
        # Put here by the broker, because no consumer survived it. The newest death comes first.
        attempts = bus_rabbit.DELIVERY_LIMIT
        error = f"given to consumers {attempts} times and never done"
        at = next((death["time"].replace(tzinfo=UTC) for death in headers.get("x-death", [])), None)
    return DeadLetter(**named, error=error, attempts=attempts, parked_at=at, content=masked(content))


def masked(content: Any, key: str = "") -> Any:
    """Return JSON with its structure, ids, instants, numbers and our own words; any other text is masked."""
    if isinstance(content, dict):
        return {name if _NAME.fullmatch(name) else MASK: masked(value, name) for name, value in content.items()}
    if isinstance(content, list):
        return [masked(value, key) for value in content]
    if not isinstance(content, str) or not content:
        return content
    harmless = content in _ENVELOPE or parse_id(content) is not None or _CANNOT_NAME_ANYBODY.fullmatch(content)
    return content if harmless or (key in _KINDS and _WORD.fullmatch(content)) else MASK
