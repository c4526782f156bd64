"""Slots as catalog defines them: booking follows the newest word, in whatever order and company it comes."""

from datetime import timedelta

from tests.booking.builders import a_slot, booked, stock, tell
from tests.world import World


def test_many_definitions_at_once_end_in_the_newest_of_each_slot(world: World) -> None:
    place = a_slot(world, capacity=5, max_per_slot=9)
    booked(world, world.user("wang"), place.slot_id, "一一")
    known = place.slot
    other = place.another_slot(starts_in=timedelta(days=3), capacity=4)
    fresh = other.model_copy(update={"slot_id": other.slot_id[:-2] + ("00" if other.slot_id[-2:] != "00" else "11")})

    tell(
        world,
        fresh,
        known.model_copy(update={"version": known.version + 2, "capacity": 8}),
        other.model_copy(update={"version": other.version + 1, "deleted": True}),
        known.model_copy(update={"version": known.version + 1, "capacity": 0}),
        fresh.model_copy(update={"version": fresh.version + 1, "capacity": 7}),
        known.model_copy(update={"version": known.version - 1, "capacity": 1}),
    )

    assert (stock(world, known.slot_id)["capacity"], stock(world, known.slot_id)["taken"]) == (8, 1)
    assert stock(world, fresh.slot_id)["capacity"] == 7
    gone = world.client.get(f"/api/booking/slots/{other.slot_id}/form", headers=world.user("wang"))
    assert gone.status_code == 404


def test_what_is_deleted_while_somebody_is_booked_is_closed_in_any_company(world: World) -> None:
    place = a_slot(world, capacity=5)
    booked(world, world.user("wang"), place.slot_id)
    other = place.another_slot(starts_in=timedelta(days=3), capacity=4)

    tell(
        world,
        other.model_copy(update={"version": other.version + 1, "capacity": 6}),
        place.slot.model_copy(update={"version": place.slot.version + 1, "deleted": True}),
    )

    assert stock(world, place.slot_id)["taken"] == 1
    assert stock(world, other.slot_id)["capacity"] == 6
    answer = world.client.get("/api/booking/joins", headers=world.user("wang")).json()
    assert [join["status"] for join in answer["items"]] == ["booked"]
