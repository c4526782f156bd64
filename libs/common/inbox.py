"""The inbox: each event has its effect once, however often and in whatever order it comes."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Index, delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from libs.common import context, metrics
from libs.common.clock import utcnow
from libs.common.db import CommonBase, Database, Uuid
from libs.common.messages import Fact, Message

F = TypeVar("F", bound=Fact)
Handler = Callable[[Session, Any, Message], None]


class InboxRow(CommonBase):
    """An event that a consumer is done with."""

    __tablename__ = "inbox"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    consumed_at: Mapped[datetime]

    __table_args__ = (Index("ix_inbox_consumed_at", "consumed_at"),)


class Consumer:
    """What one service does about events of others. `name` is also the name of its queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handlers: dict[str, tuple[type[Fact], Handler]] = {}

    def on(self, fact: type[F]) -> Callable[[Callable[[Session, F, Message], None]], Handler]:
        """Register the decorated `(session, fact, message)` function for one type of event.

        It runs inside the transaction that records the event as consumed, and may be handed an event that is older
        than what it has: comparing versions is its own work.
        """

        def register(handler: Callable[[Session, F, Message], None]) -> Handler:
            self._handlers[fact.type] = (fact, handler)
            return handler

        return register

    @property
    def types(self) -> list[str]:
        """The event types this consumer hears."""
        return sorted(self._handlers)

    def receive(self, db: Database, message: Message) -> None:
        """Carry out one message in one transaction; a second delivery changes nothing."""
        with context.working_on(message.request_id):
            db.run(lambda session: self.handle(session, message))
        metrics.EVENT_LAG.labels(self.name.partition(".")[0], self.name).observe(
            max(0.0, (utcnow() - message.time).total_seconds())
        )

    def handle(self, session: Session, message: Message) -> None:
        """Do the work of one message within the caller's transaction, unless it was done before."""
        if message.type not in self._handlers:
            return
        if not self._first_time(session, message):
            return
        fact, handler = self._handlers[message.type]
        handler(session, fact.model_validate(message.data), message)

    def _first_time(self, session: Session, message: Message) -> bool:
        done = session.execute(
            insert(InboxRow)
            .values(consumer=self.name, event_id=message.id, consumed_at=utcnow())
            .on_conflict_do_nothing()
            .returning(InboxRow.event_id)
        )
        return done.scalar() is not None


def sweep(session: Session, *, before: datetime) -> int:
    """Forget events consumed before that instant; return how many."""
    gone = session.execute(delete(InboxRow).where(InboxRow.consumed_at < before))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount
