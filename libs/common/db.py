"""The database of one service: engine, transactions, and the tables every service has."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from sqlalchemy import DateTime, Dialect, MetaData, create_engine, event, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction, sessionmaker
from sqlalchemy.types import TypeDecorator

from libs.common import context
from libs.common.errors import Unavailable

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

T = TypeVar("T")

ATTEMPTS = 5
PATIENCE_S = 2  # until a connection is free, or a new one is made
SILENCE_S = 17.0  # longer than any statement may take (bootstrap: statement_timeout)
_RACED = (pg.DeadlockDetected, pg.SerializationFailure)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware going in (naive is a mistake of ours and raises), UTC coming out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive datetime is no instant")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None


TYPE_MAP: dict[Any, Any] = {datetime: UtcDateTime(), dict[str, Any]: JSONB, list[Any]: JSONB}
Uuid = UUID(as_uuid=False)


class CommonBase(DeclarativeBase):
    """Tables that every service keeps in its own schema: outbox, inbox, local queue, ended sign-ins."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPE_MAP


class _Connection(psycopg.Connection[Any]):
    """A connection that is closed when the server stays silent: a hung one keeps the socket open, and nobody notices."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._patiently(gen), *args, **kwargs)

    def _patiently(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + SILENCE_S
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:  # psycopg looks in ten times a second
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"PostgreSQL did not answer for {SILENCE_S} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the generator returned


class Database:
    """One service's login to PostgreSQL. The login's search_path names the service's schema, and nothing else."""

    def __init__(self, url: str, *, name: str, pool_size: int = 10) -> None:
        self.engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=PATIENCE_S,
            pool_pre_ping=True,  # a restarted server costs nobody an error
            hide_parameters=True,  # an error's text lands in logs, which hold no answers, codes or tokens
            connect_args={"connect_timeout": PATIENCE_S, "application_name": f"hallpass-{name}"},
        )
        event.listen(self.engine, "do_connect", lambda _, __, args, words: _Connection.connect(*args, **words))
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._acts: dict[str, list[Callable[[Any], None]]] = {}
        self._heard: list[tuple[str, Callable[..., Any]]] = [
            ("after_commit", self._after_commit),
            ("after_soft_rollback", self._after_rollback),
        ]
        for name, act in self._heard:
            event.listen(self._sessions, name, act)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session whose work is committed at the end, or undone where the block raises.

        Raises Unavailable, and leaves nothing, where the caller has been told to come back meanwhile.
        """
        _require_caller()
        with self._sessions() as session:
            yield session
            _require_caller()
            session.commit()

    def run(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction, again from the start when PostgreSQL broke a deadlock with it."""
        for attempt in range(ATTEMPTS):
            try:
                with self.transaction() as session:
                    return work(session)
            except DBAPIError as error:
                if not isinstance(error.orig, _RACED) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def on_commit(self, note: str, act: Callable[[Any], None]) -> None:
        """Call `act` with what a transaction left in `session.info[note]`, after its commit and only then.

        What is rolled back is forgotten; with a savepoint all that was noted by then is. `act` must not raise, and the
        caller of the transaction goes on only when it has returned.
        """
        self._acts.setdefault(note, []).append(act)

    def committed(self, notes: Mapping[str, Any]) -> None:
        """Tell of a commit on a connection of one's own, as of a session that left these notes."""
        for note, left in notes.items():
            for act in self._acts.get(note, ()):
                act(left)

    def forget_acts(self) -> None:
        """Call nobody any more of those who were to hear of commits."""
        self._acts.clear()

    def _after_commit(self, session: Session) -> None:
        if not session.in_nested_transaction():
            self.committed({note: session.info.pop(note) for note in self._acts if note in session.info})

    def _after_rollback(self, session: Session, _: SessionTransaction) -> None:
        for note in self._acts:
            session.info.pop(note, None)

    def ping(self) -> None:
        """Raise where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def revision(self) -> str | None:
        """Return the migration this schema is at."""
        with self.engine.connect() as connection:
            found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return found

    def close(self) -> None:
        """Let go of every connection, and of what was to be told of commits: SQLAlchemy would hold it for good."""
        self.engine.dispose()
        while self._heard:
            name, act = self._heard.pop()
            event.remove(self._sessions, name, act)


def _require_caller() -> None:
    if not context.caller_waits():
        raise Unavailable


def unavailable(error: BaseException) -> Unavailable | None:
    """Return what to tell a caller when this error says that PostgreSQL is away, restarting or overrun."""
    return Unavailable() if is_away(error) or _overrun(error) else None


def is_away(error: BaseException) -> bool:
    """Tell whether PostgreSQL can't be had at all, so that the same work may be tried until it is back.

    A lost deadlock, a lock not had in time, a cancelled statement are faults of the work itself, or of its company.
    """
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError) or _overrun(error):
        return False
    # A connection that was never made is not "invalidated".
    return error.connection_invalidated or isinstance(error.orig, (psycopg.OperationalError, psycopg.InterfaceError))


def _overrun(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.orig, (*_RACED, pg.LockNotAvailable, pg.QueryCanceled))
