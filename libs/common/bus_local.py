"""The local bus: hands events to consumers of the same process, with the rules of the broker.

Each consumer has a durable queue in its own schema; what it has done leaves the queue in the same transaction. A failing message is tried again after a delay while the
others go on, and is parked as a dead letter in the end.
"""

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Index, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Mapped, Session, mapped_column

from libs.common import metrics
from libs.common.clock import utcnow
from libs.common.db import CommonBase, Database, Uuid
from libs.common.inbox import BATCH, Consumer, at_once, explain, frames
from libs.common.logs import logger
from libs.common.messages import Message

log = logger(__name__)


class QueueRow(CommonBase):
    """A message that waits for its consumer, or is parked (`parked_at`) after its last attempt."""

    __tablename__ = "bus_queue"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    message: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime]
    parked_at: Mapped[datetime | None]
    error: Mapped[str | None]

    __table_args__ = (Index("ix_bus_queue_due_at", "consumer", "due_at", postgresql_where=text("parked_at IS NULL")),)


class LocalQueue:
    """One consumer's queue and the thread that empties it."""

    def __init__(self, consumer: Consumer, db: Database, *, retry_delays_s: list[float]) -> None:
        self.consumer = consumer
        self._db = db
        self._delays = retry_delays_s
        self._wake = threading.Event()
        self._stopping = False

    def put(self, messages: list[Message]) -> None:
        """Store messages durably; one that is here already is not stored again."""
        wanted = [message for message in messages if message.type in self.consumer.types]
        if not wanted:
            return
        now = utcnow()
        with self._db.transaction() as session:
            session.execute(
                insert(QueueRow).on_conflict_do_nothing(),
                [
                    {
                        "consumer": self.consumer.name,
                        "event_id": message.id,
                        "message": message.model_dump(mode="json"),
                        "due_at": now,
                    }
                    for message in wanted
                ],
            )
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Consume until stopped; a lost database is waited for."""
        while not self._stopping:
            try:
                busy = self.consume_once()
                pause = min(1.0, *self._delays)
            except (DBAPIError, PoolTimeout) as error:
                log.warning("consumer waits", consumer=self.consumer.name, error=type(error).__name__)
                busy, pause = False, 1.0
            if not busy:
                self._wake.wait(pause)
                self._wake.clear()

    def consume_once(self) -> bool:
        """Carry out the next messages that are due; return whether there were any."""
        rows = at_once(self._due(), alone=lambda row: row.attempts > 0)
        messages = [Message.model_validate(row.message) for row in rows]
        errors = self.consumer.receive_all(self._db, messages, also=self._forget)
        for row, message in zip(rows, messages, strict=True):
            if message.id in errors:
                self._put_off(row.event_id, row.attempts, errors[message.id])
        metrics.CONSUMED.labels(self.consumer.name.partition(".")[0], self.consumer.name, "done").inc(
            len(messages) - len(errors)
        )
        return bool(rows)

    def _due(self) -> Sequence[QueueRow]:
        with self._db.transaction() as session:
            return session.scalars(
                select(QueueRow)
                .where(
                    QueueRow.consumer == self.consumer.name,
                    QueueRow.parked_at.is_(None),
                    QueueRow.due_at <= utcnow(),
                )
                .order_by(QueueRow.due_at, QueueRow.event_id)
                .limit(BATCH)
            ).all()

    def _forget(self, session: Session, messages: Sequence[Message]) -> None:
        """Take messages from the queue, in the transaction that carries them out."""
        ids = [message.id for message in messages]
        session.execute(delete(QueueRow).where(QueueRow.consumer == self.consumer.name, QueueRow.event_id.in_(ids)))

    def _put_off(self, event_id: str, attempts: int, error: Exception) -> None:
        parked = attempts >= len(self._delays)
        log.warning(
            "event failed",
            consumer=self.consumer.name,
            event_id=event_id,
            attempts=attempts + 1,
            parked=parked,
            error=explain(error),
            frames=frames(error),
        )
        now = utcnow()
        values: dict[str, Any] = {"attempts": attempts + 1, "error": explain(error)}
        if parked:
            values["parked_at"] = now
        else:
            values["due_at"] = now + timedelta(seconds=self._delays[attempts])
        with self._db.transaction() as session:
            session.execute(update(QueueRow).where(*self._is(event_id)).values(**values))
        result = "parked" if parked else "retried"
        metrics.CONSUMED.labels(self.consumer.name.partition(".")[0], self.consumer.name, result).inc()

    def _is(self, event_id: str) -> tuple[Any, ...]:
        return (QueueRow.consumer == self.consumer.name, QueueRow.event_id == event_id)

    def parked(self) -> list[QueueRow]:
        """Return the dead letters."""
        with self._db.transaction() as session:
            return list(
                session.scalars(
                    select(QueueRow).where(QueueRow.consumer == self.consumer.name, QueueRow.parked_at.is_not(None))
                )
            )

    def waiting(self) -> int:
        """Return how many messages are not yet carried out (parked ones apart)."""
        return self._count(QueueRow.parked_at.is_(None))

    def dead(self) -> int:
        """Return how many dead letters there are."""
        return self._count(QueueRow.parked_at.is_not(None))

    def _count(self, which: ColumnElement[bool]) -> int:
        with self._db.transaction() as session:
            query = select(func.count()).where(QueueRow.consumer == self.consumer.name, which)
            return session.scalar(query) or 0


class LocalBus:
    """Publishes into the queues of every consumer of this process that hears the type."""

    def __init__(self, queues: list[LocalQueue]) -> None:
        self.queues = queues

    def publish(self, messages: list[Message]) -> list[str]:
        for queue in self.queues:
            queue.put(messages)
        return [message.id for message in messages]
