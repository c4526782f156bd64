"""Places that become free, taken at once for the first in line."""

from tests.booking.builders import NAME, book, booked, cancel, code_of, my_joins, people_booked, recorded, revoke, stock
from tests.booking.waiting import MAY_HAVE_CARD, MOBILE, a_full_slot, ask_to_wait, my_wait, outcome, served, waiting
from tests.world import World


def test_a_freed_place_is_taken_for_the_first_in_line(world: World) -> None:
    place, owner, [join] = a_full_slot(world)
    first, second = world.user("first"), world.user("second")
    waits = [waiting(world, user, place.slot_id) for user in (first, second)]

    assert cancel(world, owner, join["id"]).status_code == 200
    served(world)

    [got] = my_joins(world, first)["items"]
    assert (got["status"], got["answers"], got["slot"]["id"]) == ("booked", {"name": "张三"}, place.slot_id)
    mine = my_wait(world, first, waits[0]["id"])
    assert (mine["outcome"], mine["party_id"], mine["attendees"]) == ("booked", got["party_id"], [])
    assert my_wait(world, second, waits[1]["id"])["place"] == 1
    assert stock(world, place.slot_id) | {"taken": 1, "held": 0, "waiting": 1} == stock(world, place.slot_id)
    [fact] = [one for one in recorded(world, "join.booked") if one.data["join_id"] == got["id"]]
    assert fact.data["slot"] | {"taken": 1, "waiting": 1} == fact.data["slot"]


def test_a_party_is_booked_whole_with_what_each_attendee_answered(world: World) -> None:
    place, _, joins = a_full_slot(world, people=2)
    place.change_item(form=[NAME, MOBILE], form_version=2)
    user = world.user("wang")
    waiting(world, user, place.slot_id, people=2, mobile="13800138000")

    for join in joins:
        assert revoke(world, join["id"]).status_code == 200
    served(world)

    got = my_joins(world, user)["items"]
    assert len({join["party_id"] for join in got}) == 1
    assert [join["answers"] for join in got] == [{"name": "张三", "mobile": "13800138000"}] * 2


def test_a_newcomer_never_gets_what_the_line_waits_for(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=2)
    waiting(world, world.user("first"), place.slot_id, people=2)
    elsewhere = place.another_slot()
    [other] = booked(world, world.user("mover"), elsewhere.slot_id)

    cancel(world, owner, joins[0]["id"])
    served(world)

    assert stock(world, place.slot_id)["taken"] == 1, "one is free, and kept for the party of two"
    assert code_of(book(world, world.user("quick"), place.slot_id)) == (409, "slot_full")
    check = world.client.post(f"/api/booking/slots/{place.slot_id}/check", json={"people": 1}, headers=world.user("q"))
    assert code_of(check) == (409, "slot_full")
    moving = world.client.post(
        f"/api/booking/joins/{other['id']}/move", json={"slot_id": place.slot_id}, headers=world.user("mover")
    )
    assert code_of(moving) == (409, "slot_full")
    revoke(world, joins[1]["id"])
    restoring = world.client.post(f"/api/booking/staff/joins/{joins[1]['id']}/restore", headers=world.staff())
    assert code_of(restoring) == (409, "slot_full")
    served(world)
    assert people_booked(world, place.slot_id) == 2


def test_moving_away_and_a_larger_capacity_serve_the_line(world: World) -> None:
    place, owner, [join] = a_full_slot(world)
    users = [world.user(name) for name in ("first", "second", "third")]
    waits = [waiting(world, user, place.slot_id) for user in users]

    target = {"slot_id": place.another_slot().slot_id}
    assert world.client.post(f"/api/booking/joins/{join['id']}/move", json=target, headers=owner).status_code == 200
    served(world)
    place.change_slot(capacity=2)

    assert [outcome(world, user, wait["id"]) for user, wait in zip(users, waits, strict=True)] == [
        "booked",
        "booked",
        None,
    ]
    place.change_slot(capacity=None)
    assert outcome(world, users[2], waits[2]["id"]) == "booked"


def test_who_may_not_have_the_place_any_more_makes_way(world: World) -> None:
    place, owner, [join] = a_full_slot(world, max_ahead=1)
    busy, next_one = world.user("busy"), world.user("next")
    waits = [waiting(world, user, place.slot_id) for user in (busy, next_one)]
    booked(world, busy, place.another_slot().slot_id)

    cancel(world, owner, join["id"])

    assert outcome(world, busy, waits[0]["id"]) == "refused"
    assert my_wait(world, busy, waits[0]["id"])["code"] == "already_joined"
    assert my_wait(world, next_one, waits[1]["id"])["outcome"] == "booked"


def test_a_person_who_was_booked_meanwhile_is_not_booked_twice(world: World) -> None:
    place, owner, [join] = a_full_slot(world)
    place.change_item(form=[NAME, MAY_HAVE_CARD])
    one, other = world.user("one"), world.user("other")
    wait = waiting(world, one, place.slot_id, id_card="11010519491231002X")
    booked(world, other, place.another_slot().slot_id, id_card="11010519491231002X")
    assert code_of(ask_to_wait(world, world.user("third"), place.slot_id, id_card="11010519491231002X")) == (
        409,
        "person_already_joined",
    )

    cancel(world, owner, join["id"])

    assert outcome(world, one, wait["id"]) == "refused"
    assert my_wait(world, one, wait["id"])["code"] == "person_already_joined"
    assert stock(world, place.slot_id)["remaining"] == 1
