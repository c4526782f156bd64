"""The thread that tells Redis what commits left, and reads from PostgreSQL what Redis should know and does not."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from libs.common.db import Database
from libs.common.logs import logger
from services.booking import counter_scripts as scripts
from services.booking import counter_truth as truth
from services.booking import metrics
from services.booking.counts import Ask, Count, Epoch, Record

log = logger(__name__)

SERVICE = "booking"
QUEUE_LIMIT = 10_000  # counts that wait for Redis; a count is about half a kilobyte
BATCH = 256
WANTED_LIMIT = 1_000  # slots that wait to be read
READ_BATCH = 16
ROW_EVERY_S = 0.05  # of one slot: its row may be read so often ...
HOLDERS_EVERY_S = 0.25  # ... and all its holders
EPOCH_EVERY_S = 2.0
LOOK_AGAIN_S = 0.1
PATIENCE_S = 1.0  # with Redis; half of it until there is a connection
PAUSE_S = 1.0  # after a failure a server is left alone this long
CLOCK_TRUSTED_S = 1.0
EPOCHS_KEPT = 8


@dataclass(frozen=True)
class _Told:
    """A count on its way to Redis, in the history it belongs to."""

    epoch: Epoch
    count: Count
    is_reading: bool


class Applier:
    """Owns the way of counts to Redis, and of readings from PostgreSQL. Its methods may be called on any thread."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S / 2, retry=Retry(NoBackoff(), 0)
        )
        # One connection of its own: a rush that has all the others must not keep the counters from the truth.
        self._db = Database(database_url, name="booking-counters", pool_size=1)
        self._queue: deque[Count | Ask] = deque()  # an Ask: PostgreSQL refused it
        self._wanted: dict[str, bool] = {}  # slot: with its holders?
        self._read_at: dict[tuple[str, bool], float] = {}
        self._epochs: deque[tuple[float, Epoch]] = deque(maxlen=EPOCHS_KEPT)
        self._is_doubtful = True  # a process that starts may follow one that died before it told what it had committed
        self._redis_run = ""
        self._epoch_due = self._redis_due = self._database_due = 0.0
        self.redis_answers = True  # as of the last time that it was asked anything
        self._redis_clock: tuple[float, int] | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    # --- what others call ---

    @property
    def epoch(self) -> Epoch | None:
        """The history that PostgreSQL was last seen to write; None before it was asked."""
        return self._epochs[-1][1] if self._epochs else None

    def put(self, news: Iterable[Count | Ask]) -> None:
        """Tell Redis soon what commits left and which requests were refused, or drop that where too much waits."""
        for each in news:
            if len(self._queue) >= QUEUE_LIMIT or self._stopping:
                metrics.DROPPED.labels(SERVICE, "queue_full").inc()
            else:
                self._queue.append(each)
        self.start()
        self._wake.set()

    def want(self, slot_id: str, *, holders: bool) -> None:
        """Read this slot soon: its row, or with `holders` everybody who has or had a place there too."""
        with self._lock:
            if len(self._wanted) < WANTED_LIMIT or slot_id in self._wanted:
                self._wanted[slot_id] = self._wanted.get(slot_id, False) or holders
        self.start()
        self._wake.set()

    def start(self) -> None:
        """Start the thread unless it runs. Not before somebody has work for it: a worker's children come by fork."""
        if self._thread is not None or self._stopping:
            return
        with self._lock:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="counters", daemon=True)
                thread.start()
                self._thread = thread

    def close(self, timeout_s: float = 2.0) -> None:
        """Tell Redis what waits, as far as it goes in that time, and end."""
        with self._lock:
            self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._redis.close()
        self._db.close()

    def read_now(self, slot_ids: Sequence[str]) -> None:
        """Read these slots with all their holders and tell Redis, on this thread; raise where a server is away."""
        self._read(dict.fromkeys(slot_ids, True))

    def tell_now(self, epoch: Epoch, counts: Iterable[Count], *, is_reading: bool) -> None:
        """Tell Redis what commits left or readings found, on this thread; raise RedisError where it is away."""
        self._tell([_Told(epoch, count, is_reading) for count in counts])

    def records(self, slot_ids: Sequence[str]) -> dict[str, Record]:
        """Return what the counters of these slots hold, or raise RedisError; those that have none are left out."""
        pipeline = self._redis.pipeline(transaction=False)
        for slot_id in slot_ids:
            count, holders, _ = scripts.keys_of(slot_id)
            pipeline.hmget(count, list(scripts.RECORD))
            pipeline.scard(holders)
        replies = pipeline.execute()
        found = zip(slot_ids, replies[::2], replies[1::2], strict=True)
        records = {slot_id: scripts.record_of(fields, holders) for slot_id, fields, holders in found}
        return {slot_id: record for slot_id, record in records.items() if record is not None}

    # --- the thread ---

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._look_at_servers()
                self._send_waiting()
                self._read_wanted()
                self._read_all_told()
            except Exception:
                log.exception("the counters' thread failed and goes on")
                time.sleep(PAUSE_S)
            self._wake.wait(self._pause())
            self._wake.clear()
        if self.epoch is not None and self._redis_due <= time.monotonic():
            self._send_waiting()

    def _pause(self) -> float:
        now = time.monotonic()
        due = [self._epoch_due]
        if self._queue and self.epoch is not None:
            due.append(self._redis_due)
        if self._is_doubtful:
            due.append(max(self._redis_due, self._database_due, now + LOOK_AGAIN_S))
        with self._lock:
            due += [self._next_reading(slot_id, holders) for slot_id, holders in self._wanted.items()]
        return max(0.0, min(due) - now)

    def _look_at_servers(self) -> None:
        """Notice now and then that PostgreSQL or Redis is another than before."""
        now = time.monotonic()
        if now >= self._epoch_due:
            self._epoch_due = now + EPOCH_EVERY_S
            self._look_at_epoch(now)
            self._look_at_redis()

    def _look_at_epoch(self, now: float) -> None:
        try:
            self._adopt(truth.epoch(self._db))
        except SQLAlchemyError as error:
            self._epoch_due = now + PAUSE_S
            log.warning("the counters do not know PostgreSQL's epoch", error=type(error).__name__)

    def _look_at_redis(self) -> None:
        """Notice another server, or one that was started again: it may lack the last second of what it was told."""
        if self._redis_due > time.monotonic():
            return
        try:
            run: str = self._redis.info("server")["run_id"]
            self.redis_answers = True
        except RedisError as error:
            self._redis_failed("look", error)
            return
        self._is_doubtful = self._is_doubtful or run != self._redis_run
        self._redis_run = run

    def _adopt(self, epoch: Epoch) -> None:
        if epoch != self.epoch:
            self._is_doubtful = True  # of what was on its way to a commit nobody may know whether it arrived
            self._epochs.append((time.monotonic(), epoch))

    def _epoch_of(self, count: Count) -> Epoch:
        """Return the history that was known when the count was made: its commit belongs to that or a later one.

        A label that is too old is ignored, one that is too new would outvote the truth.
        """
        for adopted_at, epoch in reversed(self._epochs):
            if adopted_at <= count.seen_at:
                return epoch
        return self._epochs[0][1]

    def _send_waiting(self) -> None:
        while self._queue and self.epoch is not None and self._redis_due <= time.monotonic():
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            try:
                self._call([self._call_about(each) for each in batch])
            except RedisError as error:
                metrics.DROPPED.labels(SERVICE, "redis").inc(len(batch))
                self._is_doubtful = True
                self._redis_failed("apply", error)

    def _redis_failed(self, at: str, error: RedisError) -> None:
        metrics.REDIS_FAILURES.labels(SERVICE, at).inc()
        self._redis_due = time.monotonic() + PAUSE_S
        self.redis_answers = False
        log.warning("the counters are not told: Redis is away", error=type(error).__name__)

    # --- telling Redis ---

    def _tell(self, told: Sequence[_Told]) -> None:
        for start in range(0, len(told), BATCH):
            self._call([self._apply(each) for each in told[start : start + BATCH]])

    def _call_about(self, news: Count | Ask) -> scripts.Call:
        if isinstance(news, Ask):
            return scripts.release_call(news)
        return self._apply(_Told(self._epoch_of(news), news, is_reading=False))

    def _apply(self, told: _Told) -> scripts.Call:
        at, redis_ms = self._clock()
        seen_ms = math.floor(redis_ms + (told.count.seen_at - at) * 1000)
        return scripts.apply_call(told.epoch, told.count, seen_ms=seen_ms, is_reading=told.is_reading)

    def _call(self, calls: Sequence[scripts.Call]) -> None:
        replies = self._execute(calls, by_digest=True)
        again = scripts.forgotten(calls, replies)
        if again:
            for index, reply in zip(again, self._execute([calls[i] for i in again], by_digest=False), strict=True):
                replies[index] = reply
        self._mind(calls, replies)

    def _execute(self, calls: Sequence[scripts.Call], *, by_digest: bool) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            call.queue(pipeline, by_digest=by_digest)
        try:
            return pipeline.execute(raise_on_error=False)
        except RedisError:
            self._redis_clock = None  # the next connection may lead to another server
            raise

    def _mind(self, calls: Sequence[scripts.Call], replies: Sequence[Any]) -> None:
        failed = [(call, reply) for call, reply in zip(calls, replies, strict=True) if isinstance(reply, Exception)]
        metrics.APPLIES.labels(SERVICE).inc(len(calls) - len(failed))
        for call, reply in failed:
            if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
                self._redis.unlink(*call.keys)  # not what we wrote: it is made anew when needed
        if failed:
            metrics.DROPPED.labels(SERVICE, "refused").inc(len(failed))
            raise failed[0][1]

    def _clock(self) -> tuple[float, int]:
        """Return an instant of our clock and what Redis's said by then: never later than it was.

        Counts carry their age into Redis through it, so that one that lay somewhere for a while says so.
        """
        if self._redis_clock is None or time.monotonic() - self._redis_clock[0] > CLOCK_TRUSTED_S:
            seconds, micros = self._redis.time()
            self._redis_clock = time.monotonic(), seconds * 1000 + micros // 1000
        return self._redis_clock

    # --- reading PostgreSQL ---

    def _next_reading(self, slot_id: str, holders: bool) -> float:
        every = HOLDERS_EVERY_S if holders else ROW_EVERY_S
        return max(self._read_at.get((slot_id, holders), 0.0) + every, self._database_due, self._redis_due)

    def _take_due(self) -> dict[str, bool]:
        now = time.monotonic()
        with self._lock:
            due = {slot: holders for slot, holders in self._wanted.items() if self._next_reading(slot, holders) <= now}
            chosen = dict(list(due.items())[:READ_BATCH])
            for slot_id in chosen:
                del self._wanted[slot_id]
            if len(self._read_at) > 10 * WANTED_LIMIT:
                self._read_at = {key: at for key, at in self._read_at.items() if at + HOLDERS_EVERY_S > now}
            self._read_at |= dict.fromkeys(chosen.items(), now)
        return chosen

    def _read_wanted(self) -> None:
        while chosen := self._take_due():
            try:
                self._read(chosen)
            except SQLAlchemyError as error:
                self._database_due = time.monotonic() + PAUSE_S
                self._count_readings(chosen, "failed")
                log.warning("counters can't be rebuilt: PostgreSQL is away", error=type(error).__name__)
            except RedisError as error:
                self._count_readings(chosen, "failed")
                self._redis_failed("rebuild", error)
            self._send_waiting()

    def _read(self, wanted: dict[str, bool]) -> None:
        reading = truth.read(self._db, wanted, holders_of=[slot for slot, holders in wanted.items() if holders])
        self._adopt(reading.epoch)
        self.tell_now(reading.epoch, reading.counts.values(), is_reading=True)
        self._count_readings(wanted, "done")

    def _read_all_told(self) -> None:
        """Read every slot that has a counter, once, where some of them may have missed a commit for good."""
        now = time.monotonic()
        if not self._is_doubtful or self.epoch is None or max(self._redis_due, self._database_due) > now:
            return
        self._is_doubtful = False
        try:
            for slot_ids in truth.not_over(self._db):
                if records := self.records(slot_ids):
                    self._read(dict.fromkeys(records, False))
        except SQLAlchemyError as error:
            self._is_doubtful, self._database_due = True, now + PAUSE_S
            log.warning("counters are not compared: PostgreSQL is away", error=type(error).__name__)
        except RedisError as error:
            self._is_doubtful = True
            self._redis_failed("compare", error)

    def _count_readings(self, wanted: dict[str, bool], result: str) -> None:
        for holders in wanted.values():
            metrics.READINGS.labels(SERVICE, "whole" if holders else "row", result).inc()
