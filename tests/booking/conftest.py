"""The atomic counters of a world, for the rooms that ask them."""

import pytest

from services.booking import counter_scripts
from services.booking import counters as counters_module
from services.booking.counters import Counters
from tests.world import World, eventually


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let counters take their time, and refuse for longer: this machine may have much to do."""
    monkeypatch.setattr(counters_module, "BUDGET_S", 5)
    monkeypatch.setattr(counter_scripts, "FRESH_MS", 5_000)


@pytest.fixture
def counters(world: World, patience: None) -> Counters:
    """Those of the booking service, knowing PostgreSQL's epoch."""
    found: Counters = world.runtimes["booking"].resources.counters
    found.start()
    eventually(lambda: found.applier and found.applier.epoch)
    return found
