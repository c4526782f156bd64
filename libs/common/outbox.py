"""The outbox: events recorded in the business transaction, and the relay that hands them to the bus."""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol

from pydantic_core import to_json
from sqlalchemy import BigInteger, Identity, Index, delete, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Mapped, Session, mapped_column

from libs.common import context, metrics, traces
from libs.common.clock import utcnow
from libs.common.db import CommonBase, Database, Uuid
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.common.messages import Fact, Message

log = logger(__name__)

BATCH = 500
RECORDED = "recorded_event"  # in a session's info: this transaction recorded an event


class OutboxRow(CommonBase):
    """One recorded event. `position` orders the relay's reading; it says nothing about the order of commits."""

    __tablename__ = "outbox"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, Identity())
    type: Mapped[str]
    subject: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[dict[str, Any]]
    request_id: Mapped[str]
    replayed: Mapped[bool] = mapped_column(server_default=text("false"))
    time: Mapped[datetime]
    published_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_outbox_unpublished", "position", postgresql_where=text("published_at IS NULL")),
        Index("ix_outbox_published_at", "published_at", postgresql_where=text("published_at IS NOT NULL")),
    )


# One statement for any number of events. With one for each, a batch of a hundred took a consumer three times as long here.
_COLUMNS = "id, type, subject, version, data, request_id, replayed, time"
_RECORD = text(
    f"INSERT INTO outbox ({_COLUMNS})"  # noqa: S608  # names of our own
    f" SELECT {_COLUMNS} FROM json_populate_recordset(NULL::outbox, CAST(:rows AS json))"
)


def record(session: Session, *facts: Fact, replayed: bool = False) -> None:
    """Record facts as events of this transaction: they are published if and only if it commits."""
    if not facts:
        return
    rows = [row(fact, request_id=context.request_id()) | {"replayed": replayed} for fact in facts]
    session.execute(_RECORD, {"rows": to_json(rows).decode()})
    session.info[RECORDED] = True


def row(fact: Fact, *, request_id: str) -> dict[str, Any]:
    """Return the row of a new event, for whoever inserts it by a statement of their own."""
    return {
        "id": new_id(),
        "type": fact.type,
        "subject": fact.subject,
        "version": fact.version,
        "data": fact.model_dump(mode="json"),
        "request_id": request_id,
        "replayed": False,
        "time": utcnow(),
    }


def republish(db: Database, facts_of: Callable[[Session], Iterable[Fact]], *, batch: int = BATCH) -> int:
    """Record the present state of everything a service owns once more; return how many events that made."""
    count = 0
    with db.transaction() as session:
        waiting: list[Fact] = []
        for fact in facts_of(session):
            waiting.append(fact)
            if len(waiting) == batch:
                record(session, *waiting, replayed=True)
                count += len(waiting)
                waiting.clear()
        record(session, *waiting, replayed=True)
        return count + len(waiting)


def sweep(session: Session, *, before: datetime) -> int:
    """Delete what was published before that instant; return how many rows went."""
    gone = session.execute(delete(OutboxRow).where(OutboxRow.published_at < before))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


class Publisher(Protocol):
    """Where a relay takes messages."""

    def publish(self, messages: list[Message]) -> list[str]:
        """Hand the messages over; return the ids of those that are safely stored on the other side."""
        ...


class Relay:
    """Moves unpublished events of one service to the bus. Any number of relays may run beside each other.

    It claims rows, whatever their position (a row with a lower position may commit later), publishes, and marks a
    row only when the bus has confirmed it. A relay that dies in between leaves the row to be published again.
    """

    def __init__(self, db: Database, publisher: Publisher, *, source: str, poll_s: float) -> None:
        self._db = db
        self._publisher = publisher
        self._source = source
        self._poll_s = poll_s
        self._wake = threading.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    def wake_on_commit(self, db: Database) -> None:
        """Look at once after each commit that recorded an event (in one process, the relay need not poll)."""
        db.on_commit(RECORDED, lambda _: self.wake())

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Relay until stopped. A lost database or broker is waited for."""
        pause = self._poll_s
        while not self._stopping:
            try:
                moved = self.relay_once()
                pause = self._poll_s
            except (DBAPIError, PoolTimeout, OSError) as error:
                log.warning("relay waits", source=self._source, error=type(error).__name__)
                moved, pause = 0, min(max(pause, 0.05) * 2, 2.0)
            if moved < BATCH:
                self._wake.wait(pause)
                self._wake.clear()

    def relay_once(self) -> int:
        """Publish one batch; return how many events were confirmed."""
        with self._db.transaction() as session:
            rows = session.scalars(
                select(OutboxRow)
                .where(OutboxRow.published_at.is_(None))
                .order_by(OutboxRow.position)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            if not rows:
                return 0
            messages = [self._message(row) for row in rows]
            began = traces.now_ns()
            stored = self._publisher.publish(messages)
            if stored:
                session.execute(update(OutboxRow).where(OutboxRow.id.in_(stored)).values(published_at=utcnow()))
            metrics.PUBLISHED.labels(self._source).inc(len(stored))
            if traces.is_on():
                confirmed = set(stored)
                traces.published([message for message in messages if message.id in confirmed], since_ns=began)
            return len(stored)

    def _message(self, row: OutboxRow) -> Message:
        return Message(
            id=row.id,
            type=row.type,
            source=self._source,
            subject=row.subject,
            time=row.time,
            version=row.version,
            request_id=row.request_id,
            replayed=row.replayed,
            data=row.data,
        )


def oldest_s(session: Session) -> float:
    """Return how many seconds ago the oldest event was recorded that waits to be published; 0 where none does."""
    since = session.scalar(select(func.min(OutboxRow.time)).where(OutboxRow.published_at.is_(None)))
    return 0.0 if since is None else max(0.0, (utcnow() - since).total_seconds())


def pending(session: Session) -> int:
    """Return how many events wait to be published."""
    return session.scalar(select(func.count()).where(OutboxRow.published_at.is_(None))) or 0
