"""`make up-native`: the distributed run on this machine, without containers, from the same table of processes."""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from graphlib import TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy import env_files, nginx_conf, secret_files, table
from deploy.embedded import FIRST_PASSWORD, Place, check_port, quoted
from deploy.keys import Keys
from deploy.names import SERVICE_NAMES, Refusal
from deploy.parts import OURS, ROOT, Keeper, Program
from deploy.probe import answers
from deploy.servers import install
from deploy.servers.folders import FolderInUse, PrivateFolder
from deploy.servers.nginx import Nginx
from deploy.servers.postgres import Postgres
from deploy.servers.process import ServerError, end_processes_in, port_is_taken, wait_until
from deploy.servers.rabbitmq import RabbitMQ
from deploy.servers.server import Server
from deploy.servers.valkey import Valkey

HERE = "127.0.0.1"
FOLDER = ROOT / "var" / "native"
PORTS_FILE = "ports.json"
PORTS = range(20_000, 32_000)  # below those from which the system takes ports for connections that go out
READY_TIMEOUT_S = 120
STOP_TIMEOUT_S = table.STOP_GRACE_S + 90  # servers may write out what they hold
READY = "ready"
# What no setting of the operator may change: it has to fit the servers that are started here.
DECIDED = (
    "MODE",
    "DATABASE_URL",
    "REDIS_URL",
    "BROKER_URL",
    "TRUSTED_PROXIES",
    "CATALOG_URL",
    "BOOKING_URL",
    "NOTIFY_URL",
)
DECIDED_SECRETS = ("STAFF_TOKEN_KEYS", "USER_TOKEN_KEYS", "DATA_KEYS", "HASH_KEY")


class Cancelled(Exception):
    """The start was broken off, by the operator or because another part has failed."""


