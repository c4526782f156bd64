"""Who did not come: noted when the slot is over, once, by any of many workers, and taken back where its end moves ahead."""

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine

from libs.common.service import Task
from libs.common.tasks import perform
from libs.contracts.catalog import HallStatus, ItemStatus, MissedPolicy, SlotStatus
from services.booking import tasks
from tests.booking.builders import NAME, Place, a_slot, booked, checked_in, my_join, recorded, user_id
from tests.catalog.builders import a_day, a_hall, an_item
from tests.notify.builders import stats_of
from tests.world import World

RUNNING: dict[str, Any] = {"starts_in": timedelta(hours=-1), "lasts": timedelta(hours=2)}


def note_misses(world: World) -> Any:
    runtime = world.runtimes["booking"]
    task: Task = next(task for task in runtime.service.tasks if task.name == "booking.mark_missed")
    return perform(runtime, task)


def end(place: Place, ahead: timedelta) -> None:
    """Let the slot end this long from now."""
    place.change_slot(ends_at=datetime.now(UTC) + ahead)


def missed_in_stats(world: World) -> int:
    world.settle()
    missed: int = stats_of(world)["total"]["missed"]
    return missed


def test_a_slot_whose_end_moves_ahead_expects_again_who_was_missed(world: World) -> None:
    place = a_slot(world, party_max=2, **RUNNING)
    user = world.user("wang")
    absent, present = booked(world, user, place.slot_id, "张三", "李四")
    checked_in(world, present["id"])
    end(place, -timedelta(minutes=1))
    noted = note_misses(world)
    before = missed_in_stats(world)

    end(place, timedelta(hours=1))

    assert (noted, before, missed_in_stats(world)) == (1, 1, 0)
    assert [event.subject for event in recorded(world, "join.expected")] == [absent["id"]]
    assert my_join(world, user, absent["id"])["missed"] is False
    end(place, -timedelta(minutes=1))
    assert (note_misses(world), missed_in_stats(world)) == (1, 1)


def test_a_slot_that_stays_over_takes_no_miss_back(world: World) -> None:
    place = a_slot(world, **RUNNING)
    booked(world, world.user("wang"), place.slot_id)
    end(place, -timedelta(minutes=10))
    note_misses(world)

    end(place, -timedelta(minutes=5))

    assert recorded(world, "join.expected") == []
    assert missed_in_stats(world) == 1


def test_what_nobody_noted_for_days_is_noted_once_when_workers_are_back(world: World) -> None:
    places = [a_slot(world, **RUNNING) for _ in range(2)]
    wang = world.user("wang")
    joins = [booked(world, wang, place.slot_id)[0]["id"] for place in places]

    with time_machine.travel(datetime.now(UTC) + timedelta(days=5)):
        noted = [note_misses(world) for _ in range(3)]

    assert noted == [2, 0, 0]
    assert sorted(event.subject for event in recorded(world, "join.missed")) == sorted(joins)


def test_a_slot_that_moves_ahead_before_its_end_is_missed_by_its_new_end(world: World) -> None:
    place = a_slot(world, **RUNNING)
    booked(world, world.user("wang"), place.slot_id)

    end(place, timedelta(hours=3))

    noted = []
    for hours in (2, 4):
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
            noted.append(note_misses(world))
    assert noted == [0, 1]


def test_workers_beside_each_other_note_everybody_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BATCH", 3)
    places = [a_slot(world, party_max=5, **RUNNING) for _ in range(4)]
    wang = world.user("wang")
    joins = [join["id"] for place in places for join in booked(world, wang, place.slot_id, *["张三"] * 5)]
    for place in places:
        end(place, -timedelta(minutes=1))
    barrier, failures = threading.Barrier(4), []

    def work() -> None:
        barrier.wait()
        try:
            note_misses(world)
        except BaseException as error:  # noqa: BLE001  # told on the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    note_misses(world)  # who found everything in the hands of others leaves it to the next minute

    assert failures == []
    assert sorted(event.subject for event in recorded(world, "join.missed")) == sorted(joins)


