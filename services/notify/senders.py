"""All senders of a process: so many threads for each channel as it bears, and none waits for another channel's."""

import math
from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.service import Runtime, WakingLoop
from services.notify import deliveries, metrics, reminders, ways
from services.notify.sender import Sender


def of(runtime: Runtime) -> list[WakingLoop]:
    """Return the loops that carry deliveries, each to be run on a thread of its own; count what waits, reminders too.

    Reminders are counted here because their tasks could not tell that no worker runs. Every result is there from the start:
    a count that begins with its first failure has not grown, to who compares it with before.
    """
    loops: list[WakingLoop] = []
    for channel in ways.channels(runtime):
        loops += [Sender(runtime.db, channel)] * channel.at_once
        pending = _known(runtime, partial(deliveries.pending, channel=channel.name))
        metrics.DELIVERIES_PENDING.labels("notify", channel.name).set_function(pending)
        retrying = _known(runtime, partial(deliveries.retrying, channel=channel.name))
        metrics.DELIVERIES_RETRYING.labels("notify", channel.name).set_function(retrying)
        for result in metrics.DELIVERY_RESULTS:
            metrics.DELIVERIES.labels("notify", channel.name, result)
    overdue = _known(runtime, lambda session: reminders.overdue_s(session, now=utcnow()))
    metrics.REMINDERS_OVERDUE.labels("notify").set_function(overdue)
    return loops


def _known(runtime: Runtime, look: Callable[[Session], float]) -> Callable[[], float]:
    def read() -> float:
        try:
            return float(runtime.db.run(look))
        except (DBAPIError, PoolTimeout):
            return math.nan  # PostgreSQL is away: nobody knows

    return read
