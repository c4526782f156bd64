"""One world for all tests of a module: they ask much and disturb each other little."""

from collections.abc import Iterator

import pytest

from tests.admin.exporting import a_world_that_answers
from tests.border.scene import Scene
from tests.common.receiver import Receiver
from tests.conftest import Cluster
from tests.notify import texting
from tests.notify.reaching import Providers
from tests.world import World


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    with Providers() as providers:
        yield providers


@pytest.fixture(scope="module")
def bridge() -> Iterator[Receiver]:
    with texting.a_bridge() as bridge:
        yield bridge


@pytest.fixture(scope="module")
def shared_world(cluster: Cluster, providers: Providers, bridge: Receiver) -> Iterator[World]:
    # Hundreds of requests come from one address and one user: the limits have tests of their own.
    rates = ("user_rate", "sign_in_rate", "user_sign_in_rate", "unmask_rate", "mail_rate", "wechat_code_rate")
    budget = dict.fromkeys(("sms_per_user", "sms_per_number", "sms_per_day"), 1_000_000)
    chosen = dict.fromkeys(rates, "1000000/minute") | providers.settings() | texting.settings(bridge, **budget)
    with a_world_that_answers(cluster, live_for_s=1, live_poll_ms=50, **chosen) as world:
        yield world


@pytest.fixture(scope="module")
def scene(shared_world: World, providers: Providers, bridge: Receiver) -> Scene:
    return Scene(shared_world, providers, bridge)
