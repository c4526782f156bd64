"""The steward: hands out what a commit of this process has freed in a slot for which people wait, at once.

It is a matter of speed alone: what is free is for the line in any case, and a task hands out whatever was left.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from libs.common.logs import logger
from services.booking.counts import Count

log = logger(__name__)


class Steward:
    """Calls `serve` with such slots, on a thread that begins with the first."""

    def __init__(self) -> None:
        self.serve: Callable[[str], object] = lambda slot_id: None
        self._thread = ThreadPoolExecutor(1, "steward")
        self._next: set[str] = set()

    def hear(self, counts: Mapping[str, Count]) -> None:
        """Learn what a commit has left of slots. Never blocks, never raises."""
        for count in counts.values():
            has_room = count.capacity is None or count.taken + count.held < count.capacity
            if count.waiting and has_room and count.slot_id not in self._next:
                self._next.add(count.slot_id)
                with suppress(RuntimeError):  # closed: it is for the task
                    self._thread.submit(self._serve_once, count.slot_id)

    def close(self) -> None:
        """Finish what is in hand; the rest is for the task."""
        self._thread.shutdown(cancel_futures=True)

    def _serve_once(self, slot_id: str) -> None:
        self._next.discard(slot_id)  # before it is looked at: what is freed from now on is one more call
        try:
            self.serve(slot_id)
        except Exception:
            log.exception("a line was not served: the task will do it", slot_id=slot_id)
