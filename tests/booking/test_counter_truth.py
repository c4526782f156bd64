"""Counters and PostgreSQL: every change of the inventory reaches Redis, what is missing is read, what differs is mended."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text, update

from libs.common.ids import new_id
from libs.contracts.catalog import SlotStatus
from services.booking import counter_scripts, inventory
from services.booking import counter_truth as truth
from services.booking.counter_scripts import keys_of
from services.booking.counters import Ask, Count, Counters
from services.booking.models import Slot
from tests.booking.at_the_counter import a_count, ask, outcomes, record, redis_of, say, stranger
from tests.booking.builders import a_slot, booked, cancel, move, revoke, stock, user_id
from tests.world import World, eventually, simultaneously

# --- every change reaches it ----------------------------------------------------------------------------------------------------


def _agrees(world: World, counters: Counters, slot_id: str) -> bool:
    reading = truth.read(world.runtimes["booking"].db, [slot_id])
    found = record(counters, slot_id)
    return found is not None and found.is_complete and found.agrees_with(reading.counts[slot_id])


def test_whatever_changes_an_inventory_row_is_told_to_its_counter(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=3)
    other = place.another_slot(capacity=3)
    users = [world.user(f"user {number}") for number in range(3)]

    def told() -> None:
        slots = (place.slot_id, other.slot_id)
        eventually(lambda: all(_agrees(world, counters, slot_id) for slot_id in slots))

    told()
    joins = [booked(world, user, place.slot_id)[0]["id"] for user in users]
    told()
    assert cancel(world, users[0], joins[0]).status_code == 200
    told()
    assert move(world, users[1], joins[1], other.slot_id).status_code == 200
    told()
    assert revoke(world, joins[2]).status_code == 200
    told()
    restored = world.client.post(f"/api/booking/staff/joins/{joins[2]}/restore", headers=world.staff())
    assert restored.status_code == 200
    told()
    emptied = world.client.post(
        f"/api/booking/staff/slots/{other.slot_id}/revoke", json={"reason": "停电"}, headers=world.staff()
    )
    assert emptied.status_code == 200
    told()
    place.change_slot(capacity=7)
    told()
    place.change_slot(status=SlotStatus.CLOSED)
    told()
    assert stock(world, place.slot_id)["taken"] == 1
    found = record(counters, place.slot_id)
    assert found is not None
    assert (found.is_open, found.holders) == (False, 3)


def test_a_process_that_starts_tells_what_one_before_it_could_not(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=3)
    eventually(lambda: _agrees(world, counters, place.slot_id))
    settings = world.runtimes["booking"].settings
    with world.runtimes["booking"].db.engine.begin() as connection:  # as of a process that died right after its commit
        change = {"asked": 9, "capacity": 9, "version": Slot.version + 1}
        connection.execute(update(Slot).where(Slot.id == place.slot_id).values(change))
    before = record(counters, place.slot_id)
    successor = Counters(settings.redis_url.get_secret_value(), settings.database_url.get_secret_value())

    successor.start()

    eventually(lambda: (now := record(counters, place.slot_id)) and now.capacity == 9)
    successor.close()
    assert before is not None
    assert before.capacity == 3


def test_what_is_rolled_back_is_told_to_nobody(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    heard: list[dict[str, Count]] = []
    db = world.runtimes["booking"].db
    db.on_commit("heard", heard.append)

    def taken_and_thought_better_of() -> None:
        with db.transaction() as session:
            inventory.take(session, place.slot_id, 1, holder=new_id())
            session.info["heard"] = session.info["counts"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        taken_and_thought_better_of()

    assert heard == []
    eventually(lambda: _agrees(world, counters, place.slot_id))


# --- reading PostgreSQL ------------------------------------------------------------------------------------------------------------


def test_after_a_flush_the_counter_knows_everybody_who_ever_had_a_place(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    other = place.another_slot()
    names = ["cancelled", "revoked", "moved", "moved twice", "booked"]
    users = {name: world.user(name) for name in names}
    ids = {name: user_id(world, user) for name, user in users.items()}
    joins = {}
    for name in names:
        joins[name] = booked(world, users[name], place.slot_id)[0]["id"]
        if name == "cancelled":
            cancel(world, users[name], joins[name])
        elif name == "revoked":
            revoke(world, joins[name])
        elif name.startswith("moved"):
            assert move(world, users[name], joins[name], other.slot_id).status_code == 200
    third = place.another_slot()
    assert move(world, users["moved twice"], joins["moved twice"], third.slot_id).status_code == 200
    eventually(lambda: _agrees(world, counters, place.slot_id))
    redis_of(world).flushall()

    eventually(lambda: ask(counters, stranger(place.slot_id))[0])

    assert ask(counters, *(Ask(place.slot_id, user, 1) for user in ids.values())) == [None] * len(names)


def test_flushes_in_the_middle_of_a_rush_leave_it_right(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=12)
    users = [world.user(f"user {number}") for number in range(30)]
    ids = {user_id(world, user) for user in users}
    redis = redis_of(world)

    def rush(number: int) -> Callable[[], Any]:
        def go() -> Any:
            if number % 6 == 0:
                redis.flushall()
            return world.client.post(
                "/api/booking/joins",
                headers=users[number] | {"Idempotency-Key": new_id()},
                json={"slot_id": place.slot_id, "attendees": [{"answers": {"name": "张三"}}]},
            )

        return go

    answers = simultaneously([rush(number) for number in range(30)])

    got = [answer.json()["joins"][0] for answer in answers if answer.status_code == 201]
    assert len(got) == 12
    last = new_id()
    counters.apply([a_count(last, 1, 1)])  # told after all that the rush has left to be told, the ends of leases too
    eventually(lambda: record(counters, last))
    full = eventually(lambda: ask(counters, stranger(place.slot_id))[0])
    assert full.left == 0
    verdicts = dict(zip(ids, ask(counters, *(Ask(place.slot_id, user, 1) for user in ids)), strict=True))
    assert sum(verdict is None for verdict in verdicts.values()) == 12
    assert _agrees(world, counters, place.slot_id)


def test_a_gap_is_closed_by_a_reading(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    eventually(lambda: _agrees(world, counters, place.slot_id))
    redis = redis_of(world)
    redis.delete(keys_of(place.slot_id)[0])
    say(counters, a_count(place.slot_id, 1, 1, before=1, capacity=1))
    incomplete = outcomes("incomplete")

    assert ask(counters, stranger(place.slot_id)) == [None]
    assert outcomes("incomplete") == incomplete + 1
    eventually(lambda: ask(counters, stranger(place.slot_id))[0])
    assert ask(counters, Ask(place.slot_id, user_id(world, user), 1)) == [None]


def test_a_set_of_holders_that_redis_evicted_is_not_trusted(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    holder = Ask(place.slot_id, user_id(world, user), 1)
    eventually(lambda: ask(counters, stranger(place.slot_id))[0])
    redis = redis_of(world)

    assert redis.delete(keys_of(place.slot_id)[1]) == 1

    assert ask(counters, holder) == [None]
    eventually(lambda: ask(counters, stranger(place.slot_id))[0])
    assert ask(counters, holder) == [None]


def test_unknown_slots_leave_nothing_that_lasts(world: World, counters: Counters) -> None:
    assert ask(counters, *(stranger(new_id()) for _ in range(50))) == [None] * 50

    assert counters.applier is not None
    eventually(lambda: not counters.applier._wanted)  # type: ignore[union-attr]
    redis = redis_of(world)
    left = list(redis.scan_iter("hallpass:booking:*"))
    assert {key.rpartition(b":")[2] for key in left} <= {b"leases"}
    assert all(0 < redis.pttl(key) <= counter_scripts.LEASE_MS for key in left)


# --- reconciling ------------------------------------------------------------------------------------------------------------------------


def reconciled(world: World) -> dict[str, int]:
    runtime = world.runtimes["booking"]
    task = next(task for task in runtime.service.tasks if task.name == "booking.reconcile")
    found = task.run(runtime)
    assert isinstance(found, dict)
    return found


def divergence() -> float | None:
    return REGISTRY.get_sample_value("hallpass_inventory_divergence", {"service": "booking"})


def test_counters_that_agree_are_left_alone(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    booked(world, world.user("wang"), place.slot_id)
    place.another_slot()
    eventually(lambda: _agrees(world, counters, place.slot_id))

    assert reconciled(world) == {"slots": 2, "mended": 0, "diverging": 0}
    assert divergence() == 0


def test_a_count_that_is_under_way_is_no_fault(
    world: World, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = a_slot(world, capacity=5)
    eventually(lambda: _agrees(world, counters, place.slot_id))
    read = truth.read

    def read_after_a_commit(*args: Any, **more: Any) -> truth.Reading:
        booked(world, world.user("wang"), place.slot_id)
        found = read(*args, **more)
        eventually(lambda: (told := record(counters, place.slot_id)) and told.taken == 1)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(truth, "read", read_after_a_commit)
        assert reconciled(world) == {"slots": 1, "mended": 0, "diverging": 0}


@pytest.mark.parametrize(
    "lie", [{"taken": 0}, {"version": 0}, {"version": 99, "seen": 0}, {"capacity": 5}, {"open": 0}]
)
def test_a_counter_that_lies_is_mended(world: World, counters: Counters, lie: Any) -> None:
    place = a_slot(world, capacity=1)
    booked(world, world.user("wang"), place.slot_id)
    eventually(lambda: _agrees(world, counters, place.slot_id))
    redis = redis_of(world)
    redis.hset(keys_of(place.slot_id)[0], mapping=lie)

    assert reconciled(world) == {"slots": 1, "mended": 1, "diverging": 0}
    assert _agrees(world, counters, place.slot_id)


def test_an_inventory_that_differs_from_its_joins_raises_an_alarm(
    world: World, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    place = a_slot(world, capacity=5)
    booked(world, world.user("wang"), place.slot_id)
    with world.runtimes["booking"].db.transaction() as session:
        session.execute(text("UPDATE slots SET taken = 3, version = version + 1"))

    assert reconciled(world)["diverging"] == 1
    assert divergence() == 1

    with world.runtimes["booking"].db.transaction() as session:
        session.execute(text("UPDATE slots SET taken = 1, version = version + 1"))
    assert reconciled(world)["diverging"] == 0
    assert divergence() == 0


def test_slots_that_are_over_are_not_looked_at(world: World, counters: Counters) -> None:
    a_slot(world, capacity=5, starts_in=timedelta(days=-1))

    assert reconciled(world)["slots"] == 0


def test_many_slots_are_reconciled_in_batches(
    world: World, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truth, "BATCH", 2)
    place = a_slot(world, capacity=5)
    for _ in range(4):
        place.another_slot()

    assert reconciled(world) == {"slots": 5, "mended": 0, "diverging": 0}
