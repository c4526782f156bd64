"""The ground that is measured on: servers of its own on free ports, migrated, and our processes on demand."""

import json
import os
import secrets
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg

from deploy import secret_files, table
from deploy.env_files import Variables
from deploy.keys import Keys
from deploy.parts import environment_of
from deploy.probe import answers
from deploy.servers import install
from deploy.servers.postgres import Postgres
from deploy.servers.process import Child, port_is_taken, wait_until
from deploy.servers.rabbitmq import RabbitMQ
from deploy.servers.valkey import Valkey

HERE = "127.0.0.1"
PORTS = range(20_000, 32_000)  # below those from which the system takes ports for connections that go out
READY_TIMEOUT_S = 120
# What a round leaves behind in booking. Its users stay, and the next round's slots are new ones: no cache knows them.
LEFT_BY_A_ROUND: LiteralString = "booking.joins, booking.claims, booking.successes, booking.outbox, booking.slots"
LEFT_IN_NOTIFY: LiteralString = "notify.join_records, notify.notices, notify.slot_stats, notify.day_stats, notify.hour_stats, notify.inbox, notify.outbox"


@dataclass(frozen=True)
class Api:
    """One process of ours that answers HTTP."""

    port: int
    pid: int


class Ground:
    """PostgreSQL (fsync on) and Valkey as the distributed run has them, with nothing else running until it is asked for."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() == 0:
            for passed in (folder, folder.parent):
                passed.chmod(0o711)  # PostgreSQL may run as another account, which has to pass through
        self.folder = folder
        self._kept = ExitStack()
        self._ports: set[int] = set()
        self.postgres = Postgres(
            folder / "postgres", port=self._free_port(), durable=True, max_connections=table.MAX_CONNECTIONS
        )
        self._valkey = Valkey(folder / "valkey", port=self._free_port())
        self._rabbitmq = RabbitMQ(folder / "rabbitmq", port=self._free_port())
        (folder / "app").mkdir(mode=0o700)
        self.keys = Keys.fresh()

    def __enter__(self) -> Self:
        try:
            self._kept.enter_context(self.postgres)
            self._kept.enter_context(self._valkey)
            migrating = self._start("migrate", "deploy", "migrate", variables=self.variables["migrate.env"])
            if migrating.wait(READY_TIMEOUT_S):
                raise RuntimeError(f"migrating failed: {migrating.last_lines()}")
        except BaseException:
            self._kept.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()

    @cached_property
    def variables(self) -> dict[str, Variables]:
        """The environment of each process by its file of secrets, as for a distributed installation."""
        chosen = secret_files.Secrets(
            superuser_password=self.postgres.folder.secret("superuser-password"),
            redis_password=self._valkey.folder.secret("password"),
            rabbitmq_password=self._rabbitmq.folder.secret("password"),
            keys=self.keys,
        )
        servers = (self.postgres, self._valkey, self._rabbitmq)
        return secret_files.files(chosen, secret_files.Addresses(*(f"{HERE}:{server.port}" for server in servers)))

    # --- the database ---

    @property
    def database_url(self) -> str:
        """Of the superuser, for libpq."""
        return self.postgres.superuser_url(secret_files.DATABASE).replace("+psycopg", "")

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection of the superuser that commits each statement."""
        return psycopg.connect(self.database_url, autocommit=True)

    def clear(self) -> None:
        """Forget what a round has left, so that each begins alike."""
        with self.connect() as connection:
            connection.execute(f"TRUNCATE {LEFT_BY_A_ROUND} CASCADE")
            connection.execute("CHECKPOINT")

    def clear_notify(self) -> None:
        """Forget what notify has heard and said."""
        with self.connect() as connection:
            connection.execute(f"TRUNCATE {LEFT_IN_NOTIFY} CASCADE")
            connection.execute("CHECKPOINT")

    def forget_news(self) -> None:
        """Forget what catalog has recorded and never told: a relay that starts now would be busy with it."""
        with self.connect() as connection:
            connection.execute("TRUNCATE catalog.outbox")

    def unpublished(self) -> int:
        """How many events booking has recorded and not published."""
        with self.connect() as connection:
            row = connection.execute("SELECT count(*) FROM booking.outbox WHERE published_at IS NULL").fetchone()
        return int(row[0]) if row else 0

    def wait_for_catalog(self, slot_id: str, *, taken: int, timeout_s: float) -> None:
        """Return when catalog shows so many places of the slot as taken, or raise TimedOut."""
        with self.connect() as connection:

            def shows_all() -> bool:
                row = connection.execute("SELECT taken FROM catalog.slots WHERE id = %s", [slot_id]).fetchone()
                return row is not None and row[0] >= taken

            wait_until(shows_all, timeout_s, f"catalog to show {taken} places taken")

    # --- our processes ---

    @cached_property
    def booking(self) -> Api:
        return self._api("booking", "deploy", "api", "booking")

    @cached_property
    def second_booking(self) -> Api:
        return self._api("booking", "deploy", "api", "booking")

    def booking_with(self, settings: Variables) -> Api:
        """Start another booking process, with settings of its own."""
        return self._api("booking", "deploy", "api", "booking", settings=settings)

    @cached_property
    def catalog(self) -> Api:
        return self._api("catalog", "deploy", "api", "catalog")

    @cached_property
    def notify(self) -> Api:
        return self._api("notify", "deploy", "api", "notify")

    @cached_property
    def control(self) -> Api:
        """The process with what the product is compared to."""
        return self._api("booking", "bench.control")

    @cached_property
    def export_worker(self) -> Child:
        """The worker of exports; it reads the booking process of this ground."""
        port = self._free_port()
        variables = {
            **self.variables["admin.env"],
            "HALLPASS_EXPORTS_URL": self.exports.as_uri(),
            "HALLPASS_BOOKING_URL": f"http://{HERE}:{self.booking.port}",
            "TMPDIR": str(self.folder),
        }
        process = table.BY_NAME["export-worker"]
        assert isinstance(process, table.Process)
        child = self._start("export-worker", "deploy", *process.command(HERE, port), variables=variables)
        self._wait(child, port)
        return child

    @property
    def exports(self) -> Path:
        """The folder with the files of exports."""
        return self.folder / "exports"

    def follow(self, stack: ExitStack) -> None:
        """Let events flow until the stack is closed: RabbitMQ, and the relay and consumers of the ring."""
        self.broker(stack)
        for name in ("booking", "notify", "catalog"):
            self.events(stack, name)

    def broker(self, stack: ExitStack) -> str:
        """Start RabbitMQ until the stack is closed; return its address."""
        install.ensure("rabbitmq")
        return stack.enter_context(self._rabbitmq).url

    def events(self, stack: ExitStack, name: str) -> Api:
        """Start the relay and the consumers of a service until the stack is closed; return where its metrics are."""
        port = self._free_port()
        words = ("events", name, "--host", HERE, "--ops-port", str(port))
        child = self._start(f"{name}-events", "deploy", *words, variables=self.variables[f"{name}.env"])
        stack.callback(child.stop)
        self._wait(child, port)
        return Api(port, child.pid)

    def _api(self, name: str, module: str, *words: str, settings: Variables | None = None) -> Api:
        port = self._free_port()
        child = self._start(
            f"{module}-{port}",
            module,
            *words,
            "--host",
            HERE,
            "--port",
            str(port),
            variables=self.variables[f"{name}.env"] | (settings or {}),
        )
        self._wait(child, port)
        return Api(port, child.pid)

    def _start(self, name: str, module: str, *words: str, variables: Variables) -> Child:
        child = Child(
            [sys.executable, "-m", module, *words],
            log=self.folder / f"{name}.log",
            env=environment_of(variables),
            cwd=self.folder / "app",
        )
        self._kept.callback(child.stop)
        return child

    def _wait(self, child: Child, port: int) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not answers(f"http://{HERE}:{port}/readyz"):
            if not child.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(child.args)} did not start: {child.last_lines()}")
            time.sleep(0.05)

    def _free_port(self) -> int:
        while True:
            port = PORTS[secrets.randbelow(len(PORTS))]
            if port not in self._ports and not port_is_taken(port):
                self._ports.add(port)
                return port


def as_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
