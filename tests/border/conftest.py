"""One world for all tests of a module: they ask much and disturb each other little."""

from collections.abc import Iterator

import pytest

from tests.admin.exporting import a_world_that_answers
from tests.border.scene import Scene
from tests.conftest import Cluster
from tests.world import World


@pytest.fixture(scope="module")
def shared_world(cluster: Cluster) -> Iterator[World]:
    # Hundreds of requests come from one address and one user: the limits have tests of their own.
    rate = "1000000/minute"
    rates = {"user_rate": rate, "sign_in_rate": rate, "user_sign_in_rate": rate}
    with a_world_that_answers(cluster, live_for_s=0.2, live_poll_ms=50, **rates) as world:
        yield world


@pytest.fixture(scope="module")
def scene(shared_world: World) -> Scene:
    return Scene(shared_world)
