"""The atomic counters of a world, for the rooms that ask them."""

import pytest

from services.booking import counter_scripts
from services.booking import counters as counters_module
from services.booking.counters import Counters
from tests.world import World, eventually


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let counters take their time, and nothing that they were told grow old while a test goes on: it may stand still."""
    monkeypatch.setattr(counters_module, "BUDGET_S", 60)
    for name in ("FRESH_MS", "LEASE_MS", "REPLACE_MS"):
        monkeypatch.setattr(counter_scripts, name, 600_000)


@pytest.fixture
def counters(world: World, patience: None) -> Counters:
    """Those of the booking service, knowing PostgreSQL's epoch, and with nothing left to read anew."""
    found: Counters = world.runtimes["booking"].resources.counters
    found.start()
    eventually(lambda: found.applier and found.applier.epoch and not found.applier._is_doubtful)
    return found
