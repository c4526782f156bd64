"""The atomic counters with a Redis that is down, slow, killed, restored, or that lies: PostgreSQL decides, and in time."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy.exc import DBAPIError

from deploy import bootstrap, registry
from deploy.servers.postgres import Postgres
from deploy.servers.valkey import Valkey
from libs.common.db import Database
from libs.common.ids import new_id
from services.booking import counter_scripts
from services.booking import counter_truth as truth
from services.booking import counters as counters_module
from services.booking.counter_scripts import keys_of
from services.booking.counters import Ask, Counters, Full
from services.booking.counts import Epoch
from tests.booking.at_the_counter import outcomes
from tests.booking.builders import a_slot, booked, cancel, user_id
from tests.conftest import Cluster
from tests.world import PASSWORDS, World, eventually


class Proxy:
    """A way to Redis that a test can stall, cut, or let answer nonsense."""

    def __init__(self, to: Path) -> None:
        self._to = to
        self._flows = threading.Event()
        self._flows.set()
        self._lies: bytes | None = None
        self._closing = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"

    def stall(self) -> None:
        """Take what comes and pass nothing on."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def answer(self, nonsense: bytes) -> None:
        """Answer whatever is asked with this."""
        self._lies = nonsense

    def close(self) -> None:
        self._closing = True
        self._flows.set()
        self._listening.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(str(self._to))
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(self._lies if is_answer and self._lies is not None else data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    found = Proxy(cluster.valkey.socket)
    yield found
    found.close()


class Asking:
    """Asks a world's counters on an event loop that stays."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counters: Counters = world.runtimes["booking"].resources.counters
        self._loop = asyncio.Runner()

    def __call__(self, *asks: Ask) -> list[Full | None]:
        return self._loop.run(self.counters.admit(asks))

    def until_full(self, slot_id: str) -> Full:
        found: Full = eventually(lambda: self(Ask(slot_id, new_id(), 1))[0])
        return found

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def asking(make_world: Callable[..., World], proxy: Proxy) -> Iterator[Asking]:
    found = Asking(make_world(redis_url=proxy.url))
    found.counters.start()
    yield found
    proxy.flow()
    found.close()


def a_full_slot(world: World) -> tuple[str, str]:
    """Publish a slot whose one place is taken; return its id and the holder's."""
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    return place.slot_id, user_id(world, user)


def test_a_stalled_redis_is_left_in_time_and_then_alone(
    asking: Asking, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot_id, _ = a_full_slot(asking.world)
    asking.until_full(slot_id)
    monkeypatch.setattr(counters_module, "PAUSE_S", 600)
    paused = outcomes("paused")
    proxy.stall()  # and says nothing before the test is over

    assert asking(Ask(slot_id, new_id(), 1)) == [None]
    eventually(lambda: asking(Ask(slot_id, new_id(), 1)) == [None] and outcomes("paused") > paused)
    paused = outcomes("paused")
    answers = [asking(Ask(slot_id, new_id(), 1)) for _ in range(20)]

    assert answers == [[None]] * 20
    assert outcomes("paused") - paused == 20, "the others do not wait at all"


def test_after_a_stall_the_counters_serve_again_and_are_right(asking: Asking, proxy: Proxy) -> None:
    slot_id, holder = a_full_slot(asking.world)
    asking.until_full(slot_id)
    proxy.stall()
    asking(Ask(slot_id, new_id(), 1))
    proxy.flow()

    asking.until_full(slot_id)

    assert asking(Ask(slot_id, holder, 1)) == [None]


def test_answers_that_come_late_are_not_taken_for_those_to_the_next_question(
    asking: Asking, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters_module, "PAUSE_S", 0)
    full, _ = a_full_slot(asking.world)
    free = a_slot(asking.world, capacity=1).slot_id
    for _ in range(5):
        asking.until_full(full)
        proxy.stall()
        asking(Ask(full, new_id(), 1))
        proxy.flow()

        assert asking(Ask(free, new_id(), 1)) == [None]


def test_places_are_given_while_redis_is_stalled(asking: Asking, proxy: Proxy) -> None:
    place = a_slot(asking.world, capacity=2)
    users = [asking.world.user(f"user {number}") for number in range(2)]
    proxy.stall()

    joins = [booked(asking.world, user, place.slot_id)[0] for user in users]

    assert len(joins) == 2
    proxy.flow()
    assert asking.until_full(place.slot_id) == Full(left=0, version=2)


@pytest.mark.parametrize(
    "nonsense", [b"+OK\r\n", b"*0\r\n", b":1\r\n", b"-ERR no\r\n", b"$-1\r\n", b"not redis at all\r\n"]
)
def test_answers_that_make_no_sense_refuse_nobody(asking: Asking, proxy: Proxy, nonsense: bytes) -> None:
    slot_id, _ = a_full_slot(asking.world)
    asking.until_full(slot_id)
    proxy.answer(nonsense)

    assert asking(*(Ask(slot_id, new_id(), 1) for _ in range(3))) == [None] * 3


def test_keys_of_another_type_are_made_anew(asking: Asking, cluster: Cluster) -> None:
    slot_id, holder = a_full_slot(asking.world)
    asking.until_full(slot_id)
    redis = Redis.from_url(cluster.valkey.url)
    for key in keys_of(slot_id):
        redis.set(key, "something else")

    assert asking(Ask(slot_id, new_id(), 1)) == [None]

    asking.until_full(slot_id)
    assert asking(Ask(slot_id, holder, 1)) == [None]


def test_a_redis_that_is_nowhere_decides_nothing(make_world: Callable[..., World], tmp_path: Path) -> None:
    asking = Asking(make_world(redis_url=f"unix://{tmp_path}/nobody.sock"))
    slot_id, _ = a_full_slot(asking.world)
    asking.counters.start()
    eventually(lambda: asking.counters.applier and asking.counters.applier.epoch)

    assert [asking(Ask(slot_id, new_id(), 1)) for _ in range(5)] == [[None]] * 5
    asking.close()


def test_a_flush_of_scripts_and_keys_is_survived(asking: Asking, cluster: Cluster) -> None:
    slot_id, holder = a_full_slot(asking.world)
    asking.until_full(slot_id)
    redis = Redis.from_url(cluster.valkey.url)
    redis.flushall()
    redis.script_flush()

    asking.until_full(slot_id)

    assert asking(Ask(slot_id, holder, 1)) == [None]


def test_a_restored_redis_does_not_refuse_what_is_free_again(asking: Asking, cluster: Cluster) -> None:
    world = asking.world
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    join = booked(world, user, place.slot_id)[0]
    asking.until_full(place.slot_id)
    redis = Redis.from_url(cluster.valkey.url)
    assert redis.hget(keys_of(place.slot_id)[0], "taken") == b"1"
    backup = {key: redis.dump(key) for key in keys_of(place.slot_id)}
    backed_up_at = time.monotonic()
    assert cancel(world, user, join["id"]).status_code == 200
    eventually(lambda: redis.hget(keys_of(place.slot_id)[0], "taken") == b"0")
    eventually(lambda: time.monotonic() - backed_up_at > 2 * counter_scripts.FRESH_MS / 1000)

    for key, value in backup.items():
        if value is not None:
            redis.restore(key, 3_600_000, value, replace=True)

    def is_mended() -> bool:
        assert asking(Ask(place.slot_id, new_id(), 1)) == [None]
        return redis.hget(keys_of(place.slot_id)[0], "taken") == b"0"

    eventually(is_mended)


def test_a_killed_redis_comes_back_and_is_filled_again(make_world: Callable[..., World], tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as valkey:
        asking = Asking(make_world(redis_url=valkey.url))
        slot_id, holder = a_full_slot(asking.world)
        asking.until_full(slot_id)

        valkey.kill()
        assert asking(Ask(slot_id, new_id(), 1)) == [None]
        valkey.start()

        asking.until_full(slot_id)
        assert asking(Ask(slot_id, holder, 1)) == [None]
        asking.close()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL that a test may kill; what it has confirmed stays."""
    with Postgres(tmp_path / "pg") as postgres:
        bootstrap.create(postgres.superuser_url(), PASSWORDS)
        bootstrap.migrate(
            {
                service.name: bootstrap.login_url(postgres.superuser_url(), service.name, PASSWORDS[service.name])
                for service in registry.every()
            }
        )
        yield postgres


def test_a_restarted_postgresql_begins_another_history(own_postgres: Postgres, cluster: Cluster) -> None:
    world = World(own_postgres.superuser_url(), bootstrap.DATABASE, cluster.valkey.url)
    asking = Asking(world)
    slot_id, holder = a_full_slot(world)
    asking.until_full(slot_id)
    applier = asking.counters.applier
    assert applier is not None
    before = applier.epoch
    assert before is not None

    own_postgres.kill()
    own_postgres.start()

    after = eventually(lambda: applier.epoch if applier.epoch != before else None)
    assert (after.system, after.timeline) == (before.system, before.timeline)
    assert after > before
    assert asking.until_full(slot_id) == Full(left=0, version=1)
    assert asking(Ask(slot_id, holder, 1)) == [None]
    assert applier.records([slot_id])[slot_id].epoch == after
    asking.close()
    world.close()


def test_a_promoted_copy_begins_another_timeline(own_postgres: Postgres) -> None:
    url = bootstrap.login_url(own_postgres.superuser_url(), "booking", PASSWORDS["booking"])
    db = Database(url, name="test", pool_size=1)
    before = truth.epoch(db)
    db.close()

    own_postgres.stop()
    (own_postgres.cluster / "recovery.signal").touch()
    with (own_postgres.cluster / "postgresql.auto.conf").open("a") as conf:
        conf.write("restore_command = 'false'\n")
    own_postgres.start()

    db = Database(url, name="test", pool_size=1)
    after = eventually(lambda: _epoch_of_a_primary(db))
    assert (after.system, after.timeline) == (before.system, before.timeline + 1)
    assert after > before
    db.close()


def _epoch_of_a_primary(db: Database) -> Epoch | None:
    try:
        return truth.epoch(db)
    except DBAPIError:
        return None  # still recovering
