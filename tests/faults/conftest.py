"""RabbitMQ for the tests that need the real broker: one server a test process."""

from collections.abc import Iterator

import pytest

from deploy.servers import install
from deploy.servers.process import ServerError
from deploy.servers.rabbitmq import RabbitMQ
from tests.require import leave_out


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    try:
        install.ensure("rabbitmq")
    except ServerError as error:
        leave_out(str(error))
    with RabbitMQ(tmp_path_factory.mktemp("rabbit")) as server:
        yield server
