"""What goes on beside a test, again and again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(work: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do the work again and again on a thread while the block runs; what it raises is raised at the end."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        while not over.wait(every_s):
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # told on the test's thread
                failures.append(error)
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
    if failures:
        raise failures[0]
