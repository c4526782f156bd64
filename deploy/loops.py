"""Threads that run relays and consumers for as long as a process lives."""

import threading
import time
from typing import Protocol

from libs.common.logs import logger

log = logger(__name__)
PAUSE_S = 1.0


class Loop(Protocol):
    """A relay or a consumer: `run` returns after `stop`."""

    def run(self) -> None: ...

    def stop(self) -> None: ...


class Loops:
    """Runs each loop on a thread of its own; one that fails is logged and started again."""

    def __init__(self, loops: list[Loop]) -> None:
        self._loops = loops
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(loop,), name=f"loop-{index}", daemon=True)
            for index, loop in enumerate(loops)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 8) -> None:
        """Let all loops finish the message at hand. What one does not finish in time comes again after the next start."""
        self._stopping.set()
        for loop in self._loops:
            loop.stop()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _keep(self, loop: Loop) -> None:
        while not self._stopping.is_set():
            try:
                loop.run()
            except Exception:
                log.exception("a loop failed and starts again", loop=type(loop).__name__)
                self._stopping.wait(PAUSE_S)