class Running:
    """One part of the table: `start` returns when it is ready, and from then on a keeper mends each of its crashes."""

    def __init__(self, part: Server | Program, *, port: int, health: str, say: Callable[[str], None]) -> None:
        self.part = part
        self.port = port
        self._health = health
        self._say = say
        self._keeper: Keeper | None = None

    @property
    def pid(self) -> int:
        return self.part.pid

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        self.part.start()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.is_ready():
            if cancelled():
                raise Cancelled
            if not self.part.is_alive() or time.monotonic() > deadline:
                raise self.part.failure() if isinstance(self.part, Program) else ServerError(f"{self.part.name} ended.")
            time.sleep(0.05)
        self._keeper = Keeper(self.part, self._say)
        self._keeper.start()

    def is_ready(self) -> bool:
        """Whether it answers as the table asks; a server of others answers when it has started."""
        if not self._health:
            return self.part.is_alive()
        return answers(f"http://{HERE}:{self.port}{self._health}")

    def stop(self) -> None:
        """End it in good order, until `start`."""
        if self._keeper is not None:
            self._keeper.stop_keeping()
            self._keeper = None
        self.part.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would; the keeper starts it again."""
        self.part.kill()


class Native:
    """A whole distributed installation in a folder, which holds its data, secrets and logs; its parts go by their names.

    Its settings are those that a container would get from its environment.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        host: str = HERE,
        dev_sign_in: bool = False,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._place = Place(host=host, port=port, data=folder, demo=False, trusted_proxies=None)
        self._settings = dict(settings or {}) | ({"HALLPASS_DEV_SIGN_IN": "true"} if dev_sign_in else {})
        self._say = say
        self._folder = PrivateFolder(folder)
        self.folder = self._folder.path
        self._cancelled = threading.Event()
        self._running: dict[str, Running] = {}

    @property
    def address(self) -> str:
        return self._place.address

    @property
    def first_password(self) -> str:
        """Of the account `admin`, as it was made."""
        return (self.folder / FIRST_PASSWORD).read_text().strip()

    def __getitem__(self, name: str) -> Running:
        """A part by its name in the table."""
        return self._running[name]

    def log(self, name: str) -> Path:
        """The file with what a part has said."""
        return self.folder / "logs" / f"{name}.log"

    def start(self) -> None:
        """Start everything and return when all of it is ready; where that fails, nothing is left running."""
        self._folder.take()
        try:
            self._prepare()
            self._start_all()
        except BaseException:
            self.stop()
            raise

    def cancel(self) -> None:
        """Break off a start that is under way."""
        self._cancelled.set()

    def stop(self) -> None:
        """Stop what takes requests, then what answers them, then what keeps the data."""
        programs = [name for name, running in self._running.items() if isinstance(running.part, Program)]
        servers = [name for name in self._running if name not in (*programs, "gateway")]
        for wave in (["gateway"], programs, servers):
            threads = [threading.Thread(target=self._running[name].stop) for name in wave if name in self._running]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self._running.clear()
        self._folder.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- before anything runs ---

    def _prepare(self) -> None:
        folder = self.folder
        if os.geteuid() == 0:
            folder.chmod(
                0o711
            )  # PostgreSQL may run as another account, which has to pass through; it can't look around
        for name in ("logs", "app", "secrets"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        end_processes_in(folder / "app", OURS, signal.SIGTERM, table.STOP_GRACE_S)
        check_port(self._place, "make up-native")
        ports = self._choose_ports()
        postgres = Postgres(folder / "postgres", port=ports["postgres"], max_connections=table.MAX_CONNECTIONS)
        redis = Valkey(folder / "redis", port=ports["redis"])
        rabbitmq = RabbitMQ(folder / "rabbitmq", port=ports["rabbitmq"])
        chosen = secret_files.Secrets(
            superuser_password=postgres.folder.secret("superuser-password"),
            redis_password=redis.folder.secret("password"),
            rabbitmq_password=rabbitmq.folder.secret("password"),
            keys=Keys.of(self._folder, with_data=postgres.cluster.exists()),
        )
        where = secret_files.Addresses(*(f"{HERE}:{ports[name]}" for name in ("postgres", "redis", "rabbitmq")))
        variables = secret_files.files(chosen, where)
        servers = {"postgres": postgres, "redis": redis, "rabbitmq": rabbitmq, "gateway": self._gateway(ports)}
        for name, server in servers.items():
            server.log = self.log(name)
            self._running[name] = Running(server, port=ports[name], health="", say=self._say)
        for process in table.PROCESSES:
            port = 0 if process.once else ports[process.name]
            program = self._program(process, ports, variables.get(process.secrets or "", {}))
            self._running[process.name] = Running(program, port=port, health=process.health, say=self._say)

    def _choose_ports(self) -> dict[str, int]:
        """Those of the last start, as long as they are free: whoever watches the processes finds them again."""
        path = self.folder / PORTS_FILE
        kept: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        chosen = {"gateway": self._place.port}
        for part in table.PARTS:
            if part.port is None or part.name == "gateway" or not _runs_here(part):
                continue
            port = kept.get(part.name, 0)
            while port not in PORTS or port in chosen.values() or port_is_taken(port):
                port = PORTS[secrets.randbelow(len(PORTS))]
            chosen[part.name] = port
        self._folder.write(PORTS_FILE, json.dumps(chosen, indent=1) + "\n")
        return chosen

    def _program(self, process: table.Process, ports: Mapping[str, int], own: Mapping[str, str]) -> Program:
        more: tuple[str, ...] = ()
        if process.name == "migrate":
            more = ("--password-file", str(self.folder / FIRST_PASSWORD))
        if process.name == "front":
            more = tuple(f"--upstream={name}=http://{HERE}:{ports[name]}" for name in SERVICE_NAMES)
        variables = {
            "HALLPASS_EXPORTS_URL": (self.folder / "exports").as_uri(),
            "HALLPASS_UPLOADS_URL": (self.folder / "uploads").as_uri(),
            **self._operators_settings(),
            "HALLPASS_TRUSTED_PROXIES": HERE,
            "HALLPASS_CATALOG_URL": f"http://{HERE}:{ports['catalog']}",
            "HALLPASS_BOOKING_URL": f"http://{HERE}:{ports['booking']}",
            "HALLPASS_NOTIFY_URL": f"http://{HERE}:{ports['notify']}",
            **own,
        }
        PrivateFolder(self.folder / "secrets").write(f"{process.name}.env", env_files.render(variables))
        return Program(
            process.name,
            process.command(HERE, ports.get(process.name), more),
            home=self.folder / "app",
            log=self.log(process.name),
            settings=variables,
            stop_timeout_s=table.STOP_GRACE_S,
        )

    def _operators_settings(self) -> dict[str, str]:
        decided = tuple(f"_{field}" for field in (*DECIDED, *DECIDED_SECRETS))
        return {
            name: value
            for name, value in self._settings.items()
            if name.startswith("HALLPASS_") and not name.endswith(decided)
        }

    def _gateway(self, ports: Mapping[str, int]) -> Nginx:
        usual = nginx_conf.Limits()
        limits = nginx_conf.Limits(
            self._settings.get("HALLPASS_GATEWAY_REQUESTS_PER_SECOND", usual.requests_per_second),
            self._settings.get("HALLPASS_GATEWAY_BURST", usual.burst),
            self._settings.get("HALLPASS_MAX_BODY_BYTES", usual.max_body_bytes),
        )
        host = f"[{self._place.host}]" if ":" in self._place.host else self._place.host
        site = nginx_conf.Site(
            listen=f"{host}:{self._place.port}",
            upstreams={name: [f"{HERE}:{ports[name]}"] for name in (*SERVICE_NAMES, "front")},
            access_log="../logs/access.log",
            limits=limits,
        )
        return Nginx(self.folder / "gateway", nginx_conf.render(site))

    # --- all at once, as far as the table allows ---

    def _start_all(self) -> None:
        starting: dict[str, Future[None]] = {}
        after = {part.name: part.after for part in table.PARTS if _runs_here(part)}
        with ThreadPoolExecutor(len(after)) as pool:
            for name in TopologicalSorter(after).static_order():
                starting[name] = pool.submit(self._start_one, name, [starting[before] for before in after[name]])
        errors = [error for done in starting.values() if (error := done.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error

    def _start_one(self, name: str, before: list[Future[None]]) -> None:
        for part in before:
            part.result()
        if self._cancelled.is_set():
            raise Cancelled
        running = self._running[name]
        try:
            if isinstance(running.part, Program) and name == "migrate":
                running.part.start()
                running.part.wait(READY_TIMEOUT_S)
            else:
                running.start(self._cancelled.is_set)
        except BaseException:
            self._cancelled.set()
            raise


def _runs_here(part: table.Process | table.Server) -> bool:
    return isinstance(part, table.Process) or part.runs_natively


# --- the commands -----------------------------------------------------------------------------------------------------


def up(place: Place) -> int:
    """Start everything in the background; return when all is ready, or when nothing is left of what failed."""
    folder = PrivateFolder(place.data)
    try:
        folder.take()
    except FolderInUse as held:
        raise Refusal(
            f"Hallpass runs from {place.data} already (process {held.holder}): `make down-native` stops it."
        ) from None
    folder.release()
    install.ensure("rabbitmq", "nginx")
    had_password = (place.data / FIRST_PASSWORD).exists()
    print("Starting ...", flush=True)
    began = time.monotonic()
    said = _in_background(place)
    if said != READY:
        raise Refusal(said or f"The start ended unexpectedly; {_supervisors_log(place)} may tell why.")
    _announce(place, time.monotonic() - began, new_password=not had_password)
    return 0


def down(place: Place) -> int:
    """Stop what `up` has started from this folder."""
    folder = PrivateFolder(place.data)
    try:
        folder.take()
    except FolderInUse as held:
        if held.holder is None:
            raise Refusal(f"Hallpass is being started from {place.data} at this moment: try again.") from None
        print("Stopping ...", flush=True)
        os.kill(held.holder, signal.SIGTERM)
        wait_until(lambda: _can_take(folder), STOP_TIMEOUT_S, f"process {held.holder} to stop everything")
        print(f"Stopped; the data stays in {place.data}.")
        return 0
    end_processes_in(place.data / "app", OURS, signal.SIGTERM, table.STOP_GRACE_S)  # of a supervisor that was killed
    folder.release()
    print(f"Nothing runs from {place.data}.")
    return 0


def keep(place: Place, settings: Mapping[str, str], report: int) -> int:
    """Be the supervisor in the background: start, tell through the pipe `report` how that went, run until stopped."""
    stopping = threading.Event()
    native = Native(place.data, port=place.port, host=place.host, settings=settings, say=_log)

    def stop(*_: object) -> None:
        stopping.set()
        native.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    said, code = READY, 0
    try:
        native.start()
    except Cancelled:
        said, code = "Stopped before everything ran.", 130
    except (Refusal, ServerError) as error:
        said, code = str(error), 2
    try:
        with os.fdopen(report, "w") as pipe:
            pipe.write(said)
    except BrokenPipeError:
        stopping.set()  # who asked for it is gone
    if said == READY:
        stopping.wait()
        _log("stopping")
        native.stop()
    return code


def _in_background(place: Place) -> str:
    """Start the supervisor; return what it reports."""
    logs = place.data / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "deploy.native", "keep", "--report", str(writer)]
    with os.fdopen(os.open(_supervisors_log(place), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
        supervisor = subprocess.Popen(
            command,
            cwd=ROOT,
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            return pipe.read().strip()
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait(STOP_TIMEOUT_S)
        raise


def _supervisors_log(place: Place) -> Path:
    return place.data / "logs" / "supervisor.log"


def _can_take(folder: PrivateFolder) -> bool:
    try:
        folder.take()
    except FolderInUse:
        return False
    folder.release()
    return True


def _announce(place: Place, seconds: float, *, new_password: bool) -> None:
    kept = place.data / FIRST_PASSWORD
    password = f"the first password is in {kept}"
    if new_password and kept.exists():
        password = f"password {kept.read_text().strip()} (shown this once; also in {kept})"
    print(
        f"""Hallpass runs as separate processes, ready after {seconds:.1f} s. `make down-native` stops them.

  First page          {place.address}/
  API documentation   {place.address}/docs/booking  (and catalog, notify, admin)
  Health              {place.address}/healthz
  Staff sign-in       POST {place.address}/api/admin/sessions as `admin`; {password}
  For operators       each process's port, for /livez, /readyz and /metrics, is in {place.data / PORTS_FILE}
  Tasks by hand       .venv/bin/python -m deploy --env-file {quoted(place.data / "secrets" / "worker.env")} task booking.upkeep
  Logs                {place.data / "logs"}"""
    )


def _log(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", flush=True)


def _place(environ: Mapping[str, str]) -> Place:
    """As for `make run`, but in another folder: the two have different data."""
    folder = environ.get("HALLPASS_NATIVE_DATA", "") or str(FOLDER)
    return Place.from_environment({**environ, "HALLPASS_DATA": folder})


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The file that Docker Compose reads, too, and before it the environment."""
    file = ROOT / table.SETTINGS_FILE
    return {**(env_files.read(file) if file.exists() else {}), **environ}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.native", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "keep"), help="keep is what `up` leaves in the background")
    parser.add_argument("--report", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    try:
        place = _place(os.environ)
        if chosen.command == "keep":
            return keep(place, _settings(os.environ), chosen.report)
        return up(place) if chosen.command == "up" else down(place)
    except (Refusal, ServerError) as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main())
