"""Live stats: the slots of a hall as they change, for whoever listens.

The consumer may run in any process. Each process that has listeners looks at the stats a few times a second, for all of
them at once, and goes by the transactions that changed them: whatever was not yet committed when it looked last has a
number that is not below the lowest of those that were under way then.
"""

import asyncio
import contextvars
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from libs.common import sign_ins
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.errors import Texts, Unavailable
from libs.common.logs import logger
from libs.common.streams import BEAT, event
from libs.contracts.principals import Staff
from services.notify import metrics

log = logger(__name__)

OF_ONE_ACCOUNT = 8  # streams in one process: screens enough for anybody, and never all of them
HORIZON_IN_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
RETRY = b"retry: 2000\n\n"
SHOWN = (
    "slot_id",
    "item_id",
    "day",
    "hour",
    "booked",
    "cancelled",
    "revoked",
    "checked_in",
    "missed",
    "taken",
    "capacity",
    "version",
)
HORIZON = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
CHANGED = text(
    f"""
SELECT asked.number, {", ".join(f"s.{name}::text" if name.endswith("_id") else f"s.{name}" for name in SHOWN)}
FROM unnest(CAST(:halls AS uuid[]), CAST(:firsts AS date[]), CAST(:lasts AS date[]), CAST(:sinces AS bigint[]))
    WITH ORDINALITY AS asked(hall_id, first, last, since, number)
JOIN slot_stats s ON s.hall_id = asked.hall_id AND s.day BETWEEN asked.first AND asked.last
WHERE s.changed_by >= asked.since
ORDER BY asked.number, s.day, s.hour, s.slot_id"""  # noqa: S608  # names of our own
)


class TooManyListeners(Unavailable):
    code = "too_many_listeners"
    texts = Texts(en="Too many screens are listening here. Try again in a moment.", zh="实时连接过多，请稍后再试")


@dataclass(frozen=True)
class Asked:
    """The slots of a hall that begin on these days, as changed since a horizon (0: all)."""

    hall_id: str
    first: date
    last: date
    since: int


@dataclass(eq=False)
class Listener:
    """Whoever follows the slots of a hall: those of a day or, without one, of the days around now in every zone."""

    staff: Staff
    expires_at: datetime
    hall_id: str
    day: date | None
    since: int = 0
    has_all: bool = False  # was sent a snapshot, and what it sees now is what changed
    days: tuple[date, date] | None = None
    seen: dict[str, int] = field(default_factory=dict)  # versions by slot
    pending: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    reason: str = ""  # why it is at its end
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        """What it has seen by now: all that changed below a horizon, in the days of a hall."""
        return f"{self.since}.{self._shown}"

    def resume(self, last_id: str, now: datetime) -> None:
        """Go on after the event of this id, where it says the same hall and days; otherwise begin anew."""
        self._look_at(now)
        horizon, _, shown = last_id.partition(".")
        if shown == self._shown and HORIZON_IN_ID.fullmatch(horizon):
            self.since = int(horizon)
            self.has_all = self.since > 0

    def ask(self, now: datetime) -> Asked:
        first, last = self._look_at(now)
        return Asked(self.hall_id, first, last, self.since)

    def _look_at(self, now: datetime) -> tuple[date, date]:
        today = now.date()
        days = (self.day, self.day) if self.day else (today - timedelta(days=1), today + timedelta(days=1))
        if days != self.days:  # at first, or at midnight: there is a day that it has not seen
            self.since = 0
        self.days = days
        return days

    @property
    def _shown(self) -> str:
        return ".".join([self.hall_id, *(day.isoformat() for day in self.days or ())])

    def take(self, rows: Sequence[Mapping[str, Any]], horizon: int) -> None:
        """Keep what is new to it, the newest of each slot, until it is sent."""
        if self.since > horizon:  # of another database, or none of ours
            self.since, self.has_all = 0, False
            return
        for row in rows:
            if row["version"] > self.seen.get(row["slot_id"], 0):
                self.seen[row["slot_id"]] = row["version"]
                self.pending[row["slot_id"]] = row
        if self.pending or (self.since == 0 and not self.has_all):
            self.woken.set()
        self.since = horizon

    def end(self, reason: str) -> None:
        self.reason = reason
        self.woken.set()


