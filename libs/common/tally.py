"""Rate limits that cost no round trip: each process counts for itself, and shares what comes near a limit over Redis."""

import math
import threading
import time
from dataclasses import dataclass, field

from limits import RateLimitItem
from redis import Redis
from redis.exceptions import RedisError

from libs.common import metrics
from libs.common.errors import TooMany
from libs.common.logs import logger
from libs.common.ratelimit import parsed

log = logger(__name__)

SHARE_EVERY_S = 0.25
SHARED_FROM = 1 / 16  # of the rate: who asks less often in this process is nobody to tell the others about


@dataclass
class _Count:
    here: int = 0
    elsewhere: int = 0
    told: int = 0


@dataclass
class _Window:
    """One stretch of time of one rate, with everybody who has hit in it."""

    ends_at: float
    counts: dict[str, _Count] = field(default_factory=dict)
    news: set[str] = field(default_factory=set)


class Tally:
    """Counts what each subject does within fixed windows of time.

    With several processes a subject may pass the rate by a sixteenth for each, and by what it does in a quarter of a
    second. With Redis away each process counts alone.
    """

    def __init__(self, url: str | None, *, service: str) -> None:
        self._service = service
        self._redis = Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) if url else None
        self._windows: dict[tuple[str, int], _Window] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sharing: threading.Thread | None = None

    def hit(self, rate: str, *subject: str) -> None:
        """Count one more, or raise TooMany with the seconds to wait. `rate` reads like `30/minute`."""
        item = parsed(rate)
        now = time.time()
        name = ":".join(subject)
        with self._lock:
            window = self._window(rate, item, now)
            count = window.counts.get(name)
            if count is None:
                count = window.counts[name] = _Count()
            if count.here + count.elsewhere >= item.amount:
                raise TooMany(retry_after_s=max(1, math.ceil(window.ends_at - now)))
            count.here += 1
            if count.here > item.amount * SHARED_FROM:
                window.news.add(name)
                self._start_sharing()

    def close(self) -> None:
        self._stopping.set()
        if self._sharing is not None:
            self._sharing.join(2)
        if self._redis is not None:
            self._redis.close()

    def _window(self, rate: str, item: RateLimitItem, now: float) -> _Window:
        length = item.get_expiry()
        number = int(now // length)
        found = self._windows.get((rate, number))
        if found is None:
            self._windows = {key: window for key, window in self._windows.items() if window.ends_at > now}
            found = self._windows[rate, number] = _Window(ends_at=(number + 1) * length)
        return found

    def _start_sharing(self) -> None:
        if self._redis is not None and self._sharing is None:
            self._sharing = threading.Thread(target=self._share, name=f"{self._service}-tally", daemon=True)
            self._sharing.start()

    def _share(self) -> None:
        while not self._stopping.wait(SHARE_EVERY_S):
            try:
                for (rate, number), window in list(self._windows.items()):
                    self._exchange(rate, number, window)
            except RedisError as error:
                metrics.RATE_LIMITER_DOWN.labels(self._service).inc()
                log.warning("rates are counted by each process alone: Redis is away", error=type(error).__name__)

    def _exchange(self, rate: str, number: int, window: _Window) -> None:
        """Add what is new here to what all have counted, and learn of the others."""
        with self._lock:
            news = {name: (count := window.counts[name]).here - count.told for name in window.news}
        if not news or self._redis is None:
            return
        keys = {name: f"hallpass:tally:{self._service}:{rate}:{number}:{name}" for name in news}
        pipeline = self._redis.pipeline(transaction=False)
        for name, more in news.items():
            pipeline.incrby(keys[name], more)
            pipeline.expireat(keys[name], math.ceil(window.ends_at) + 1)
        totals = pipeline.execute()[::2]
        with self._lock:
            for (name, more), total in zip(news.items(), totals, strict=True):
                count = window.counts[name]
                count.told += more
                count.elsewhere = int(total) - count.told
                # Who has used up the rate need not be looked at again before the window ends.
                if count.here + count.elsewhere >= parsed(rate).amount and count.told == count.here:
                    window.news.discard(name)
