"""The parts of an installation on one machine: servers and processes of ours, and the keeper that starts them again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from deploy import parent
from deploy.servers.process import Child, ServerError, clean_environment, with_log

ROOT = Path(__file__).resolve().parent.parent

STOP_TIMEOUT_S = 8
LOOK_EVERY_S = 0.1
ARENAS = 2  # of glibc's malloc, which gives each thread one of its own: most of what they hold, nobody uses any more
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 60.0
# What our own processes are called in the process table.
OURS = frozenset({Path(sys.executable).name[:15], Path(sys.executable).resolve().name[:15], "python", "python3"})


class Part(Protocol):
    """Something that runs: a server or a process of ours."""

    @property
    def name(self) -> str: ...

    def start(self) -> None: ...

    def is_alive(self) -> bool: ...

    def stop(self) -> object: ...


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of ours that has these settings and ends together with this one."""
    ours = clean_environment(PYTHONPATH=str(ROOT), LC_ALL="C.UTF-8", MALLOC_ARENA_MAX=str(ARENAS))
    return {**ours, **settings, parent.VARIABLE: str(os.getpid())}


class Program:
    """One of our own processes: `python -m deploy <words>` with these settings, at home in a folder where nobody else works."""

    def __init__(
        self,
        name: str,
        words: list[str],
        *,
        home: Path,
        log: Path,
        settings: Mapping[str, str],
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self.name = name
        self._words = words
        self._home = home
        self._log = log
        self._settings = settings
        self._stop_timeout_s = stop_timeout_s
        self._child: Child | None = None

    def start(self) -> None:
        self._child = Child(
            [sys.executable, "-m", "deploy", *self._words],
            log=self._log,
            env=environment_of(self._settings),
            cwd=self._home,
        )

    def is_alive(self) -> bool:
        return self._child is not None and self._child.is_alive()

    @property
    def pid(self) -> int:
        return self._started().pid

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(signal.SIGTERM, self._stop_timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._started().kill()

    def wait(self, timeout_s: float) -> None:
        """Wait for its end; ServerError with the end of its log where that is late or bad."""
        child = self._started()
        try:
            failed = child.wait(timeout_s) != 0
        except subprocess.TimeoutExpired:
            child.stop()
            failed = True
        if failed:
            raise self.failure()

    def failure(self) -> ServerError:
        return ServerError(with_log(f"{self.name} failed.", self._started()))

    def _started(self) -> Child:
        if self._child is None:
            raise ServerError(f"{self.name} was not started.")
        return self._child


class Keeper:
    """Starts a part again whenever it has ended, waiting longer each time while it does not hold."""

    def __init__(self, part: Part, say: Callable[[str], None]) -> None:
        self.part = part
        self._say = say
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{part.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop_keeping(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _keep(self) -> None:
        pause, since = FIRST_PAUSE_S, time.monotonic()
        while not self._stopping.wait(LOOK_EVERY_S):
            if self.part.is_alive():
                pause = FIRST_PAUSE_S if time.monotonic() - since > STEADY_AFTER_S else pause
                continue
            self._say(f"{self.part.name} has ended unexpectedly and is started again.")
            if self._stopping.wait(pause):
                return
            pause, since = min(pause * 2, LONGEST_PAUSE_S), time.monotonic()
            try:
                self.part.start()
            except ServerError as error:
                self._say(str(error))
