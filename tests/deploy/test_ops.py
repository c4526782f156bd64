"""What /metrics tells of a service beside its requests: outbox, queues, dead letters, jobs, connections, joins."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from deploy import ops
from libs.common.db import Database
from libs.common.ids import new_id
from services.admin.job_measures import AGES
from services.booking.counters import State
from tests.admin.builders import an_account, signed_in
from tests.booking.builders import a_slot, book, booked, cancel
from tests.notify.builders import a_join, message
from tests.world import World, eventually


def read(name: str, **labels: str) -> float | None:
    """Return what a look at /metrics shows."""
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def watched(world: World) -> Iterator[World]:
    """A world whose notify and admin are watched as by their events processes."""
    collectors = set(REGISTRY._collector_to_names)
    for name in ("notify", "admin"):
        ops.watch_service(
            world.runtimes[name], [queue for queue in world.queues if queue.consumer.name == f"{name}.events"]
        )
    yield world
    for collector in set(REGISTRY._collector_to_names) - collectors:
        REGISTRY.unregister(collector)


def test_what_waits_in_the_outbox_is_counted_with_its_age(watched: World) -> None:
    assert read("hallpass_outbox_oldest_seconds", service="admin") == 0
    an_account(watched, "clerk")

    assert (read("hallpass_outbox_pending", service="admin") or 0) >= 1
    assert 0 < (read("hallpass_outbox_oldest_seconds", service="admin") or 0) < 600

    watched.settle()
    assert read("hallpass_outbox_pending", service="admin") == 0
    assert read("hallpass_outbox_oldest_seconds", service="admin") == 0


def test_what_waits_for_a_consumer_and_what_it_failed_at_are_counted_apart(watched: World) -> None:
    [queue] = [queue for queue in watched.queues if queue.consumer.name == "notify.events"]
    where = {"service": "notify", "consumer": "notify.events"}
    good = message(a_join().booked())

    queue.put([good, good.model_copy(update={"id": new_id(), "data": {}})])
    assert (read("hallpass_queue_messages", **where), read("hallpass_dead_letters", **where)) == (2, 0)

    eventually(lambda: not queue.consume_once() and queue.parked())
    assert (read("hallpass_queue_messages", **where), read("hallpass_dead_letters", **where)) == (0, 1)


def test_jobs_are_counted_by_kind_and_state_with_the_age_of_the_oldest(watched: World) -> None:
    assert read("hallpass_jobs", service="admin", kind="import", state="queued") == 0
    watched.client.post("/api/admin/exports", json={"kind": "audit"}, headers=watched_admin(watched))

    assert read("hallpass_jobs", service="admin", kind="export", state="queued") == 1
    assert 0 < (read("hallpass_jobs_oldest_seconds", service="admin", kind="export", state="queued") or 0) < 600
    for state in AGES:
        assert read("hallpass_jobs_oldest_seconds", service="admin", kind="import", state=state) == 0


def watched_admin(world: World) -> dict[str, str]:
    account = an_account(world, "exporter")
    headers: dict[str, str] = signed_in(world, account["username"])["headers"]
    return headers


def test_of_a_database_that_is_away_nothing_is_told(world: World) -> None:
    away = replace(world.runtimes["admin"], db=Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing", name="away"))
    collectors = set(REGISTRY._collector_to_names)

    ops.watch_service(away, [])
    shown = read("hallpass_outbox_pending", service="admin"), read("hallpass_outbox_oldest_seconds", service="admin")
    jobs = read("hallpass_jobs", service="admin", kind="export", state="queued")
    for collector in set(REGISTRY._collector_to_names) - collectors:
        REGISTRY.unregister(collector)

    assert [str(value) for value in shown] == ["nan", "nan"]
    assert jobs is None


def test_connections_in_use_are_told_beside_their_limit(world: World) -> None:
    ops.watch_connections(world.runtimes["catalog"])

    with world.runtimes["catalog"].db.transaction() as session:
        session.connection()
        used = read("hallpass_database_connections", service="catalog")

    assert used == 1
    assert read("hallpass_database_connections", service="catalog") == 0
    assert read("hallpass_database_connections_limit", service="catalog") == 10


def test_joins_are_counted_by_outcome_and_reason(world: World) -> None:
    def counted(outcome: str, code: str = "") -> float:
        return read("hallpass_joins_total", service="booking", outcome=outcome, code=code) or 0

    place = a_slot(world, capacity=1)
    before = counted("booked"), counted("cancelled"), counted("refused", "slot_full")
    first, second = world.user("first"), world.user("second")

    [join] = booked(world, first, place.slot_id, "林小满")
    assert book(world, second, place.slot_id, "王大年").status_code == 409
    assert cancel(world, first, join["id"]).status_code == 200

    after = counted("booked"), counted("cancelled"), counted("refused", "slot_full")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]


def test_the_counters_say_in_which_one_state_they_are(world: World, make_world: Callable[..., World]) -> None:
    def states(of: World) -> dict[State, float | None]:
        booking = of.runtimes["booking"]
        booking.service.start(booking)
        return {state: read("hallpass_counter_state", service="booking", state=state) for state in State}

    eventually(lambda: states(world)[State.TRUSTED] == 1)
    assert sum(value or 0 for value in states(world).values()) == 1

    without = make_world(redis_url="unix:///nowhere/valkey.sock")
    eventually(lambda: states(without)[State.DOWN] == 1)
    assert sum(value or 0 for value in states(without).values()) == 1
