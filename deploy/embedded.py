"""`make run`: the supervisor of the embedded run. It starts every part, starts again what dies, and stops all in order.

It loads none of the services' code, so that it stays small; see embedded_app for the process that serves.
"""

import json
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

from deploy import env_files
from deploy.keys import Keys
from deploy.names import SERVICE_NAMES, Refusal
from deploy.parts import OURS, ROOT, STOP_TIMEOUT_S, Keeper, Part, Program
from deploy.servers.folders import PrivateFolder
from deploy.servers.postgres import Postgres
from deploy.servers.process import ServerError, end_processes_in
from deploy.servers.valkey import Valkey

DATABASE = "hallpass"
FIRST_PASSWORD = "first-password"  # noqa: S105  # the name of a file
OPS_SOCKET = "ops.sock"
SETTINGS_FILE = "hallpass.env"
DEMO_LOADED = "demo-loaded"
READY_TIMEOUT_S = 120
DEMO_TIMEOUT_S = 120


@dataclass(frozen=True)
class Place:
    """Where an installation serves and keeps its data, as the environment says."""

    host: str
    port: int
    data: Path
    demo: bool
    trusted_proxies: (
        str | None
    )  # none: we listen ourselves, and any program of the machine could say it speaks for others

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        port = environ.get("HALLPASS_PORT", "") or "8000"
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise Refusal(f"HALLPASS_PORT is {port!r}, which is no port: choose a number from 1 to 65535.")
        demo = environ.get("HALLPASS_DEMO", "") or "yes"
        if demo not in ("yes", "no"):
            raise Refusal(f"HALLPASS_DEMO is {demo!r}: say yes or no.")
        return cls(
            host=environ.get("HALLPASS_HOST", "") or "127.0.0.1",
            port=int(port),
            data=Path(environ.get("HALLPASS_DATA", "") or ROOT / "var" / "data").absolute(),
            demo=demo == "yes",
            trusted_proxies=environ.get("HALLPASS_TRUSTED_PROXIES") or None,
        )

    @property
    def address(self) -> str:
        """The URL that a person on this machine opens."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104  # compared, not listened on
        return f"http://[{host}]:{self.port}" if ":" in host and "[" not in host else f"http://{host}:{self.port}"


class Stopped(Exception):
    """The operator asked for the end before everything ran."""


class Supervisor:
    """One embedded installation, from start to stop."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self._place = place
        self._environ = environ
        self._folder = PrivateFolder(place.data)
        self._stopping = threading.Event()
        self._keepers: list[Keeper] = []
        self._servers: list[Part] = []
        self._programs: list[Part] = []

    def run(self) -> int:
        """Start, keep running until asked to end, stop."""
        started = time.monotonic()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda *_: self._stopping.set())
        if not self._home.exists():
            check_port(self._place, "make run")  # a first start that is refused leaves nothing behind
        self._folder.take()
        try:
            self._start()
            say(f"\nReady after {time.monotonic() - started:.1f} s. Ctrl-C stops everything.")
            self._stopping.wait()
            say("\nStopping ...")
        except Stopped:
            say("\nStopping before everything ran ...")
        finally:
            self._stop()
            self._folder.release()
        say("Stopped; the data stays in place.")
        return 0

    def _start(self) -> None:
        place, data = self._place, self._folder.path
        if os.geteuid() == 0:
            data.chmod(0o711)  # PostgreSQL may run as another account, which has to pass through; it can't look around
        self._make_folders()
        end_processes_in(self._home, OURS, signal.SIGTERM, STOP_TIMEOUT_S)
        check_port(place, "make run")
        postgres = Postgres(data / "postgres")
        valkey = Valkey(data / "valkey")
        postgres.log, valkey.log = self._log("postgres"), self._log("valkey")
        keys = Keys.of(self._folder, with_data=postgres.cluster.exists())
        had_password = (data / FIRST_PASSWORD).exists()
        self._start_part(postgres)
        self._start_part(valkey)
        settings = self._settings(keys, postgres, valkey)
        self._keep_for_operators(settings)
        ops_socket = self._ops_socket()
        app = self._program("The application", "app", self._app_words(ops_socket), settings)
        self._start_part(app, until=lambda: _answers(ops_socket), within_s=READY_TIMEOUT_S)
        schedule = str(self._home / "schedule")
        worker_words = ["worker", "--pool", "threads", "--concurrency", "2", "--schedule", schedule]
        self._start_part(self._program("The worker", "worker", worker_words, settings))
        export_words = ["worker", "--queue", "exports", "--pool", "threads", "--concurrency", "1"]
        self._start_part(self._program("The worker of exports", "exports", export_words, settings))
        self._load_demo(settings)
        _announce(place, self._folder.path, new_password=not had_password)

    def _start_part(self, part: Part, *, until: Callable[[], bool] | None = None, within_s: float = 0) -> None:
        if self._stopping.is_set():
            raise Stopped
        (self._programs if isinstance(part, Program) else self._servers).append(part)
        part.start()
        deadline = time.monotonic() + within_s
        while until is not None and not until():
            if self._stopping.is_set():
                raise Stopped
            if not part.is_alive() or time.monotonic() > deadline:
                raise part.failure() if isinstance(part, Program) else ServerError(f"{part.name} does not answer.")
            time.sleep(0.05)
        keeper = Keeper(part, say)
        self._keepers.append(keeper)
        keeper.start()

    def _stop(self) -> None:
        """Programs first, which still need the servers to finish what they have at hand."""
        for keeper in self._keepers:
            keeper.stop_keeping()
        for group in (self._programs, self._servers):
            threads = [threading.Thread(target=part.stop) for part in group]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _load_demo(self, settings: Mapping[str, str]) -> None:
        marker = self._folder.path / DEMO_LOADED
        if not self._place.demo or marker.exists():
            return
        loading = self._program("Loading the demo data", "demo", ["demo-data", self._place.address], settings)
        loading.start()
        self._programs.append(loading)
        deadline = time.monotonic() + DEMO_TIMEOUT_S
        while loading.is_alive() and time.monotonic() < deadline:
            if self._stopping.wait(0.05):
                raise Stopped
        loading.wait(0.1)
        self._folder.write(DEMO_LOADED, "The demo was loaded; without this file it is completed at the next start.\n")

    @property
    def _home(self) -> Path:
        return self._folder.path / "app"

    def _log(self, name: str) -> Path:
        return self._folder.path / "logs" / f"{name}.log"

    def _make_folders(self) -> None:
        for folder in (self._home, self._folder.path / "logs"):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _program(self, name: str, log: str, words: list[str], settings: Mapping[str, str]) -> Program:
        return Program(name, words, home=self._home, log=self._log(log), settings=settings)

    def _app_words(self, ops_socket: Path) -> list[str]:
        place = self._place
        words = ["embedded-app", "--host", place.host, "--port", str(place.port), "--ops-socket", str(ops_socket)]
        if place.trusted_proxies:
            words += ["--trusted-proxies", place.trusted_proxies]
        return [*words, "--password-file", str(self._folder.path / FIRST_PASSWORD)]

    def _ops_socket(self) -> Path:
        """The real socket may have to lie elsewhere, where its path is short enough; its name here always works."""
        real = self._folder.make_socket_folder(OPS_SOCKET) / OPS_SOCKET
        name = self._folder.path / OPS_SOCKET
        name.unlink(missing_ok=True)
        name.symlink_to(real)
        real.unlink(missing_ok=True)
        return real

    def _keep_for_operators(self, settings: Mapping[str, str]) -> None:
        """Leave the settings where `python -m deploy --env-file` finds them, for what is done by hand."""
        self._folder.write(SETTINGS_FILE, env_files.render(settings))

    def _settings(self, keys: Keys, postgres: Postgres, valkey: Valkey) -> dict[str, str]:
        """What our processes read: the operator's own HALLPASS_ settings, and ours in place of what we decide."""
        superuser = postgres.superuser_url(DATABASE)
        ours = {
            "MODE": "embedded",
            "REDIS_URL": valkey.url,
            "STAFF_TOKEN_KEYS": json.dumps(keys.staff_token_keys),
            "USER_TOKEN_KEYS": json.dumps(keys.user_token_keys),
            "DATA_KEYS": json.dumps(keys.data_keys),
            "HASH_KEY": keys.hash_key,
            "ADMIN_DATA_KEYS": json.dumps(keys.admin_data_keys),
            "NOTIFY_DATA_KEYS": json.dumps(keys.notify_data_keys),
            "DEV_SIGN_IN": "true",
            "DATABASE_POOL_SIZE": "10",
            "CATALOG_URL": self._place.address,
            "BOOKING_URL": self._place.address,
            "NOTIFY_URL": self._place.address,
        }
        decided = (*ours, "DATABASE_URL", "BROKER_URL", "PARENT_PID")
        theirs = {
            name: value
            for name, value in self._environ.items()
            if name.startswith("HALLPASS_") and not name.endswith(tuple(f"_{field}" for field in decided))
        }
        urls = {
            f"HALLPASS_{name.upper()}_DATABASE_URL": as_login(superuser, name, keys.database_passwords[name])
            for name in SERVICE_NAMES
        }
        return {
            "HALLPASS_EXPORTS_URL": (self._folder.path / "exports").as_uri(),
            "HALLPASS_UPLOADS_URL": (self._folder.path / "uploads").as_uri(),
            **theirs,
            **{f"HALLPASS_{field}": value for field, value in ours.items()},
            **urls,
            "HALLPASS_SUPERUSER_DATABASE_URL": postgres.superuser_url(),
        }


