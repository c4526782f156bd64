"""Whom an announcement is told to by a notice: each of them once, whatever happens to who tells them."""

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.tasks import perform
from libs.contracts.booking import UserErased
from services.notify import notices, readers, tasks
from services.notify.models import Notice, Reader
from services.notify.texts import NoticeKind
from tests.notify.builders import Join, Slot, a_join, a_slot, hear, message, notices_of, record_of, rows
from tests.notify.test_announcements import STAFF, written
from tests.world import World, eventually

EVERYBODY_AHEAD = {"upcoming": True}


def a_slot_in(days: int, **differing: Any) -> Slot:
    return a_slot(**({"starts_at": utcnow() + timedelta(days=days)} | differing))


def announce(world: World) -> Any:
    """Do what workers do every ten seconds."""
    runtime = world.runtimes["notify"]
    return perform(runtime, next(task for task in runtime.service.tasks if task.name == "notify.announce"))


def told(world: World) -> list[str]:
    """Return who was told of announcements, sorted."""
    return sorted(row["user_id"] for row in rows(world, Notice, kind="announcement"))


def people_of(world: World, hall: Slot) -> dict[str, Join]:
    """Let users of all kinds have joins in a hall, which is the slot's."""
    where = {"hall_id": hall.hall_id, "item_id": hall.item_id}
    ahead, behind = a_slot_in(2, **where), a_slot_in(-3, **where)
    joins = {
        "booked": a_join(ahead),
        "cancelled": a_join(ahead),
        "came": a_join(behind),
        "stayed away": a_join(behind),
        "elsewhere": a_join(a_slot_in(2)),
    }
    hear(world, hall.hall(), *(join.booked() for join in joins.values()))
    hear(world, joins["cancelled"].cancelled(), joins["came"].checked_in())
    return joins


def test_everybody_with_a_booking_ahead_in_the_hall_is_told(world: World) -> None:
    hall = a_slot()
    people = people_of(world, hall)
    made = written(world, hall_id=hall.hall_id, tell=EVERYBODY_AHEAD)

    announce(world)

    assert told(world) == [people["booked"].user_id]
    for language in ("zh", "en"):
        notice = notices_of(world, people["booked"].user_id, language)["items"][0]
        assert (notice["title"], notice["body"]) == ("国庆放假安排", "十月一日至七日各服务厅暂停服务。")
        assert (notice["announcement_id"], notice["join_id"], notice["people"]) == (made["id"], None, 0)
    assert world.client.get(f"{STAFF}/{made['id']}", headers=world.staff()).json()["readers"] == 1


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        ({"upcoming": False, "visited_days": 5}, ["came"]),
        ({"upcoming": False, "visited_days": 2}, []),
        ({"visited_days": 5}, ["booked", "came"]),
        (None, []),
    ],
)
def test_it_is_told_to_whom_staff_say(world: World, tell: Any, expected: list[str]) -> None:
    hall = a_slot()
    people = people_of(world, hall)
    written(world, hall_id=hall.hall_id, tell=tell)

    announce(world)

    assert told(world) == sorted(people[name].user_id for name in expected)


def test_an_announcement_to_everybody_is_told_in_all_halls(world: World) -> None:
    people = people_of(world, a_slot())
    written(world, tell=EVERYBODY_AHEAD)

    announce(world)

    assert told(world) == sorted(people[name].user_id for name in ("booked", "elsewhere"))


def test_each_user_is_told_once_however_many_joins_they_have_and_however_often_workers_look(world: World) -> None:
    slot = a_slot_in(2)
    joins = [a_join(slot, user_id=user) for user in (a_join().user_id, a_join().user_id) for _ in range(3)]
    hear(world, *(join.booked() for join in joins))
    written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)

    assert [announce(world) for _ in range(3)] == [2, 0, 0]
    assert len(told(world)) == 2


def test_nobody_is_told_before_it_is_out_or_after_it_was_taken_back(world: World) -> None:
    slot = a_slot_in(2)
    hear(world, a_join(slot).booked())
    draft = written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD, status="draft")
    later = (utcnow() + timedelta(hours=1)).isoformat()
    written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD, publish_at=later)

    assert announce(world) == 0
    world.client.patch(f"{STAFF}/{draft['id']}", json={"status": "published"}, headers=world.staff())
    assert announce(world) == 1


