"""Redis forgets, or says what was: nobody gets a place that another has. Where Redis decided, somebody would."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from redis import Redis

from services.booking import counter_scripts
from services.booking import counters as counters_module
from services.booking.counter_scripts import keys_of
from tests.booking.builders import people_booked, user_id
from tests.concurrency.controls import with_redis_as_the_truth
from tests.concurrency.town import Town
from tests.world import World, eventually

Headers = dict[str, str]
YES, FULL = 201, 409


class Rush:
    """Two people at two desks ask for the one place of a slot, each of them past the counter."""

    def __init__(self, world: World, desks: tuple[str, str]) -> None:
        self.world = world
        self.desks = desks
        counters = world.runtimes["booking"].resources.counters
        counters.start()  # what it reads when it starts, it has read before anything is there
        eventually(lambda: counters.applier.epoch and not counters.applier._is_doubtful)
        self.town = Town(world, 1)
        [self.slot_id] = self.town.slots
        self.count, self.holders, self.leases = keys_of(self.slot_id)
        self.redis = Redis.from_url(world.runtimes["booking"].settings.redis_url.get_secret_value())
        self.users = [world.user("wang"), world.user("li")]
        eventually(lambda: self.redis.hget(self.count, "taken") == b"0")

    def ask(self, person: int) -> int:
        return self.town.join(self.desks[person], self.users[person]).status_code

    @contextmanager
    def on_the_way(self, person: int) -> Iterator[None]:
        """Let somebody ask, who has passed the counter when the block begins, and can be answered when it is over."""
        asking = threading.Thread(target=self.ask, args=(person,))
        url = self.world.runtimes["booking"].settings.database_url.get_secret_value().replace("+psycopg", "")
        with psycopg.connect(url) as holding:
            holding.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [user_id(self.world, self.users[person])])
            asking.start()
            eventually(lambda: self.redis.zcard(self.leases) == 1)
            yield
        asking.join()


def nothing_happens(rush: Rush) -> None:
    with rush.on_the_way(0):
        pass
    eventually(lambda: rush.redis.hget(rush.count, "taken") == b"1")
    assert rush.ask(1) == FULL


def an_older_copy_comes_back(rush: Rush) -> None:
    copy = rush.redis.dump(rush.count)
    assert copy is not None
    assert rush.ask(0) == YES
    eventually(lambda: rush.redis.hget(rush.count, "taken") == b"1")
    rush.redis.restore(rush.count, 0, copy, replace=True)
    rush.ask(1)


def everything_is_flushed(rush: Rush) -> None:
    with rush.on_the_way(0):
        rush.redis.flushall()
        assert rush.ask(1) == YES


def a_lease_is_lost(rush: Rush) -> None:
    with rush.on_the_way(0):
        assert rush.redis.delete(rush.leases) == 1
        assert rush.ask(1) == YES


LIES: list[Callable[[Rush], None]] = [an_older_copy_comes_back, everything_is_flushed, a_lease_is_lost]


@pytest.fixture
def world(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> World:
    """One in which Redis is asked about everybody, and waited for: this machine may have much to do."""
    monkeypatch.setattr(counters_module, "BUDGET_S", 60)
    monkeypatch.setattr(counter_scripts, "FRESH_MS", 600_000)
    monkeypatch.setattr(counter_scripts, "LEASE_MS", 600_000)
    return make_world(crowd=1)


def _play(world: World, story: Callable[[Rush], None]) -> tuple[list[str], int]:
    """Return the kinds of all faults in what was told, and how many people hold the one place."""
    with world.serve() as one, world.serve() as other:
        rush = Rush(world, (one, other))
        story(rush)
    return [fault.kind for fault in rush.town.faults()], people_booked(world, rush.slot_id)


@pytest.mark.parametrize("story", [nothing_happens, *LIES])
def test_a_place_goes_to_one_person_whatever_redis_says(world: World, story: Callable[[Rush], None]) -> None:
    assert _play(world, story) == ([], 1)


@pytest.mark.parametrize("lie", LIES)
def test_with_redis_as_the_truth_the_checker_finds_an_oversell(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: Callable[[Rush], None]
) -> None:
    with_redis_as_the_truth(monkeypatch)

    kinds, people = _play(world, lie)

    assert "oversell" in kinds
    assert people == 2


def test_with_redis_as_the_truth_all_is_well_while_redis_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what the lies break is the trust in Redis, and nothing else."""
    with_redis_as_the_truth(monkeypatch)

    assert _play(world, nothing_happens) == ([], 1)
