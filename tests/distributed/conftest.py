"""One distributed installation a test process, and whatever a test stops is started again."""

from collections.abc import Iterator

import pytest

from deploy.native import Native
from deploy.servers import install
from deploy.servers.process import ServerError, free_port
from tests.distributed.town import Town
from tests.require import leave_out
from tests.world import eventually


@pytest.fixture(scope="session")
def servers_are_there() -> None:
    try:
        install.ensure("rabbitmq", "nginx")
    except ServerError as error:
        leave_out(str(error))


@pytest.fixture(scope="session")
def native(servers_are_there: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Native]:
    folder = tmp_path_factory.mktemp("distributed") / "native"
    with Native(folder, port=free_port(), dev_sign_in=True) as installation:
        yield installation


@pytest.fixture(scope="session")
def town(native: Native) -> Town:
    return Town(native.address, native.first_password)


class Outage:
    """Parts that are away for a while."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._away: list[str] = []

    def of(self, *names: str) -> None:
        for name in names:
            self._away.append(name)
            self._native[name].stop()

    def ends(self) -> None:
        for name in reversed(self._away):
            self._native[name].start()
        self._away.clear()


@pytest.fixture
def outage(native: Native) -> Iterator[Outage]:
    outage = Outage(native)
    yield outage
    outage.ends()


@pytest.fixture
def all_is_well_again(town: Town) -> Iterator[None]:
    """Whatever a test did, also one that failed, is mended before the next one begins."""
    yield
    eventually(town.is_well, timeout_s=120)