def test_what_was_taken_back_half_way_is_told_to_nobody_more_until_it_is_out_again(world: World) -> None:
    slot = a_slot_in(2)
    hear(world, *(a_join(slot).booked() for _ in range(6)))
    one = f"{STAFF}/{written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)['id']}"
    db = world.runtimes["notify"].db
    db.run(partial(readers.list_due, now=utcnow()))
    db.run(partial(readers.tell, now=utcnow(), at_most=2))  # and then the worker was killed
    half = len(told(world))

    world.client.patch(one, json={"status": "draft"}, headers=world.staff())
    taken_back = announce(world)
    world.client.patch(one, json={"status": "published"}, headers=world.staff())
    out_again = announce(world)

    assert (half, taken_back, out_again) == (2, 0, 4)
    assert len(set(told(world))) == len(told(world)) == 6


def test_a_deleted_announcement_is_told_to_nobody_more(world: World) -> None:
    slot = a_slot_in(2)
    hear(world, *(a_join(slot).booked() for _ in range(3)))
    made = written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)
    world.runtimes["notify"].db.run(partial(readers.list_due, now=utcnow()))

    answer = world.client.delete(f"{STAFF}/{made['id']}", headers=world.staff())

    assert (answer.status_code, announce(world), rows(world, Reader)) == (204, 0, [])


def test_whom_it_is_told_to_stays_once_somebody_was(world: World) -> None:
    slot = a_slot_in(2)
    hear(world, a_join(slot).booked())
    made = written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)
    one = f"{STAFF}/{made['id']}"

    before = world.client.patch(one, json={"tell": {"visited_days": 7}}, headers=world.staff())
    announce(world)
    after = world.client.patch(one, json={"tell": None}, headers=world.staff())
    same = world.client.patch(one, json={"tell": {"visited_days": 7}, "order": 1}, headers=world.staff())

    assert before.json()["tell"] == {"upcoming": True, "visited_days": 7}
    assert (after.status_code, after.json()["code"]) == (409, "announcement_told")
    assert same.status_code == 200


def test_an_erased_user_is_told_nothing(world: World) -> None:
    slot = a_slot_in(2)
    gone, here = a_join(slot), a_join(slot)
    hear(world, gone.booked(), here.booked(), UserErased(version=1, user_id=gone.user_id, join_ids=[gone.id]))
    written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)

    announce(world)

    assert told(world) == [here.user_id]


def test_nothing_is_left_of_what_a_user_was_to_be_told_and_reminded_of_when_they_are_erased(world: World) -> None:
    slot = a_slot_in(2)
    join = a_join(slot)
    hear(world, slot.hall(), join.booked())
    made = written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)
    world.runtimes["notify"].db.run(partial(readers.list_due, now=utcnow()))
    world.client.patch(f"{STAFF}/{made['id']}", json={"status": "draft"}, headers=world.staff())

    hear(world, UserErased(version=1, user_id=join.user_id, join_ids=[join.id]))

    assert rows(world, Reader) == []
    assert record_of(world, join)["next_reminder_at"] is None


def test_an_erasure_in_the_middle_of_telling_leaves_nothing(world: World) -> None:
    join = a_join()
    fact, gone = join.booked(), UserErased(version=1, user_id=join.user_id, join_ids=[join.id])
    erasing = threading.Thread(target=hear, args=(world, gone))

    with world.runtimes["notify"].db.transaction() as session:
        notices.tell(session, [(NoticeKind.BOOKED, fact, message(fact))])
        erasing.start()
        waiting = text(
            "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE datname = current_database() AND NOT granted)"
        )
        eventually(lambda: session.scalar(waiting) or not erasing.is_alive())
    erasing.join()

    assert rows(world, Notice, user_id=join.user_id) == []


def test_workers_beside_each_other_tell_everybody_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "READERS_AT_ONCE", 3)
    slot = a_slot_in(2, capacity=None)
    joins = [a_join(slot) for _ in range(40)]
    hear(world, *(join.booked() for join in joins), at_once=40)
    written(world, hall_id=slot.hall_id, tell=EVERYBODY_AHEAD)
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    def work() -> None:
        barrier.wait()
        try:
            announce(world)
        except BaseException as error:  # noqa: BLE001  # told on the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert told(world) == sorted(join.user_id for join in joins)
