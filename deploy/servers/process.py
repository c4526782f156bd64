"""Child processes: how they are started, watched, ended and found again after their launcher was killed."""

import contextlib
import functools
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

POLL_S = 0.02
LOG_LIMIT_BYTES = 10_000_000
PROC = Path("/proc")
CONNECTIONS_FROM = PROC / "sys" / "net" / "ipv4" / "ip_local_port_range"
PORTS_FROM = 20_000  # few programs listen by habit from here on
SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin"]


class ServerError(Exception):
    """A server cannot be had; the text is one sentence a person can act on, and the log's last lines if there are any."""


class TimedOut(ServerError):
    """What was waited for did not come."""


class Child:
    """One program in its own session, so that a Ctrl-C in the terminal reaches the supervisor and not the program.

    Its output is appended to `log` (readable by the owner alone). Where the kernel can, it sends `death_signal` to the
    program when this process dies, however it dies.
    """

    def __init__(
        self,
        args: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.args = [str(arg) for arg in args]
        self.log = log
        # setpriv stands between us and the program, and would only say it in the log.
        if shutil.which(self.args[0]) is None:
            raise ServerError(f"The program {self.args[0]} cannot be started: it is not there or not executable.")
        with _open_log(log) as fd:
            self._log_start = os.lseek(fd, 0, os.SEEK_END)
            command = [*_dying_with_us(death_signal), *self.args]
            self._process = _spawner.call(
                lambda: subprocess.Popen(
                    command,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=fd,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                )
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code (negative: the signal that ended it), or subprocess.TimeoutExpired."""
        return self._process.wait(timeout_s)

    def send(self, signum: signal.Signals) -> None:
        """Signal the program itself, and none of its children; nothing happens when it has ended."""
        self._process.send_signal(signum)

    def stop(self, signum: signal.Signals = signal.SIGTERM, timeout_s: float = 10) -> int:
        """Ask it to end, insist with SIGKILL on its whole group after the timeout, and give its exit code."""
        self.send(signum)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            # Not yet reaped, so the group's id cannot belong to anyone else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            return self.wait()

    def kill(self) -> None:
        """SIGKILL the program and nothing else, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def last_lines(self, count: int = 12) -> str:
        """The end of what it wrote since this start."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start if self._log_start <= size else 0, size - 20_000))
            text = log.read().decode(errors="replace")
        return "\n".join(text.rstrip().splitlines()[-count:])


_given_out: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment, another one each time.

    Where it can be had, one that no outgoing connection is given by chance before it is listened on.
    """
    try:
        first_of_connections = int(CONNECTIONS_FROM.read_text().split()[0])
    except OSError:
        first_of_connections = 0  # only Linux can tell
    below = range(PORTS_FROM, max(PORTS_FROM, first_of_connections))
    for drawn in SystemRandom().sample(below, min(len(below), 20)):
        if drawn not in _given_out and not port_is_taken(drawn):
            _given_out.add(drawn)
            return drawn
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def wait_until(probe: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as the probe is true; `what` completes the sentence "Waited 5 s for ..." of TimedOut."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        if time.monotonic() > deadline:
            raise TimedOut(f"Waited {timeout_s:g} s for {what}, in vain.")
        time.sleep(POLL_S)


def wait_until_ready(child: Child, probe: Callable[[], bool], timeout_s: float, name: str) -> None:
    """Return when the server answers; when it dies or stays silent end it and raise with the end of its log."""

    def ready_or_dead() -> bool:
        return not child.is_alive() or probe()

    try:
        wait_until(ready_or_dead, timeout_s, f"{name} to answer")
    except TimedOut as silent:
        child.stop(signal.SIGKILL)
        raise ServerError(with_log(f"{name} did not answer within {timeout_s:g} s.", child)) from silent
    except BaseException:
        child.stop(signal.SIGKILL)
        raise
    if not child.is_alive():
        raise ServerError(with_log(f"{name} did not start (exit code {child.wait()}).", child))


def with_log(sentence: str, child: Child) -> str:
    return f"{sentence} The end of {child.log}:\n{child.last_lines()}"


def find_program(*names: str) -> Path | None:
    """The first of the names on the PATH, or in the folders for administrators that ordinary users do not search."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS])
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    return None


def clean_environment(**more: str) -> dict[str, str]:
    """Nothing of the caller's settings but where programs are: a stray PGDATA or RABBITMQ_NODENAME must not reach a server."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", **more}


@dataclass(frozen=True)
class Seen:
    """What /proc tells about a process that lives; the working folder is None where we may not see it."""

    name: str
    parent: int
    folder: Path | None

    def works_in(self, folder: Path) -> bool | None:
        if self.folder is None:
            return None
        return self.folder == folder or folder in self.folder.parents


def processes_in(folder: Path, programs: frozenset[str]) -> dict[int, int]:
    """Living processes of these programs that work in the folder or below it, as {pid: parent's pid}.

    The working folder is asked for instead of a pid file, because pids are used again. Only Linux can tell.
    """
    home = folder.resolve()
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()] if PROC.is_dir() else []
    living = {pid: seen for pid in pids if (seen := _see(pid))}
    return {pid: seen.parent for pid, seen in living.items() if seen.name in programs and seen.works_in(home)}


def may_work_in(folder: Path, pid: int, programs: frozenset[str]) -> bool:
    """Whether the process could be one of the programs in the folder, as far as we are allowed to see."""
    if not PROC.is_dir():
        return _exists(pid)
    seen = _see(pid)
    if seen is None:
        return False
    return seen.name in programs and seen.works_in(folder.resolve()) is not False


def title_of(pid: int) -> str:
    """The command line of a process, or what it says there about itself; empty when it has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def _see(pid: int) -> Seen | None:
    try:
        name, _, rest = (PROC / str(pid) / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
    except OSError:
        return None
    state, parent = rest.split()[:2]
    if state in "ZX":
        return None  # it has ended and only waits for its parent to notice
    try:
        return Seen(name, int(parent), (PROC / str(pid) / "cwd").readlink())
    except OSError:
        return Seen(name, int(parent), None)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_processes_in(folder: Path, programs: frozenset[str], signum: signal.Signals, timeout_s: float) -> bool:
    """End what a killed launcher left behind in the folder; True if there was anything.

    The signal goes to the topmost processes, which know how to end theirs; after the timeout SIGKILL goes to all.
    """
    found = processes_in(folder, programs)
    for pid, parent in found.items():
        if parent not in found:
            _signal(pid, signum)
    try:
        wait_until(lambda: not processes_in(folder, programs), timeout_s if found else 0, "leftovers to end")
    except TimedOut:

        def killed() -> bool:
            left = processes_in(folder, programs)
            for pid in left:
                _signal(pid, signal.SIGKILL)
            return not left

        wait_until(killed, 10, f"the processes {sorted(found)} in {folder} to end")
    return bool(found)


def _signal(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


@contextlib.contextmanager
def _open_log(log: Path) -> Iterator[int]:
    try:
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_name(log.name + ".1"))
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ServerError(f"The log file {log} cannot be written: {error.strerror}.") from error
    try:
        yield fd
    finally:
        os.close(fd)


@functools.cache
def _setpriv() -> Path | None:
    return find_program("setpriv") if sys.platform == "linux" else None


def _dying_with_us(signum: signal.Signals) -> list[str]:
    """PR_SET_PDEATHSIG through setpriv: a preexec_fn may deadlock in a process that has threads."""
    return [str(setpriv), "--pdeathsig", signum.name, "--"] if (setpriv := _setpriv()) else []


class _Spawner:
    """A thread that lives as long as the process and starts every child.

    The kernel sends a child its death signal when the *thread* that started it ends, so a server that was started from a
    short-lived thread would be ended with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, start: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        done: Future[subprocess.Popen[bytes]] = Future()

        def run() -> None:
            try:
                done.set_result(start())
            except BaseException as error:  # noqa: BLE001  # the caller gets it
                done.set_exception(error)

        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="spawner", daemon=True)
                self._thread.start()
        self._calls.put(run)
        try:
            return done.result()
        except OSError as error:
            raise ServerError(f"The program {error.filename} cannot be started: {error.strerror}.") from error

    def _serve(self) -> None:
        while True:
            self._calls.get()()


_spawner = _Spawner()


def _forget_spawner() -> None:
    global _spawner
    _spawner = _Spawner()  # a forked process has no threads but the one that forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_spawner)
