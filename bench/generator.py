"""The load generator: replays rendered requests over keep-alive connections, and does as little else as it can.

It shares its two cores with the server, so each microsecond here is taken from what is measured.
"""

import asyncio
import itertools
import pickle
import resource
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import cast

import uvloop

from bench.load import Outcome, Plan

OPENED_AT_ONCE = 100  # below any backlog
TICK_S = 0.001  # the finest timer of the loop: arrivals that are due within it are sent together
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length: "
_CODE = b'"code":"'


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._write: Callable[[bytes], None]
        self._read = b""
        self._asked_at = 0.0
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write  # uvloop's is none by its classes

    def ask(self, request: bytes, asked_at: float) -> None:
        """Send the request; its latency begins at `asked_at`."""
        self._asked_at = asked_at
        self._is_waiting = True
        self._write(request)

    def data_received(self, data: bytes) -> None:
        if self._read:
            data = self._read + data
        end = data.find(_END_OF_HEAD)
        if end < 0:
            self._read = data
            return
        length = 0
        at = data.find(_LENGTH, 0, end)
        if at >= 0:
            length = int(data[at + 16 : data.index(b"\r\n", at)])
        if len(data) < end + 4 + length:
            self._read = data
            return
        self._read = b""
        self._is_waiting = False
        self._run.answered(self, data, self._asked_at)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.closed(self, was_waiting=self._is_waiting)
        self._is_waiting = False


class Run:
    """What all connections share: the requests to come and what was answered."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests: Iterator[bytes] = itertools.cycle(plan.requests) if plan.repeat else iter(plan.requests)
        self._wanted = str(plan.wanted).encode()
        self._counts: Counter[bytes] = Counter()
        self._latencies = array("d")
        self._counted = 0
        self._under_way = 0
        self._is_over = False
        self._done = asyncio.Event()
        self._idle: list[Connection] = []
        self._late: deque[tuple[bytes, float]] = deque()
        self._started = self._counts_from = self._ends = self._last = self._last_wanted = 0.0

    async def carry_out(self) -> Outcome:
        plan = self._plan
        connections = await self._open()
        if plan.start_at is not None:
            await _until(plan.start_at)
        self._started = time.perf_counter()
        self._counts_from = self._started + plan.warm_s
        self._ends = self._started + plan.seconds
        if plan.mode == "open":
            self._idle = connections
            await self._arrive()
        else:
            for connection in connections:
                self._next(connection)
        try:
            await asyncio.wait_for(self._done.wait(), plan.seconds + plan.patience_s)
        except TimeoutError:
            self._counts[b"unanswered"] += self._under_way
        return self._outcome()

    def answered(self, connection: Connection, data: bytes, asked_at: float) -> None:
        now = time.perf_counter()
        status = data[9:12]
        self._counts[_named(status, data)] += 1
        if status == self._wanted:
            self._last_wanted = now
            if now >= self._counts_from:
                self._counted += 1
                self._latencies.append(now - asked_at)
        self._last = now
        self._under_way -= 1
        if self._plan.mode == "closed":
            self._next(connection)
        elif self._late:
            self._under_way += 1
            connection.ask(*self._late.popleft())
        else:
            self._idle.append(connection)
        self._look_for_the_end()

    def closed(self, connection: Connection, *, was_waiting: bool) -> None:
        """The server, or we at the end, has closed a connection; a request under way on it is lost."""
        if connection in self._idle:
            self._idle.remove(connection)
        if not was_waiting:
            return
        self._counts[b"lost"] += 1
        self._under_way -= 1
        self._look_for_the_end()

    def _next(self, connection: Connection) -> None:
        now = time.perf_counter()
        if self._plan.mode == "closed" and now >= self._ends:
            self._is_over = True
            return
        request = next(self._requests, None)
        if request is None:
            self._is_over = True
            return
        self._under_way += 1
        connection.ask(request, now)

    async def _arrive(self) -> None:
        """Send what is due at each tick; what finds no idle connection waits, and its waiting counts."""
        gap = 1 / self._plan.rate
        due = self._started
        while due < self._ends:
            now = time.perf_counter()
            while due <= now and due < self._ends:
                request = next(self._requests)
                if self._idle:
                    self._under_way += 1
                    self._idle.pop().ask(request, due)
                else:
                    self._late.append((request, due))
                due += gap
            await asyncio.sleep(TICK_S)
        self._is_over = True
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if self._under_way == 0 and not self._late and (self._is_over or self._plan.mode == "once"):
            self._done.set()

    async def _open(self) -> list[Connection]:
        loop = asyncio.get_running_loop()
        opened: list[Connection] = []
        ports = itertools.cycle(self._plan.ports)
        while len(opened) < self._plan.connections:
            batch = [
                loop.create_connection(lambda: Connection(self), "127.0.0.1", next(ports))
                for _ in range(min(OPENED_AT_ONCE, self._plan.connections - len(opened)))
            ]
            opened += [protocol for _, protocol in await asyncio.gather(*batch)]
        return opened

    def _outcome(self) -> Outcome:
        # To the last answer, and not to the end of asking: a slow server answers all connections in one wave, which a
        # shorter window would catch twice or not at all.
        window = self._last - self._counts_from
        ordered = sorted(self._latencies)
        return Outcome(
            counts={name.decode(): count for name, count in sorted(self._counts.items())},
            rate=self._counted / window if window > 0 else 0.0,
            p50_ms=_quantile(ordered, 0.5),
            p99_ms=_quantile(ordered, 0.99),
            wanted_s=self._last_wanted - self._started,
            all_s=self._last - self._started,
        )


async def _until(instant: float) -> None:
    """Return at that instant and not, as a timer would, up to a millisecond off."""
    if time.time() > instant:
        raise RuntimeError("opening the connections took too long for the moment they were opened for")
    await asyncio.sleep(instant - time.time() - 0.05)
    while time.time() < instant:
        await asyncio.sleep(0)


def _named(status: bytes, data: bytes) -> bytes:
    """A refusal goes by its status and code, everything else by its status."""
    at = data.find(_CODE) if status >= b"400" else -1
    return status if at < 0 else status + b" " + data[at + 8 : data.index(b'"', at + 8)]


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 if ordered else 0.0


def allow_many_files() -> None:
    """Let this process, and those it starts, open as many files as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    allow_many_files()
    plan: Plan = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(uvloop.run(Run(plan).carry_out())))


if __name__ == "__main__":
    main()