class Live:
    """The listeners of one process, and the one task that looks for all of them while there are any."""

    def __init__(self, settings: Any) -> None:
        self._poll_s: float = settings.live_poll_ms / 1000
        self._beat_s: float = settings.live_heartbeat_s
        self._for = timedelta(seconds=settings.live_for_s)
        self._most: int = settings.live_listeners
        self._listeners: set[Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def listen(
        self, db: Database, staff: Staff, *, expires_at: datetime, hall_id: str, day: date | None, last_id: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield events until the sign-in ends, or raise TooManyListeners. `last_id` is that of the last event seen, or empty.

        A listener counts from when the first event is asked for until the generator is closed.
        """
        of_account = sum(listener.staff.id == staff.id for listener in self._listeners)
        if of_account >= OF_ONE_ACCOUNT or len(self._listeners) >= self._most:
            raise TooManyListeners
        now = utcnow()
        listener = Listener(staff, min(expires_at, now + self._for), hall_id, day)
        listener.resume(last_id, now)
        self._enter(db, listener)
        try:
            yield RETRY
            while not listener.reason:
                try:
                    async with asyncio.timeout(self._beat_s):
                        await listener.woken.wait()
                except TimeoutError:
                    yield BEAT
                    continue
                listener.woken.clear()
                if listener.reason:
                    break
                slots, listener.pending = list(listener.pending.values()), {}
                name = "changes" if listener.has_all else "snapshot"
                listener.has_all = True
                yield event(name, {"slots": slots}, id=listener.id)
            yield event("end", {"reason": listener.reason})
        finally:
            self._leave(listener)

    def _enter(self, db: Database, listener: Listener) -> None:
        self._listeners.add(listener)
        metrics.LISTENERS.labels("notify").inc()
        if self._looking is None or self._looking.done():
            self._hurry = asyncio.Event()
            # Not in the context of the request that happens to be the first.
            self._looking = asyncio.create_task(self._look_on(db), context=contextvars.Context())
        self._hurry.set()

    def _leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        metrics.LISTENERS.labels("notify").dec()
        metrics.STREAMS_ENDED.labels("notify", listener.reason or "left").inc()

    async def _look_on(self, db: Database) -> None:
        try:
            while self._listeners:
                self._hurry.clear()
                await self._look(db)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._hurry.wait()
        except Exception:
            log.exception("live stats ended")
            for listener in self._listeners:
                listener.end("failed")

    async def _look(self, db: Database) -> None:
        """Hand every listener what has changed for it since the last look, and end those whose time is up."""
        now = utcnow()
        asking: dict[Asked, list[Listener]] = {}
        for listener in self._listeners:
            if listener.expires_at <= now:
                listener.end("time_up")
            else:
                asking.setdefault(listener.ask(now), []).append(listener)
        accounts = {listener.staff.id for group in asking.values() for listener in group}
        try:
            horizon, found, ended = await asyncio.to_thread(_read, db, list(asking), accounts)
        except (DBAPIError, PoolTimeout) as error:
            log.warning("live stats wait for the database", error=type(error).__name__)
            return
        for group, rows in zip(asking.values(), found, strict=True):
            for listener in group:
                if listener.staff.version < ended.get(listener.staff.id, 0):
                    listener.end("signed_out")
                else:
                    listener.take(rows, horizon)


def _read(
    db: Database, asked: Sequence[Asked], accounts: set[str]
) -> tuple[int, list[list[Mapping[str, Any]]], dict[str, int]]:
    """Return a horizon, what changed for each who asked since theirs, and the sign-ins that were ended."""
    found: list[list[Mapping[str, Any]]] = [[] for _ in asked]
    with db.transaction() as session:
        horizon: int = session.execute(HORIZON).scalar_one()  # before reading: what it misses is not below it
        rows = session.execute(
            CHANGED,
            {
                "halls": [one.hall_id for one in asked],
                "firsts": [one.first for one in asked],
                "lasts": [one.last for one in asked],
                "sinces": [one.since for one in asked],
            },
        )
        for number, *values in rows:
            found[number - 1].append(dict(zip(SHOWN, values, strict=True)))
        return horizon, found, sign_ins.all_ended(session, accounts)
