"""Who may wait for a full slot."""

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, SlotStatus
from tests.booking.builders import NAME, a_slot, book, booked, cancel, code_of, refused, stock
from tests.booking.waiting import a_full_slot, ask_to_wait, leave, outcome, served, waiting
from tests.world import World


def test_a_full_slot_can_be_waited_for_in_order(world: World) -> None:
    place, _, _ = a_full_slot(world, people=2)
    first, second = world.user("first"), world.user("second")

    waits = [waiting(world, first, place.slot_id), waiting(world, second, place.slot_id, people=2)]

    assert [wait["place"] for wait in waits] == [1, 2]
    assert [wait["people"] for wait in waits] == [1, 2]
    assert waits[0]["attendees"] == [{"name": "张三"}]
    assert stock(world, place.slot_id) | {"waiting": 3, "held": 0, "remaining": 0} == stock(world, place.slot_id)


def test_only_a_full_slot_can_be_waited_for(world: World) -> None:
    place = a_slot(world, capacity=1, waitlist="take")

    assert refused(lambda who: ask_to_wait(world, who, place.slot_id), world.user("wang")).kind == (
        409,
        "slot_not_full",
    )


def test_a_party_larger_than_what_is_left_begins_no_line(world: World) -> None:
    place = a_slot(world, capacity=3, party_max=3, waitlist="take")
    booked(world, world.user("owner"), place.slot_id)

    answer = ask_to_wait(world, world.user("three"), place.slot_id, people=3)

    assert (*code_of(answer), answer.json()["params"]["left"]) == (409, "slot_full", 2)
    booked(world, world.user("newcomer"), place.slot_id, "张三", "李四")
    waiting(world, world.user("three"), place.slot_id, people=3)


def test_nobody_waits_where_the_item_does_not_say_so(world: World) -> None:
    place, _, _ = a_full_slot(world, waitlist="off")

    assert refused(lambda who: ask_to_wait(world, who, place.slot_id), world.user("wang")).kind == (409, "waiting_off")


def test_nobody_waits_with_a_form_that_asks_for_files(world: World) -> None:
    place, _, _ = a_full_slot(world)
    place.change_item(form=[NAME, FormField(key="photo", type=FieldType.IMAGE, label="照片", required=False)])

    assert code_of(ask_to_wait(world, world.user("wang"), place.slot_id)) == (409, "waiting_off")


def test_the_rules_of_booking_hold_for_who_waits(world: World) -> None:
    place, owner, _ = a_full_slot(world, people=2, max_per_slot=2, party_max=2)
    user = world.user("wang")

    assert code_of(ask_to_wait(world, user, new_id())) == (404, "slot_not_found")
    assert code_of(ask_to_wait(world, user, place.slot_id, people=3)) == (422, "party_too_large")
    assert code_of(ask_to_wait(world, owner, place.slot_id)) == (409, "already_joined")
    assert code_of(ask_to_wait(world, user, place.slot_id, colour="red")) == (422, "form_invalid")
    place.change_slot(status=SlotStatus.CLOSED)
    assert code_of(ask_to_wait(world, user, place.slot_id)) == (409, "slot_closed")


def test_a_party_larger_than_the_slot_can_never_be_served(world: World) -> None:
    place, _, _ = a_full_slot(world, people=2)

    answer = ask_to_wait(world, world.user("wang"), place.slot_id, people=3)

    assert (*code_of(answer), answer.json()["params"]["party_max"]) == (422, "party_too_large", 2)


def test_a_user_waits_once_for_a_slot_and_the_line_has_an_end(world: World) -> None:
    place, _, _ = a_full_slot(world, max_waiting=1)
    user = world.user("wang")
    waiting(world, user, place.slot_id)

    assert refused(lambda who: ask_to_wait(world, who, place.slot_id), user).kind == (409, "waiting_already")
    assert refused(lambda who: ask_to_wait(world, who, place.slot_id), world.user("li")).kind == (409, "line_full")


def test_a_full_line_keeps_nobody_from_a_place_that_it_can_not_use(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=2, max_waiting=1)
    waiting(world, world.user("pair"), place.slot_id, people=2)
    assert code_of(ask_to_wait(world, world.user("early"), place.slot_id)) == (409, "line_full")
    cancel(world, owner, joins[0]["id"])
    served(world)
    user = world.user("late")

    assert code_of(book(world, user, place.slot_id)) == (409, "slot_full")
    wait = waiting(world, user, place.slot_id)

    assert outcome(world, user, wait["id"]) == "booked"
    assert code_of(ask_to_wait(world, world.user("later"), place.slot_id)) == (409, "line_full")


def test_one_key_makes_one_wait(world: World) -> None:
    place, _, _ = a_full_slot(world)
    user = world.user("wang")
    one = ask_to_wait(world, user, place.slot_id, key="k")

    again = ask_to_wait(world, user, place.slot_id, key="k")

    assert (again.status_code, again.json()) == (201, one.json())
    assert code_of(ask_to_wait(world, user, place.slot_id, people=2, key="k")) == (409, "idempotency_key_reused")
    assert code_of(book(world, user, place.slot_id, key="k")) == (409, "idempotency_key_reused")
    assert stock(world, place.slot_id)["waiting"] == 1
    leave(world, user, one.json()["id"])
    assert ask_to_wait(world, user, place.slot_id, key="k").json()["outcome"] == "left"
    assert stock(world, place.slot_id)["waiting"] == 0
