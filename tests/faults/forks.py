"""Processes that start within a moment: one has loaded the code, and forks the others.

`python -m tests.faults.forks` is that one. It takes an order a line on its input, and ends with its input; each process
that it has forked ends with it.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from deploy import jobs, parent, processes
from deploy.parts import ROOT
from deploy.servers.process import clean_environment, free_port
from libs.common import failpoints
from libs.common.service import USUAL_QUEUE
from tests.patience import lengthen
from tests.world import KEYS, World, eventually

HERE = "127.0.0.1"


class Api:
    """One API process of booking over the world's database; it can be started again at the same port."""

    def __init__(self, forks: "Forks", world: World, **more: str) -> None:
        self._forks = forks
        self._port = free_port()
        self._pid = 0
        self._environment = (
            _environment(world, "booking") | {"HALLPASS_CROWD": "1"} | more
        )  # one passes the counters, too
        self.http = httpx2.Client(base_url=f"http://{HERE}:{self._port}", timeout=60, trust_env=False)

    def start(self) -> None:
        self._pid = self._forks.fork("api", self._port, self._environment)
        eventually(self._answers, timeout_s=60)

    def _answers(self) -> bool:
        assert self.is_alive(), f"the process did not start: {self._forks.log.read_text()[-2000:]}"
        try:
            return self.http.get("/livez").is_success
        except httpx2.TransportError:
            return False

    def is_alive(self) -> bool:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        if self._pid and self.is_alive():
            os.kill(self._pid, signal.SIGKILL)
        self.http.close()


class JobWorker:
    """A worker of exports and imports over the world's database, from its start until it is killed."""

    def __init__(self, forks: "Forks", world: World, **more: str) -> None:
        settings = world.runtimes["admin"].settings
        own = {
            "HALLPASS_EXPORTS_URL": settings.exports_url,
            "HALLPASS_CATALOG_URL": settings.catalog_url,
            "HALLPASS_BOOKING_URL": settings.booking_url,
            "HALLPASS_NOTIFY_URL": settings.notify_url,
            "HALLPASS_EXPORT_LEASE_S": str(settings.export_lease_s),
        }
        self._pid = forks.fork("export-worker", 0, _environment(world, "admin") | own | more)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)


class NoticeSender:
    """A process that carries notify's deliveries over the world's database, from its start until it is killed."""

    def __init__(self, forks: "Forks", world: World) -> None:
        settings = world.runtimes["notify"].settings
        own = {
            "HALLPASS_WECHAT_APPID": settings.wechat_appid,
            "HALLPASS_WECHAT_SECRET": settings.wechat_secret.get_secret_value(),
            "HALLPASS_WECHAT_BASE_URL": settings.wechat_base_url,
            "HALLPASS_WECHAT_TIMEOUT_S": str(settings.wechat_timeout_s),
        }
        self._pid = forks.fork("notify-loops", 0, _environment(world, "notify") | own)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)


class Worker:
    """A worker of the usual queue over the world's database, from its start until it is killed."""

    def __init__(self, forks: "Forks", world: World, **more: str) -> None:
        urls = {
            f"HALLPASS_{name.upper()}_DATABASE_URL": runtime.settings.database_url.get_secret_value()
            for name, runtime in world.runtimes.items()
        }
        self._pid = forks.fork("worker", 0, _environment(world, "notify") | urls | more)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)


class Forks:
    """The process that forks the others, while the block runs."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forks"],
                cwd=ROOT,
                env=clean_environment(LC_ALL="C.UTF-8"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=120)

    def fork(self, what: str, port: int, environment: dict[str, str]) -> int:
        """Start a process; return its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, "port": port, "environment": environment}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _environment(world: World, service: str) -> dict[str, str]:
    settings = world.runtimes[service].settings
    keys = {f"HALLPASS_{name.upper()}": value for name, value in KEYS.items()}
    return {
        "HALLPASS_MODE": "embedded",
        "HALLPASS_DATABASE_URL": settings.database_url.get_secret_value(),
        "HALLPASS_REDIS_URL": settings.redis_url.get_secret_value(),
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in keys.items()},
    }


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever has died is gone at once
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        us = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be(order["what"], order["port"], order["environment"] | {parent.VARIABLE: str(us)})
        print(pid, flush=True)


def _be(what: str, port: int, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    os.environ.update(environment)
    lengthen(setattr)
    importlib.reload(failpoints)  # it reads the environment once, when it is loaded
    parent.end_with_parent()
    if what == "api":
        os._exit(processes.api("booking", host=HERE, port=port))
    if what == "notify-loops":
        os._exit(processes.loops("notify", host=HERE, ops_port=None))
    queue = "exports" if what == "export-worker" else USUAL_QUEUE
    os._exit(jobs.worker(queue=queue, pool="threads", concurrency=1, schedule=None, host=HERE, ops_port=None))


if __name__ == "__main__":
    main()
