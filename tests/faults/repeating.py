"""What goes on beside a test, again and again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from libs.common import tasks
from tests.world import World


@contextmanager
def repeating(work: Callable[[], object], every_s: float) -> Iterator[Callable[[], None]]:
    """Do the work again and again on a thread while the block runs.

    What it raises ends it. The end of the block raises it again, and so does what is yielded: a block that waits for
    what the work brings about calls that while it waits.
    """
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        while not over.wait(every_s):
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # told on the test's thread
                failures.append(error)
                return

    def check() -> None:
        if failures:
            raise failures[0]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        over.set()
        thread.join(30)
    check()


@contextmanager
def beating(world: World, name: str, every_s: float) -> Iterator[Callable[[], None]]:
    """Send a task again and again while the block runs, as a beat does; whoever takes it."""
    service, _, _ = name.partition(".")
    runtime = world.runtimes[service]
    task = next(one for one in runtime.service.tasks if one.name == name)

    with (
        tasks.celery_app(runtime.settings.redis_url.get_secret_value(), []) as app,
        repeating(lambda: tasks.send(app, task), every_s) as check,
    ):
        yield check
