"""Values kept in the process for a moment: made by one, handed to everybody who asks meanwhile."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from libs.common.clock import utcnow
from libs.common.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FRESH_S = 0.1  # at this age the next who asks has it made anew, and nobody waits for that
# At this age it is no longer shown: everybody waits for the new one. Not much later: readers who are served at once keep
# the interpreter from the thread that makes it. With 150 and 250 ms a booking took 320 ms (p95) to show on a busy machine,
# with these 260.
LIFETIME_S = 0.15
OLDEST_S = 0.8  # whoever waits gets nothing that was begun so long ago, unless it was begun for them
PATIENCE_S = 2.0  # who would wait longer is told to come again
MOST_BYTES = 32 * 1024 * 1024
MAKERS = 4  # threads; fewer than the database has connections, for other routes want some
MOST_WAITING = 10_000  # different values waiting to be made


@dataclass(frozen=True, slots=True)
class Made(Generic[V]):
    """A value, its size in bytes, and the instants between which it is true if nothing is edited."""

    value: V
    size: int
    since: datetime
    until: datetime | None = None

    def is_true_at(self, now: datetime) -> bool:
        return self.since <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    made: Made[V]
    started: float  # when the making began: nothing in it is older


@dataclass(frozen=True, slots=True)
class _Failure:
    """What making it raised. Waiting futures get it as a value: they'd complain of an exception nobody fetched."""

    error: Exception


class Kept(Generic[K, V]):
    """Values by key, at most `lifetime_s` old, each made by one thread at a time.

    Errors are never kept. Everything but `get` may be called from any thread; `get` from any event loop.
    """

    def __init__(
        self, name: str, *, fresh_s: float = FRESH_S, lifetime_s: float = LIFETIME_S, most_bytes: int = MOST_BYTES
    ) -> None:
        self._makers = ThreadPoolExecutor(MAKERS, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._fresh_s = fresh_s
        self._lifetime_s = lifetime_s
        self._most = most_bytes
        self._size = 0
        self._entries: dict[K, _Entry[V]] = {}  # in the order in which they were made
        self._making: dict[K, Future[_Entry[V] | _Failure]] = {}
        self._generation = 0

    async def get(self, key: K, make: Callable[[datetime], Made[V]]) -> V:
        """Return the value, made by `make(now)` in a thread where none is at hand, or raise what it raised.

        Raises Unavailable where it is not there in time.
        """
        asked = time.monotonic()
        give_up = asked + PATIENCE_S
        while True:
            entry = self._entries.get(key)  # no lock: this is the path of almost everybody
            if entry is not None and entry.made.is_true_at(utcnow()):
                age = time.monotonic() - entry.started
                if age < self._fresh_s:
                    return entry.made.value
                if age < self._lifetime_s:
                    self._make(key, make, seen=entry)
                    return entry.made.value
            made = await self._wait(self._make(key, make, seen=entry), give_up)
            # Not kept by age here: a slow database must not make everybody wait twice.
            is_new = made.started >= asked or time.monotonic() - made.started < OLDEST_S
            if is_new and made.made.is_true_at(utcnow()):
                return made.made.value

    def forget(self) -> None:
        """Drop everything, also what is being made of an older state. Who waits for that already may still get it."""
        with self._lock:
            self._generation += 1
            self._entries.clear()
            self._making.clear()
            self._size = 0

    async def _wait(self, making: "Future[_Entry[V] | _Failure]", give_up: float) -> _Entry[V]:
        # Neither the timeout nor a caller who hangs up cancels the making: others wait for it.
        await asyncio.wait([asyncio.wrap_future(making)], timeout=max(0.0, give_up - time.monotonic()))
        if not making.done():
            raise Unavailable
        found = making.result()
        if isinstance(found, _Failure):
            raise found.error
        return found

    def _make(
        self, key: K, make: Callable[[datetime], Made[V]], *, seen: _Entry[V] | None
    ) -> "Future[_Entry[V] | _Failure]":
        with self._lock:
            present = self._entries.get(key)
            if present is not None and present is not seen:  # somebody was done just now
                made: Future[_Entry[V] | _Failure] = Future()
                made.set_result(present)
                return made
            making = self._making.get(key)
            if making is None:
                if len(self._making) >= MOST_WAITING:
                    raise Unavailable
                context = contextvars.copy_context()  # so that logs name the request
                making = self._makers.submit(context.run, self._made, key, make, self._generation)
                self._making[key] = making
            return making

    def _made(self, key: K, make: Callable[[datetime], Made[V]], generation: int) -> _Entry[V] | _Failure:
        started = time.monotonic()
        found: _Entry[V] | _Failure
        try:
            found = _Entry(make(utcnow()), started)
        except Exception as error:  # noqa: BLE001  # whoever waits raises it
            found = _Failure(error)
        with self._lock:
            if generation == self._generation:
                del self._making[key]
                if isinstance(found, _Entry):
                    self._keep(key, found)
        return found

    def _keep(self, key: K, entry: _Entry[V]) -> None:
        self._drop(key)
        self._entries[key] = entry
        self._size += entry.made.size
        # The oldest stand first. What is read is made anew all the time, so those that are old are not read.
        for old in list(self._entries):
            if self._size <= self._most and entry.started - self._entries[old].started < self._lifetime_s:
                break
            self._drop(old)

    def _drop(self, key: K) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._size -= entry.made.size
