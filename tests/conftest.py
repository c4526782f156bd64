"""Servers once a test process, a copy of the migrated database for every world."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from psycopg import errors as pg
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from deploy import bootstrap, registry
from deploy.servers.postgres import Postgres
from deploy.servers.valkey import Valkey
from libs.common.ids import new_id
from tests.copies import AT_MOST, TEMPLATE, Copy
from tests.patience import lengthen
from tests.world import NOON, PASSWORDS, World, eventually

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4_000_000_000  # several times what a run needs

# How quick a machine is says nothing about an example: neither how long it takes nor how long it was to make.
settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Keep what servers write in memory, where there is room: a copy of the template is 500 files, slow to make on some disks."""
    if MEMORY.is_dir():
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize > ROOM_BYTES and not found.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """Let everything within a test process take its time: any thread and any server may stand still for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        lengthen(patch.setattr)
        yield


@dataclass(frozen=True)
class Cluster:
    """The servers of this test process."""

    postgres: Postgres
    valkey: Valkey
    folder: Path
    _free: list[Copy] = field(default_factory=list)

    def statement(self, sql: str) -> None:
        engine = create_engine(self.postgres.superuser_url(), isolation_level="AUTOCOMMIT")
        eventually(lambda: _carried_out(engine, sql), timeout_s=120)
        engine.dispose()

    @contextmanager
    def world(self, *, redis_url: str | None = None, **settings: Any) -> Iterator[World]:
        """Yield a world over a database of its own (and another Redis, if one is named), while the block runs."""
        copy = self._free.pop() if self._free else self._copy()
        with Redis.from_url(self.valkey.url, socket_timeout=60) as redis:
            redis.flushall()  # the rate limits of one test stay out of the next
        folder = f"file://{self.folder / new_id()}"
        files = {"exports_url": f"{folder}/exports", "uploads_url": f"{folder}/uploads"} | settings
        world = World(self.postgres.superuser_url(), copy.name, redis_url or self.valkey.url, copy=copy, **files)
        try:
            yield world
        finally:
            world.close()
            if len(self._free) < AT_MOST and copy.clear():
                self._free.append(copy)
            else:
                copy.close()
                self.statement(f"DROP DATABASE {copy.name} WITH (FORCE)")

    def _copy(self) -> Copy:
        name = f"test_{new_id().replace('-', '')}"
        self.statement(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        return Copy(self.postgres.superuser_url(), name)


def _carried_out(engine: Engine, sql: str) -> bool:
    """Whether it could be: not while autovacuum, or a connection that is just ending, is in the database it is about."""
    try:
        with engine.connect() as connection:
            connection.execute(text(sql))
    except DBAPIError as error:
        if isinstance(error.orig, pg.ObjectInUse):
            return False
        raise
    return True


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("servers")
    with Postgres(folder / "pg", durable=False) as postgres, Valkey(folder / "valkey") as valkey:
        bootstrap.create(postgres.superuser_url(), PASSWORDS, database=TEMPLATE)
        urls = {
            service.name: bootstrap.login_url(
                postgres.superuser_url(), service.name, PASSWORDS[service.name], database=TEMPLATE
            )
            for service in registry.every()
        }
        bootstrap.migrate(urls)
        found = Cluster(postgres, valkey, folder)
        for service in registry.every():  # PostgreSQL too takes its time, as _patience has it
            found.statement(f"ALTER ROLE {bootstrap.login_of(service.name)} SET statement_timeout = '60s'")
        yield found


@pytest.fixture
def make_world(cluster: Cluster) -> Iterator[Callable[..., World]]:
    """Build worlds with settings of the test's own, each over its own database."""
    with ExitStack() as worlds:
        yield lambda **settings: worlds.enter_context(cluster.world(**settings))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def noon() -> Iterator[None]:
    """Let it be the same noon whenever a test begins that speaks of today and tomorrow: no midnight comes between two lines."""
    with time_machine.travel(NOON, tick=True):
        yield
