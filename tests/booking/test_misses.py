"""Who did not come: noted when the slot is over, and taken back where its end moves ahead."""

from datetime import UTC, datetime, timedelta
from typing import Any

from libs.common.service import Task
from libs.common.tasks import perform
from tests.booking.builders import Place, a_slot, booked, checked_in, my_join, recorded
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
