"""Ending together with the process that started us."""

import os
import signal
import threading
import time

VARIABLE = "HALLPASS_PARENT_PID"
LOOK_EVERY_S = 0.5


def end_with_parent() -> None:
    """End this process in good order when the parent named by the environment is gone, however it went.

    The kernel's death signal does the same at once, but only Linux has it.
    """
    parent = os.environ.get(VARIABLE)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="parent-watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
