"""Servers for the tests that hurt them: one RabbitMQ a test process, a PostgreSQL of its own for each test that asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.names import SERVICE_NAMES
from deploy.servers import install
from deploy.servers.postgres import Postgres
from deploy.servers.process import ServerError
from deploy.servers.rabbitmq import RabbitMQ
from tests.conftest import Cluster
from tests.require import leave_out
from tests.world import PASSWORDS, World


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    try:
        install.ensure("rabbitmq")
    except ServerError as error:
        leave_out(str(error))
    with RabbitMQ(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL that a test may stop: nobody else lives there, and it is let go whatever the test did."""
    with Postgres(tmp_path / "pg", durable=False) as server:
        yield server


@pytest.fixture
def fragile_world(own_postgres: Postgres, cluster: Cluster) -> Iterator[World]:
    """A world over that server."""
    bootstrap.create(own_postgres.superuser_url(), PASSWORDS)
    bootstrap.migrate(
        {name: bootstrap.login_url(own_postgres.superuser_url(), name, PASSWORDS[name]) for name in SERVICE_NAMES}
    )
    world = World(own_postgres.superuser_url(), bootstrap.DATABASE, cluster.valkey.url)
    yield world
    world.close()
