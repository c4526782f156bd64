"""All senders of a process: so many threads for each channel as it bears, and none waits for another channel's."""

import math
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from libs.common.service import Runtime, WakingLoop
from services.notify import deliveries, metrics, ways
from services.notify.sender import Sender


def of(runtime: Runtime) -> list[WakingLoop]:
    """Return the loops that carry deliveries, each to be run on a thread of its own; count what waits."""
    loops: list[WakingLoop] = []
    for channel in ways.channels(runtime):
        loops += [Sender(runtime.db, channel)] * channel.at_once
        metrics.DELIVERIES_PENDING.labels("notify", channel.name).set_function(_pending(runtime, channel.name))
    return loops


def _pending(runtime: Runtime, channel: str) -> Callable[[], float]:
    def read() -> float:
        try:
            return float(runtime.db.run(lambda session: deliveries.pending(session, channel)))
        except (DBAPIError, PoolTimeout):
            return math.nan  # PostgreSQL is away: nobody knows

    return read
