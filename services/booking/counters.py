"""The atomic counters: what Redis knows of each slot, so that the crowd before a full one needs no visit to PostgreSQL.

PostgreSQL is the truth, and a counter never gives a place. It says one of two things: "full", or nothing, and then
PostgreSQL is asked. So whatever becomes of Redis (down, slow, flushed, restored, behind, lying), the worst it can do
is a visit to PostgreSQL too many, or a refusal that was right up to FRESH_MS (300 ms) ago.

**What a counter holds.** Of each slot, under keys that share a hash tag: version, taken, capacity and whether it is open,
as some commit left them; the ids of users who hold or held a place, or are offered one; short leases of those who are on their way to
PostgreSQL. Every change of an inventory row is told to it after its commit, as a `Count`.

**Told in any order.** A Count may come late, twice, out of order, or never. The greater (epoch, version) wins whole;
an older one changes no number. The epoch (`Epoch`) is the history that the versions belong to: after a failover or a restore
versions are given out a second time, and a cache that is older than its database must not outvote it. A Count is
labelled with the epoch known when it was made, before its commit: a label may be too old (ignored), never too new.

**Refusing only whom it knows.** Someone who holds a place may be repeating a request that succeeded, under its key, and
must get the first success again; someone who is offered one is to be told so: these holders always go to PostgreSQL. So a refusal needs the whole set of holders. A Count
tells who got a place in the versions (before, version]; the counter keeps the stretches it was told of, and joins those that
touch, so that Counts of several processes may overtake each other. A lost Count leaves a gap; a reading of PostgreSQL is
a Count of (0, version], and closes it also while commits go on. Members are never removed, and their number is kept
beside the set, so that a set which Redis evicted or expired alone is noticed.

**Refusing only for a while.** A refusal needs a confirmation less than FRESH_MS old, by Redis's clock: a commit, or a reading.
A full slot has no commits, so refusals that rest on an old confirmation ask for a reading of the row (one a slot and process every
50 ms at most), before it is too old. A Count carries the moment when it was true, and not that when it
arrives: what lay in a queue or in the network confirms nothing. A reading that finds a lower version than a record
that nobody has confirmed for two seconds replaces it: a record that no history explains does not stay.

**Leases** name the users whose requests were let through. While one stands its user is not refused: the request may have
succeeded in a process that died before it told anybody (a place was given back and taken again, and the record still says
full), and its repetition must find its success. A lease ends with the commit that makes its user a holder, when
PostgreSQL has refused the request (`release`), or by itself after LEASE_MS. It never refuses anybody, and shows in the
metrics (`crowded`) how much of a crowd reached PostgreSQL.

**Missed for good.** What a process had committed when it died is told to nobody, and a Redis that starts again may lack the
last second. So a process that starts, and one that notices another run of PostgreSQL or Redis, reads every slot that has a
counter; the reconciler does by the minute what nobody noticed.

**Time.** `admit` takes at most BUDGET_S (50 ms); after a failure nobody asks Redis for PAUSE_S. `apply` only puts into a bounded
queue that a thread empties (counter_applier.py), and drops what does not fit: that leaves a gap, as above.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import cached_property
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from libs.common.db import Database
from libs.common.logs import logger
from services.booking import counter_scripts as scripts
from services.booking import metrics
from services.booking.counter_applier import SERVICE, Applier
from services.booking.counts import Ask, Count, Full

__all__ = ["Ask", "Count", "Counters", "Full"]

log = logger(__name__)

BUDGET_S = 0.05
PAUSE_S = 1.5
REFRESH_MS = scripts.FRESH_MS / 3  # a refusal that rests on something older asks for a reading
ASKERS = 2
CHANGED = "counts"  # in a session's info: the Counts of its transaction, by slot


class State(StrEnum):
    """`asked`: PostgreSQL has not yet said which history it writes. `off`: there is no Redis."""

    TRUSTED = "trusted"
    ASKED = "asked"
    DOWN = "down"
    OFF = "off"


class Counters:
    """One process's way to the counters of all slots. Without a Redis it never knows anything."""

    def __init__(self, redis_url: str | None, database_url: str) -> None:
        self.applier = Applier(redis_url, database_url) if redis_url else None
        self._resume_at = 0.0
        self._redis_url = redis_url
        # Threads, because an answer that has come would wait for all that a busy event loop does between its steps.
        self._threads = ThreadPoolExecutor(ASKERS, "counters-ask")
        for outcome in scripts.VERDICTS.values():
            metrics.ASKS.labels(SERVICE, outcome)  # 0, before anybody asks

    def start(self) -> None:
        """Start the thread at once; otherwise it starts with the first work. May be repeated."""
        if self.applier:
            self.applier.start()

    def close(self) -> None:
        """Tell Redis what still waits, within a moment, and end the thread."""
        if self.applier:
            self._threads.shutdown()
            self._redis.close()
            self.applier.close()

    def follow(self, db: Database) -> None:
        """Apply what every transaction of this database notes, after its commit."""
        db.on_commit(CHANGED, lambda counts: self.apply(counts.values()))

    def apply(self, counts: Iterable[Count]) -> None:
        """Tell the counters what commits left. Never blocks, never raises; what can't be told is dropped and counted."""
        self._hand_over(counts)

    def release(self, asks: Iterable[Ask]) -> None:
        """Say that PostgreSQL refused these requests, which `admit` had let through. Never blocks, never raises.

        Where that is forgotten, PostgreSQL is asked about their users for as long as their leases last.
        """
        self._hand_over(asks)

    def doubt(self, slot_ids: Iterable[str]) -> None:
        """Say that nobody knows whether a commit of theirs came about: they are read anew."""
        for slot_id in slot_ids:
            self._want(slot_id, holders=True)

    @property
    def state(self) -> State:
        """How much they are worth now: anything but `trusted` means that PostgreSQL decides alone."""
        if self.applier is None:
            return State.OFF
        if not self.applier.redis_answers:
            return State.DOWN
        return State.ASKED if self.applier.epoch is None else State.TRUSTED

    async def admit(self, asks: Sequence[Ask]) -> list[Full | None]:
        """Return for each request whether its slot is full; None means that PostgreSQL has to be asked."""
        if self.applier is None or not asks:
            return [None] * len(asks)
        self.applier.start()
        epoch = self.applier.epoch
        if epoch is None or time.monotonic() < self._resume_at:
            return self._unanswered(asks, "unknown_epoch" if epoch is None else "paused")
        by_slot: dict[str, list[int]] = {}
        for index, ask in enumerate(asks):
            by_slot.setdefault(ask.slot_id, []).append(index)
        calls = [scripts.admit_call(epoch, slot, [asks[i] for i in indexes]) for slot, indexes in by_slot.items()]
        try:
            async with asyncio.timeout(BUDGET_S):
                replies = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, calls)
        except TimeoutError:  # of ours: the loop was busy, or Redis is slow, and then its thread says so
            return self._unanswered(asks, "timeout")
        if replies is None:
            return self._unanswered(asks, "failed")
        verdicts: list[Full | None] = [None] * len(asks)
        for (slot_id, indexes), reply in zip(by_slot.items(), replies, strict=True):
            for index, verdict in zip(indexes, self._verdicts(slot_id, len(indexes), reply), strict=True):
                verdicts[index] = verdict
        return verdicts

    def _hand_over(self, news: Iterable[Count | Ask]) -> None:
        if self.applier is None:
            return
        try:
            self.applier.put(news)
        except Exception:
            metrics.DROPPED.labels(SERVICE, "error").inc()
            log.exception("the counters were not told")

    def _call(self, calls: Sequence[scripts.Call]) -> list[Any] | None:
        """Carry the calls out on a thread; None where Redis is away or slow, and nobody asks it for a while."""
        try:
            replies = self._execute(calls, by_digest=True)
            again = scripts.forgotten(calls, replies)
            if again:
                once_more = self._execute([calls[i] for i in again], by_digest=False)
                for index, reply in zip(again, once_more, strict=True):
                    replies[index] = reply
        except (RedisError, OSError) as error:
            self._failed(type(error).__name__)
            return None
        return replies

    @cached_property
    def _redis(self) -> Redis:
        url = str(self._redis_url)
        return Redis.from_url(
            url, socket_timeout=BUDGET_S, socket_connect_timeout=BUDGET_S, retry=Retry(NoBackoff(), 0)
        )

    def _execute(self, calls: Sequence[scripts.Call], *, by_digest: bool) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            call.queue(pipeline, by_digest=by_digest)
        return pipeline.execute(raise_on_error=False)

    def _verdicts(self, slot_id: str, asked: int, reply: Any) -> list[Full | None]:
        if isinstance(reply, ResponseError) or not _is_well_formed(reply, asked):
            metrics.REDIS_FAILURES.labels(SERVICE, "admit").inc()
            metrics.ASKS.labels(SERVICE, "refused_by_redis").inc(asked)
            self._want(slot_id, holders=True)
            return [None] * asked
        state = reply[0].decode()
        if state != "ok":
            metrics.ASKS.labels(SERVICE, state).inc(asked)
            if state in ("missing", "foreign") or (state == "unconfirmed" and reply[1]):
                self._want(slot_id, holders=False)
            elif state == "incomplete" and reply[1]:
                self._want(slot_id, holders=True)
            return [None] * asked
        left, version, age, said = reply[1:]
        for letter, outcome in scripts.VERDICTS.items():
            if times := said.count(letter):
                metrics.ASKS.labels(SERVICE, outcome).inc(times)
        full = Full(left=max(0, left), version=version)
        if age > REFRESH_MS and b"f" in said:
            self._want(slot_id, holders=False)
        return [full if verdict == ord("f") else None for verdict in said]

    def _want(self, slot_id: str, *, holders: bool) -> None:
        if self.applier:
            self.applier.want(slot_id, holders=holders)

    def _failed(self, why: str) -> None:
        self._resume_at = time.monotonic() + PAUSE_S
        metrics.REDIS_FAILURES.labels(SERVICE, "admit").inc()
        log.warning("PostgreSQL is asked about everybody: Redis is away", error=why)

    def _unanswered(self, asks: Sequence[Ask], why: str) -> list[Full | None]:
        metrics.ASKS.labels(SERVICE, why).inc(len(asks))
        return [None] * len(asks)


def _is_well_formed(reply: Any, asked: int) -> bool:
    if not isinstance(reply, list) or not reply or not isinstance(reply[0], bytes):
        return False
    if reply[0] != b"ok":
        return len(reply) == 2
    return len(reply) == 5 and len(reply[4]) == asked
