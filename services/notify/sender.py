"""Senders: threads that carry the deliveries of one channel, each channel by itself."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Generic

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from libs.common import context, traces
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.logs import logger
from services.notify import deliveries
from services.notify.channel import Channel, Letter
from services.notify.deliveries import Ended, Taken
from services.notify.outcomes import Outcome, Unknown

log = logger(__name__)
PAUSE_S = 1.0


class Sender(Generic[Letter]):
    """Carries what is due by one channel. As many threads may `run` it as the channel bears; one of them looks for work."""

    def __init__(
        self, db: Database, channel: Channel[Letter], *, poll_s: float = 0.5, clock: Callable[[], datetime] = utcnow
    ) -> None:
        self._db = db
        self.channel = channel
        self._poll_s = poll_s
        self._clock = clock
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def wake_on_commit(self, db: Database) -> None:
        """Look at once after each commit that queued a delivery."""
        db.on_commit(deliveries.QUEUED, lambda _: self._wake.set())

    def stop(self) -> None:
        """Take nothing up any more; what is on its way is brought to its end."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Carry deliveries until stopped; a lost database is waited for."""
        while (taken := self._next()) is not None:
            self.carry(taken)

    def _next(self) -> Taken[Letter] | None:
        """Wait for the turn to look for work, then for work; None: it is time to stop."""
        with self._turn:
            while not self._stopping.is_set():
                pause = self._poll_s
                try:
                    if (taken := self.take()) is not None:
                        return taken
                except (DBAPIError, PoolTimeout) as error:
                    log.warning("a sender waits", channel=self.channel.name, error=type(error).__name__)
                    pause = PAUSE_S
                self._wake.wait(pause)
                self._wake.clear()
        return None

    def take(self) -> Taken[Letter] | None:
        """Take the next delivery that is due; those that can't be sent end before it, each in a transaction of its own."""
        while not self._stopping.is_set():
            with self._db.transaction() as session:
                taken = deliveries.take(session, self.channel, now=self._clock())
            if not isinstance(taken, Ended):
                return taken
        return None

    def carry(self, taken: Taken[Letter]) -> None:
        """Send a message, with no connection to the database, and record how that ended."""
        about = {"hallpass.delivery": taken.delivering.id, "hallpass.attempt": taken.delivering.attempt}
        with (
            context.working_on(taken.delivering.request_id),
            traces.span(f"deliver {self.channel.name}", **about) as note,
        ):
            outcome = self._sent(taken)
            note("hallpass.outcome", type(outcome).__name__)  # not the answer: it may name somebody
            self._record(taken, outcome)

    def _sent(self, taken: Taken[Letter]) -> Outcome:
        try:
            return self.channel.send(taken.letter)
        except Exception as error:
            log.exception("a channel failed", channel=self.channel.name, delivery_id=taken.delivering.id)
            return Unknown(f"internal error ({type(error).__name__})")  # nobody knows how far it got

    def _record(self, taken: Taken[Letter], outcome: Outcome) -> None:
        """Record the outcome; whatever the database says, try as long as the delivery is ours: unrecorded, it would go out again."""
        while True:
            try:
                in_time = self._db.run(
                    lambda session: deliveries.settle(session, self.channel, taken, outcome, now=self._clock())
                )
                if not in_time:
                    log.warning("an answer came too late", channel=self.channel.name, outcome=type(outcome).__name__)
                return
            except (DBAPIError, PoolTimeout) as error:
                if self._clock() > taken.until:
                    raise
                log.warning("an answer waits to be recorded", channel=self.channel.name, error=type(error).__name__)
            time.sleep(PAUSE_S)
