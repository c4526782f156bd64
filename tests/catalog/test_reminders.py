"""When an item's users are reminded, and when those of a hall are not to be disturbed: as staff say, as others hear."""

from typing import Any

from tests.catalog.builders import STAFF, a_hall, an_item, published, refused, shown
from tests.world import World

DAY = 24 * 60


def edit(world: World, kind: str, one: Any, **fields: Any) -> Any:
    return shown(world.client.patch(f"{STAFF}/{kind}/{one['id']}", json=fields, headers=world.staff()))


def test_an_item_reminds_a_day_and_an_hour_before_where_nobody_says_otherwise(world: World) -> None:
    item = an_item(world, a_hall(world))

    assert item["reminders"] == [DAY, 60]
    assert [fact["reminders"] for fact in published(world, "item.changed", item["id"])] == [[DAY, 60]]


def test_an_item_reminds_as_staff_say_and_the_others_hear_of_it(world: World) -> None:
    item = an_item(world, a_hall(world), reminders=[30, 2 * DAY])

    changed = edit(world, "items", item, reminders=[])

    assert (item["reminders"], changed["reminders"]) == ([2 * DAY, 30], [])
    assert [fact["reminders"] for fact in published(world, "item.changed", item["id"])] == [[2 * DAY, 30], []]


def test_reminders_that_make_no_sense_are_refused(world: World) -> None:
    hall = a_hall(world)
    senseless: list[Any] = [[60, 60], [4], [30 * DAY + 1], [10, 20, 30, 40], ["60"], [1.5], None]

    for reminders in senseless:
        body = {"hall_id": hall["id"], "title": "换证", "reminders": reminders}
        refused(world.client.post(f"{STAFF}/items", json=body, headers=world.staff()), 422, "invalid")


def test_the_quiet_hours_of_a_hall_are_none_unless_staff_set_them(world: World) -> None:
    hall = a_hall(world)

    changed = edit(world, "halls", hall, quiet_hours={"start": "22:00", "end": "07:30"})
    again = edit(world, "halls", hall, quiet_hours={"start": "22:00", "end": "07:30"})
    lifted = edit(world, "halls", hall, quiet_hours=None)

    assert (hall["quiet_hours"], lifted["quiet_hours"]) == (None, None)
    assert changed["quiet_hours"] == again["quiet_hours"] == {"start": "22:00", "end": "07:30"}
    assert [fact["quiet_hours"] for fact in published(world, "hall.changed", hall["id"])] == [
        None,
        {"start": "22:00", "end": "07:30"},
        None,
    ]


def test_quiet_hours_that_make_no_sense_are_refused(world: World) -> None:
    senseless: list[Any] = [
        {"start": "22:00"},
        {"start": "22:00", "end": "22:00"},
        {"start": "24:00", "end": "07:00"},
        "22:00-07:00",
    ]

    for quiet in senseless:
        body = {"name": "新厅", "quiet_hours": quiet}
        refused(world.client.post(f"{STAFF}/halls", json=body, headers=world.staff()), 422, "invalid")
