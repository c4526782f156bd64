"""What every server has in common: it is started, stopped or killed, in a private folder that one launcher holds."""

import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from deploy.servers.folders import PrivateFolder, user_name
from deploy.servers.process import Child, ServerError, end_processes_in, processes_in


class Server(ABC):
    """A server program as a child process; `start` returns when it answers, and may be called again at any time."""

    name: ClassVar[str]
    programs: ClassVar[frozenset[str]]  # what its processes are called in the process table
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_timeout_s: ClassVar[float] = 30
    start_timeout_s: ClassVar[float] = 30

    def __init__(self, data: Path) -> None:
        self.folder = PrivateFolder(data)
        self.data = self.folder.path
        self.log = self.data / f"{type(self).__name__.lower()}.log"
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Of the process that `kill` kills."""
        return self._running().pid

    def is_alive(self) -> bool:
        return self._child is not None and self._child.is_alive()

    def start(self) -> None:
        if self.is_alive():
            return
        self._take_folder()
        try:
            self._clear_leftovers()
            self._child = self._launch()
        except PermissionError as error:
            self._clear_up()
            us = user_name(os.geteuid())
            raise ServerError(
                f"{self.name} cannot use {error.filename} ({error.strerror}): what lies in {self.data} has to belong to "
                f"{us}; `chown -R {us} {self.data}` hands it over."
            ) from error
        except OSError as error:
            self._clear_up()
            raise ServerError(f"{self.name} cannot be started in {self.data}: {error}.") from error
        except BaseException:
            self._clear_up()
            raise

    def stop(self) -> None:
        """End it in good order; nothing of it is left when this returns, also if it was killed or had crashed."""
        if self._child is None:
            return
        self._child.stop(self.stop_signal, self.stop_timeout_s)
        self._child = None
        self._clear_up()

    def kill(self) -> None:
        """SIGKILL, as a crash would; the folder stays ours until `stop`, and `start` recovers."""
        if self._child is not None:
            self._child.kill()
        self._end_companions()

    def processes(self) -> set[int]:
        """All that runs for this server (on Linux)."""
        return set(processes_in(self.data, self.programs))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch(self) -> Child:
        """Start the program and return when it answers, or end it and raise ServerError."""

    def _take_folder(self) -> None:
        self.folder.take()

    def _end_companions(self) -> None:  # noqa: B027  # most servers have none
        """End what runs beside the main process."""

    def _clear_up(self) -> None:
        try:
            self._end_companions()
            self._clear_leftovers()
        finally:
            self.folder.release()

    def _clear_leftovers(self) -> None:
        end_processes_in(self.data, self.programs, self.stop_signal, self.stop_timeout_s)

    def _running(self) -> Child:
        if self._child is None or not self._child.is_alive():
            raise ServerError(f"{self.name} in {self.data} is not running: start it first.")
        return self._child
