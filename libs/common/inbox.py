"""The inbox: each event has its effect once, however often and in whatever order it comes."""

import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby, takewhile
from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Index, delete, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, Session, mapped_column

from libs.common import context, metrics, traces
from libs.common.clock import utcnow
from libs.common.db import CommonBase, Database, Uuid, is_away
from libs.common.logs import logger
from libs.common.messages import Fact, Message

log = logger(__name__)

BATCH = 500  # with 100, notify followed half as many events a second: what many have in common is written once

F = TypeVar("F", bound=Fact)
T = TypeVar("T")
Handler = Callable[[Session, Any, Message], None]
Heard = tuple[Any, Message]
HandlerOfAll = Callable[[Session, Sequence[Heard]], None]
Also = Callable[[Session, Sequence[Message]], object]


class InboxRow(CommonBase):
    """An event that a consumer is done with."""

    __tablename__ = "inbox"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    consumed_at: Mapped[datetime]

    __table_args__ = (Index("ix_inbox_consumed_at", "consumed_at"),)


_NOTE = text(
    "INSERT INTO inbox (consumer, event_id, consumed_at)"
    " SELECT :consumer, event_id, :consumed_at FROM unnest(CAST(:ids AS uuid[])) AS event_id"
    " ON CONFLICT DO NOTHING RETURNING event_id::text"
)


class Consumer:
    """What one service does about events of others. `name` is also the name of its queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handlers: dict[str, tuple[type[Fact], HandlerOfAll]] = {}

    def on(self, fact: type[F]) -> Callable[[Callable[[Session, F, Message], None]], Handler]:
        """Register the decorated `(session, fact, message)` function for one type of event.

        It runs inside the transaction that records the event as consumed, and may be handed an event that is older
        than what it has: comparing versions is its own work.
        """

        def register(handler: Callable[[Session, F, Message], None]) -> Handler:
            def each(session: Session, heard: Sequence[Heard]) -> None:
                for one, message in heard:
                    with context.working_on(message.request_id):
                        handler(session, one, message)
                    session.flush()
                    session.expunge_all()  # the next one finds the session as if it were alone

            self._handlers[fact.type] = (fact, each)
            return handler

        return register

    def on_all(self, *facts: type[Fact]) -> Callable[[HandlerOfAll], HandlerOfAll]:
        """Register the decorated `(session, heard)` function for several types of events.

        It is handed all of them that follow each other in a transaction, as (fact, message) in their order.
        """

        def register(handler: HandlerOfAll) -> HandlerOfAll:
            self._handlers |= {fact.type: (fact, handler) for fact in facts}
            return handler

        return register

    @property
    def types(self) -> list[str]:
        """The event types this consumer hears."""
        return sorted(self._handlers)

    def receive(self, db: Database, *messages: Message, also: Also = lambda session, messages: None) -> None:
        """Carry messages out in one transaction, in their order; a second delivery changes nothing.

        `also` is done at the end of the same transaction.
        """

        def work(session: Session) -> None:
            if len(messages) > 1:
                self._wait_for_others(session)
            self.handle(session, messages)
            also(session, messages)

        began = traces.now_ns()
        try:
            db.run(work)
        except Exception:
            if traces.is_on() and len(messages) == 1:  # of many, each is tried again alone
                traces.consumed(self.name, messages, since_ns=began, failed=True)
            raise
        if traces.is_on():
            traces.consumed(self.name, messages, since_ns=began)
        for message in messages:
            metrics.EVENT_LAG.labels(self.name.partition(".")[0], self.name).observe(
                max(0.0, (utcnow() - message.time).total_seconds())
            )

    def receive_all(
        self, db: Database, messages: Sequence[Message], *, also: Also = lambda session, messages: None
    ) -> dict[str, Exception]:
        """Carry messages out in one transaction or, where any of them fails, by halves; return the errors by id.

        Those whose data can't be read are left out, and make no others slow.

        Raises where the database is away: then nothing is known, and all of them have to be received again.
        """
        if not messages:
            return {}
        try:
            self.receive(db, *messages, also=also)
        except Exception as error:
            if is_away(error):
                raise
            if len(messages) == 1:
                return {messages[0].id: error}
            if unreadable := self._unreadable(messages) if isinstance(error, ValidationError) else {}:
                others = [message for message in messages if message.id not in unreadable]
                return unreadable | self.receive_all(db, others, also=also)
            log.info("a batch is divided", consumer=self.name, messages=len(messages), error=type(error).__name__)
        else:
            return {}
        half = len(messages) // 2
        return self.receive_all(db, messages[:half], also=also) | self.receive_all(db, messages[half:], also=also)

    def _unreadable(self, messages: Sequence[Message]) -> dict[str, Exception]:
        errors: dict[str, Exception] = {}
        for message in messages:
            try:
                if message.type in self._handlers:
                    self._handlers[message.type][0].model_validate(message.data)
            except ValidationError as error:
                errors[message.id] = error
        return errors

    def _wait_for_others(self, session: Session) -> None:
        # Two batches lock many rows, each in its own order: they would run into each other again and again.
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(self.name, 0))))

    def handle(self, session: Session, messages: Sequence[Message]) -> None:
        """Do the work of messages within the caller's transaction, of each unless it was done before."""
        first_time = self._note(session, [message for message in messages if message.type in self._handlers])
        for handler, group in groupby(first_time, key=lambda message: self._handlers[message.type][1]):
            run = list(group)
            heard = [(self._handlers[message.type][0].model_validate(message.data), message) for message in run]
            with context.working_on(run[-1].request_id):
                handler(session, heard)

    def _note(self, session: Session, messages: Sequence[Message]) -> list[Message]:
        """Record messages as consumed; return those that were not before, each once."""
        by_id = {str(UUID(message.id)): message for message in messages}
        if not by_id:
            return []
        first_time = set(session.scalars(_NOTE, {"consumer": self.name, "ids": list(by_id), "consumed_at": utcnow()}))
        return [message for event_id, message in by_id.items() if event_id in first_time]


def at_once(waiting: Sequence[T], *, alone: Callable[[T], bool]) -> list[T]:
    """Return those at the front that go into one transaction; what has failed before, and may again, goes alone."""
    return list(takewhile(lambda one: not alone(one), waiting[:BATCH])) or list(waiting[:1])


def explain(error: Exception) -> str:
    """Say what was wrong with a message, without the values in it: what is kept of a failure is read by operators."""
    said = str(error)
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        said = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    elif isinstance(error, DBAPIError):
        diagnosis = getattr(error.orig, "diag", None)
        named = [
            getattr(diagnosis, name, None) for name in ("sqlstate", "table_name", "column_name", "constraint_name")
        ]
        said = " ".join([type(error.orig).__name__, *filter(None, named)])
    return f"{type(error).__name__}: {said}"[:500]


def frames(error: Exception) -> str:
    """Return where an error came from, without what it says: a validator's text holds what people have written."""
    return "".join(traceback.format_tb(error.__traceback__))


def sweep(session: Session, *, before: datetime) -> int:
    """Forget events consumed before that instant; return how many."""
    gone = session.execute(delete(InboxRow).where(InboxRow.consumed_at < before))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount
