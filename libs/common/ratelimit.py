"""Rate limits over Redis. With Redis away nobody is limited, and a metric says so."""

import math
import time
from collections.abc import Callable
from functools import lru_cache

from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from libs.common import metrics
from libs.common.errors import TooMany
from libs.common.logs import logger

log = logger(__name__)
PATIENCE_S = 0.1  # with Redis, which answers within a millisecond
PAUSE_S = 2.0  # after a failure Redis is left alone this long, so that nobody waits for it


class RateLimiter:
    """Counts what each subject does within a sliding window, across all processes."""

    def __init__(self, url: str | None, *, service: str) -> None:
        self._service = service
        patience = {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}
        self._pool = ConnectionPool.from_url(url, **patience) if url else None
        self._limiter: SlidingWindowCounterRateLimiter | None = None
        self._resume_at = 0.0

    def hit(self, rate: str, *subject: str) -> None:
        """Count one more, or raise TooMany with the seconds to wait. `rate` reads like `30/minute`."""
        self._ask(lambda limiter: limiter.hit, rate, subject)

    def require(self, rate: str, *subject: str) -> None:
        """Raise TooMany where one more would be too many; count nothing."""
        self._ask(lambda limiter: limiter.test, rate, subject)

    def _ask(
        self,
        question: Callable[[SlidingWindowCounterRateLimiter], Callable[..., bool]],
        rate: str,
        subject: tuple[str, ...],
    ) -> None:
        if self._pool is None or time.monotonic() < self._resume_at:
            metrics.RATE_LIMITER_DOWN.labels(self._service).inc()
            return
        item = parsed(rate)
        try:
            limiter = self._connected()
            if question(limiter)(item, self._service, *subject):
                return
            reset = limiter.get_window_stats(item, self._service, *subject).reset_time
        except RedisError as error:
            self._resume_at = time.monotonic() + PAUSE_S
            metrics.RATE_LIMITER_DOWN.labels(self._service).inc()
            log.warning("rate limits are off: Redis is away", error=type(error).__name__)
            return
        raise TooMany(retry_after_s=max(1, math.ceil(reset - time.time())))

    def _connected(self) -> SlidingWindowCounterRateLimiter:
        if self._limiter is None:
            storage = RedisStorage("redis://", connection_pool=self._pool, key_prefix="hallpass:rate")
            self._limiter = SlidingWindowCounterRateLimiter(storage)
        return self._limiter

    def ping(self) -> None:
        """Raise RedisError where Redis does not answer."""
        if self._pool is not None:
            Redis(connection_pool=self._pool).ping()


@lru_cache
def parsed(rate: str) -> RateLimitItem:
    """Read a rate such as `30/minute`."""
    return parse(rate)