@pytest.mark.parametrize(
    ("zone", "on", "start", "end", "over_at"),
    [
        ("Europe/Berlin", date(2027, 3, 28), "01:00", "04:00", datetime(2027, 3, 28, 2, tzinfo=UTC)),  # 2 hours
        ("Europe/Berlin", date(2027, 10, 31), "01:00", "04:00", datetime(2027, 10, 31, 3, tzinfo=UTC)),  # 4 hours
        ("America/New_York", date(2027, 11, 6), "22:00", "23:59", datetime(2027, 11, 7, 3, 59, tzinfo=UTC)),
    ],
)
def test_a_slot_is_over_by_the_clock_of_its_hall(
    world: World, zone: str, on: date, start: str, end: str, over_at: datetime
) -> None:
    with time_machine.travel(over_at - timedelta(days=7)):
        item = an_item(world, a_hall(world, timezone=zone), form=[NAME.model_dump(mode="json")])
        [slot] = a_day(world, item, on, {"start": start, "end": end, "capacity": 1})["slots"]
        world.settle()
        booked(world, world.user("wang"), slot["id"])
    noted = []

    for minutes in (-1, 1):
        with time_machine.travel(over_at + timedelta(minutes=minutes)):
            noted.append(note_misses(world))

    assert noted == [0, 1]


def close(place: Place, part: str) -> None:
    {
        "slot": lambda: place.change_slot(status=SlotStatus.CLOSED),
        "item": lambda: place.change_item(status=ItemStatus.CLOSED),
        "hall": lambda: place.change_hall(status=HallStatus.CLOSED),
    }[part]()


def open_again(place: Place) -> None:
    place.change_slot(status=SlotStatus.OPEN)
    place.change_item(status=ItemStatus.OPEN)
    place.change_hall(status=HallStatus.OPEN)


@pytest.mark.parametrize("part", ["slot", "item", "hall"])
def test_nobody_misses_what_was_closed_whatever_is_opened_later(world: World, part: str) -> None:
    place = a_slot(world, **RUNNING)
    place.change_hall(missed_policy=MissedPolicy(missed=1, within_days=30, pause_days=14))
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    close(place, part)
    end(place, -timedelta(minutes=1))

    noted = [note_misses(world), note_misses(world)]
    open_again(place)
    noted.append(note_misses(world))

    assert noted == [1, 0, 0]
    assert recorded(world, "join.missed") == []
    assert (missed_in_stats(world), my_join(world, user, join["id"])["missed"]) == (0, False)
    for missed, found in (("true", 0), ("false", 1)):
        query = {"missed": missed, "user_id": user_id(world, user)}
        page = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff()).json()
        assert len(page["items"]) == found, missed
    standing = world.client.get("/api/booking/me/standing", headers=user).json()["items"]
    assert [(one["missed"], one["cooling_off_until"]) for one in standing] == [(0, None)]


def test_a_stopped_item_is_missed_as_any(world: World) -> None:
    place = a_slot(world, **RUNNING)
    booked(world, world.user("wang"), place.slot_id)
    place.change_item(status=ItemStatus.STOPPED)
    end(place, -timedelta(minutes=1))

    assert (note_misses(world), missed_in_stats(world)) == (1, 1)


def test_who_was_excused_is_expected_again_where_the_end_moves_ahead(world: World) -> None:
    place = a_slot(world, **RUNNING)
    booked(world, world.user("wang"), place.slot_id)
    close(place, "slot")
    end(place, -timedelta(minutes=1))
    note_misses(world)

    place.change_slot(status=SlotStatus.OPEN, ends_at=datetime.now(UTC) + timedelta(hours=1))
    end(place, -timedelta(minutes=1))

    assert (note_misses(world), missed_in_stats(world)) == (1, 1)
