"""Failpoints: named places in the code at which a test has the process killed, as a crash would kill it there.

HALLPASS_FAILPOINT=<name>:<path> arms one of them. The settings of the distributed run refuse to load where it is set.
"""

import os
import signal

VARIABLE = "HALLPASS_FAILPOINT"

_armed, _, _path = os.environ.get(VARIABLE, "").partition(":")


def reach(name: str) -> None:
    """Die by SIGKILL where this name is armed and nobody has died of it yet; otherwise nothing.

    Whoever dies leaves the file <path> behind, by which a test knows that the place was reached, and by which the
    process that is started again, under the same environment, knows that it may go on.
    """
    if _armed == name:
        _die_once()


def _die_once() -> None:
    try:
        os.close(os.open(_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