def run(environ: Mapping[str, str]) -> int:
    return Supervisor(Place.from_environment(environ), environ).run()


def quoted(path: Path) -> str:
    """The path as a word of a shell command."""
    return shlex.quote(str(path))


def say(text: str) -> None:
    print(text, flush=True)


def as_login(superuser_url: str, service: str, password: str) -> str:
    """The URL under which a service signs in, as bootstrap.login_url makes it, without loading SQLAlchemy."""
    scheme, _, rest = superuser_url.partition("://")
    return f"{scheme}://hallpass_{service}:{password}@{rest.partition('@')[2]}"


def check_port(place: Place, command: str) -> None:
    """Return where the place can be listened on; Refusal says what stands in the way, and how to say it in the command."""
    choose = f"choose another, for example `HALLPASS_PORT={place.port % 65535 + 1} {command}`"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Refusal(f"HALLPASS_HOST is {place.host!r}, which is no address of this machine ({error}).") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except PermissionError:
            raise Refusal(f"Port {place.port} is for the system's administrator: {choose}.") from None
        except OSError as error:
            raise Refusal(
                f"Port {place.port} of {place.host} is taken or can't be used ({error.strerror}): "
                f"stop what listens there, or {choose}."
            ) from None


class _OverSocket(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("ops", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _answers(ops_socket: Path) -> bool:
    connection = _OverSocket(ops_socket)
    try:
        connection.request("GET", f"/{SERVICE_NAMES[0]}/livez")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _announce(place: Place, data: Path, *, new_password: bool) -> None:
    password_file = data / FIRST_PASSWORD
    if new_password and password_file.exists():
        password = f"password {password_file.read_text().strip()} (shown this once; also in {password_file})"
    else:
        password = f"the first password is in {password_file}"
    say(
        f"""Hallpass runs, and keeps its data in {data}.

  First page          {place.address}/
  API documentation   {place.address}/docs/booking  (and catalog, notify, admin)
  Health              {place.address}/healthz
  Staff sign-in       POST {place.address}/api/admin/sessions as `admin`; {password}
  User sign-in        POST {place.address}/api/booking/sessions {{"provider": "dev", "code": "<any name>"}}
  For operators       curl --unix-socket {quoted(data / OPS_SOCKET)} http://ops/booking/readyz  (or /livez, /metrics)
  Tasks by hand       .venv/bin/python -m deploy --env-file {quoted(data / SETTINGS_FILE)} task booking.upkeep
  Logs                {data / "logs"}"""
    )


__all__ = ["DATABASE", "FIRST_PASSWORD", "Place", "Supervisor", "as_login", "check_port", "quoted", "run"]
