"""Waiting for a full slot: who may, who is served, and what ends it."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from prometheus_client import REGISTRY
from sqlalchemy import event

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, HallStatus, ItemStatus, SlotStatus
from libs.contracts.principals import Role
from services.booking import joins, line
from services.booking.line import Waiting, next_served
from services.booking.waits import serve
from tests.booking.builders import (
    NAME,
    Place,
    a_slot,
    book,
    booked,
    cancel,
    code_of,
    do,
    my_joins,
    people_booked,
    recorded,
    refused,
    revoke,
    stock,
    user_id,
)
from tests.booking.waiting import (
    a_full_slot,
    accept,
    ask_to_wait,
    endings,
    leave,
    my_wait,
    outcome,
    served,
    waiting,
    waits_of,
)
from tests.world import World, eventually

MOBILE = FormField(key="mobile", type=FieldType.MOBILE, label="手机")
CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="item")
MAY_HAVE_CARD = CARD.model_copy(update={"required": False})


# --- who may wait ---


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


# --- places taken at once ---


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


# --- places offered ---


def test_an_offer_holds_the_places_until_it_is_accepted(world: World) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)
    assert code_of(accept(world, user, wait["id"])) == (409, "nothing_offered")

    cancel(world, owner, join["id"])
    served(world)

    offered = my_wait(world, user, wait["id"])
    assert (offered["place"], offered["outcome"]) == (None, None)
    assert datetime.fromisoformat(offered["offered_until"]) > datetime.now(UTC)
    found = stock(world, place.slot_id)
    assert (found["taken"], found["held"], found["waiting"], found["remaining"]) == (0, 1, 0, 0)
    assert code_of(book(world, world.user("quick"), place.slot_id)) == (409, "slot_full")
    answer = accept(world, user, wait["id"])
    assert answer.status_code == 200, answer.text
    assert accept(world, user, wait["id"]).json() == answer.json()
    found = stock(world, place.slot_id)
    assert (found["taken"], found["held"], people_booked(world, place.slot_id)) == (1, 0, 1)
    assert endings(world)[wait["id"]] == ["booked"]


def test_an_offer_that_is_not_accepted_in_time_goes_to_the_next(world: World) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer", offer_minutes=10)
    users = [world.user("late"), world.user("next")]
    waits = [waiting(world, user, place.slot_id) for user in users]
    cancel(world, owner, join["id"])
    served(world)

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=11), tick=True):
        late = accept(world, users[0], waits[0]["id"])
        served(world)

        assert code_of(late) == (409, "wait_over")
        assert my_wait(world, users[0], waits[0]["id"])["outcome"] == "expired"
        assert accept(world, users[1], waits[1]["id"]).status_code == 200
    assert code_of(accept(world, users[0], waits[0]["id"])) == (409, "wait_over")


def test_nobody_holds_offers_of_more_than_they_may_book(world: World) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer", max_ahead=1)
    other = place.another_slot(capacity=1)
    other_owner = world.user("other owner")
    [other_join] = booked(world, other_owner, other.slot_id)
    greedy, next_one = world.user("greedy"), world.user("next")
    here = waiting(world, greedy, place.slot_id)
    there = waiting(world, greedy, other.slot_id)
    next_wait = waiting(world, next_one, other.slot_id)

    cancel(world, owner, join["id"])
    served(world)
    cancel(world, other_owner, other_join["id"])
    served(world)

    assert my_wait(world, greedy, here["id"])["offered_until"] is not None
    ended = my_wait(world, greedy, there["id"])
    assert (ended["outcome"], ended["code"]) == ("refused", "already_joined")
    assert my_wait(world, next_one, next_wait["id"])["offered_until"] is not None
    assert accept(world, greedy, here["id"]).status_code == 200


@pytest.mark.parametrize("why", ["form_invalid", "person_already_joined"])
def test_nothing_is_offered_to_who_could_not_accept_it(world: World, why: str) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    place.change_item(form=[NAME, MAY_HAVE_CARD], form_version=2)
    users = [world.user("first"), world.user("second")]
    waits = [waiting(world, users[0], place.slot_id, id_card="11010519491231002X")]
    waits += [waiting(world, users[1], place.slot_id, id_card="110101199003074514")]

    _spoil(world, place, why)
    cancel(world, owner, join["id"])

    assert outcome(world, users[0], waits[0]["id"]) == "refused"
    assert my_wait(world, users[0], waits[0]["id"])["code"] == why
    assert (my_wait(world, users[1], waits[1]["id"])["offered_until"] is not None) == (why == "person_already_joined")


@pytest.mark.parametrize("why", ["form_invalid", "person_already_joined"])
def test_an_offer_that_turns_out_unfit_goes_to_the_next_at_once(world: World, why: str) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    place.change_item(form=[NAME, MAY_HAVE_CARD], form_version=2)
    user = world.user("first")
    wait = waiting(world, user, place.slot_id, id_card="11010519491231002X")
    cancel(world, owner, join["id"])
    served(world)

    _spoil(world, place, why)

    assert accept(world, user, wait["id"]).json()["code"] == why
    mine = my_wait(world, user, wait["id"])
    assert (mine["outcome"], mine["code"]) == ("refused", why)
    assert stock(world, place.slot_id) | {"held": 0, "remaining": 1} == stock(world, place.slot_id)
    assert code_of(accept(world, user, wait["id"])) == (409, "wait_over")
    assert endings(world)[wait["id"]] == ["refused"]


def _spoil(world: World, place: Place, why: str) -> None:
    """Let answers with the card be unfit to book: the form asks for more, or somebody else has booked the person."""
    if why == "form_invalid":
        place.change_item(form=[NAME, MAY_HAVE_CARD, MOBILE], form_version=3)
    else:
        booked(world, world.user("other"), place.another_slot().slot_id, id_card="11010519491231002X")


def test_what_is_held_is_left_by_a_smaller_capacity_until_it_is_free(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=2, waitlist="offer")
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)
    cancel(world, owner, joins[0]["id"])
    served(world)

    place.change_slot(capacity=0)

    found = stock(world, place.slot_id)
    assert (found["taken"], found["held"], found["asked"], found["capacity"]) == (1, 1, 0, 2)
    leave(world, user, wait["id"])
    assert stock(world, place.slot_id)["capacity"] == 1


def test_leaving_passes_the_offer_on_and_can_be_repeated(world: World) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    users = [world.user("first"), world.user("second")]
    waits = [waiting(world, user, place.slot_id) for user in users]
    cancel(world, owner, join["id"])
    served(world)

    answers = [leave(world, users[0], waits[0]["id"]) for _ in range(2)]
    served(world)

    assert [(answer.status_code, answer.json()["outcome"]) for answer in answers] == [(200, "left")] * 2
    assert my_wait(world, users[1], waits[1]["id"])["offered_until"] is not None
    assert code_of(leave(world, users[1], waits[0]["id"])) == (404, "wait_not_found")
    assert accept(world, users[1], waits[1]["id"]).status_code == 200
    assert code_of(leave(world, users[1], waits[1]["id"])) == (409, "wait_over")
    assert endings(world)[waits[0]["id"]] == ["left"]


def offers_that_run_out(world: World) -> list[tuple[str, str, str]]:
    """Return, of two lines in the order in which they are served, the slot, the user with an offer and the wait behind it."""
    found = []
    for _ in range(2):
        place, owner, [join] = a_full_slot(world, waitlist="offer", offer_minutes=10)
        holder, behind = world.user(new_id()), world.user(new_id())
        waiting(world, holder, place.slot_id)
        waiting(world, behind, place.slot_id)
        cancel(world, owner, join["id"])
        found.append((place.slot_id, user_id(world, holder), waits_of(world, place.slot_id)[1]["id"]))
    served(world)
    return sorted(found)


def test_a_user_who_is_busy_elsewhere_holds_up_no_other_line(world: World) -> None:
    [(_, busy, _), (slot_id, _, behind)] = offers_that_run_out(world)

    with world.runtimes["booking"].db.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT FROM users WHERE id = '{busy}' FOR UPDATE")
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=11), tick=True):
            do(world, "serve_lines")

            eventually(lambda: [one["id"] for one in waits_of(world, slot_id) if one["offered_until"]] == [behind])


def test_what_is_freed_while_a_process_ends_is_left_to_the_task(world: World) -> None:
    place, owner, [join] = a_full_slot(world)
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)
    world.runtimes["booking"].resources.steward.close()

    assert cancel(world, owner, join["id"]).status_code == 200

    assert outcome(world, user, wait["id"]) == "booked"


def test_a_line_that_can_not_be_served_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = world.runtimes["booking"]
    monkeypatch.setattr(booking.resources.steward, "serve", lambda slot_id: None)  # all is left to the task
    lines = sorted((a_full_slot(world) for _ in range(2)), key=lambda made: made[0].slot_id)
    users = [world.user("first"), world.user("second")]
    for (place, owner, [join]), user in zip(lines, users, strict=True):
        waiting(world, user, place.slot_id)
        cancel(world, owner, join["id"])
    with booking.db.engine.begin() as connection:
        slot_id = lines[0][0].slot_id
        connection.exec_driver_sql(f"UPDATE waits SET sealed = 'unreadable' WHERE slot_id = '{slot_id}'")

    with pytest.raises(ExceptionGroup, match="lines were not served"):
        do(world, "serve_lines")

    assert [len(my_joins(world, user)["items"]) for user in users] == [0, 1]


# --- what ends a wait ---


@pytest.mark.parametrize("waitlist", ["offer", "take"])
@pytest.mark.parametrize("what", ["slot", "item", "hall", "deleted", "waitlist"])
def test_who_waits_is_told_when_it_can_not_be_booked_any_more(world: World, what: str, waitlist: str) -> None:
    place, _, _ = a_full_slot(world, waitlist=waitlist)
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)

    if what == "slot":
        place.change_slot(status=SlotStatus.CLOSED)
    elif what == "item":
        place.change_item(status=ItemStatus.STOPPED)
    elif what == "hall":
        place.change_hall(status=HallStatus.CLOSED)
    elif what == "deleted":
        place.change_slot(deleted=True)
    else:
        place.change_item(rules=place.item.rules.model_copy(update={"waitlist": "off"}))

    assert outcome(world, user, wait["id"]) == "closed"
    assert stock(world, place.slot_id)["waiting"] == 0


@pytest.mark.parametrize("waitlist", ["offer", "take"])
def test_nobody_is_booked_for_a_time_that_they_did_not_wait_for(world: World, waitlist: str) -> None:
    place, owner, joins = a_full_slot(world, people=2, waitlist=waitlist)
    first, second = world.user("first"), world.user("second")
    waits = [waiting(world, first, place.slot_id), waiting(world, second, place.slot_id)]
    cancel(world, owner, joins[0]["id"])
    served(world)
    slot = place.slot

    place.change_slot(starts_at=slot.starts_at + timedelta(hours=3), ends_at=slot.ends_at + timedelta(hours=3))
    cancel(world, owner, joins[1]["id"])

    served(world)
    found = [my_wait(world, user, wait["id"])["outcome"] for user, wait in zip((first, second), waits, strict=True)]
    assert found == ["closed" if waitlist == "offer" else "booked", "closed"]
    ended = [event.data for event in recorded(world, "wait.ended") if event.data["outcome"] == "closed"]
    assert {datetime.fromisoformat(one["starts_at"]) for one in ended} == {slot.starts_at}, "told by the time they knew"
    stays = stock(world, place.slot_id)
    assert (stays["held"], stays["waiting"], stays["remaining"]) == (0, 0, 2 if waitlist == "offer" else 1)


def test_a_line_stays_where_only_the_end_or_the_capacity_changes(world: World) -> None:
    place, _, _ = a_full_slot(world)
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)

    place.change_slot(ends_at=place.slot.ends_at + timedelta(hours=1))

    assert outcome(world, user, wait["id"]) is None


def test_nobody_waits_beyond_the_close_of_booking(world: World) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer", closes_before="start", offer_minutes=60 * 24)
    users = [world.user("first"), world.user("second")]
    waits = [waiting(world, user, place.slot_id) for user in users]
    cancel(world, owner, join["id"])
    served(world)
    until = datetime.fromisoformat(my_wait(world, users[0], waits[0]["id"])["offered_until"])

    with time_machine.travel(place.slot.starts_at, tick=True):
        served(world)

    assert until == place.slot.starts_at
    assert [my_wait(world, user, wait["id"])["outcome"] for user, wait in zip(users, waits, strict=True)] == [
        "closed",
        "closed",
    ]
    found = stock(world, place.slot_id)
    assert (found["held"], found["waiting"]) == (0, 0)


def test_a_long_line_ends_in_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at the whole line for each of its waits took the square of its length."""
    place, _, _ = a_full_slot(world)
    users = [world.user(f"user {number}") for number in range(5)]
    waits = [waiting(world, user, place.slot_id) for user in users]
    booking = world.runtimes["booking"]
    monkeypatch.setattr(booking.resources.steward, "serve", lambda slot_id: None)
    statements: list[str] = []
    place.change_slot(status=SlotStatus.CLOSED)
    event.listen(booking.db.engine, "before_cursor_execute", lambda *of: statements.append(of[2]))

    assert serve(booking, place.slot_id, now=datetime.now(UTC)) == 5

    assert sum(" FOR NO KEY UPDATE" in statement for statement in statements) == 1
    assert sum(statement.startswith("UPDATE slots") for statement in statements) == 1
    assert [my_wait(world, user, wait["id"])["outcome"] for user, wait in zip(users, waits, strict=True)] == [
        "closed"
    ] * 5
    assert [endings(world)[wait["id"]] for wait in waits] == [["closed"]] * 5
    assert stock(world, place.slot_id)["waiting"] == 0


def test_nothing_is_taken_in_a_slot_that_has_begun(world: World) -> None:
    place, _, [join] = a_full_slot(world)
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)

    with time_machine.travel(place.slot.starts_at, tick=True):
        user = world.user("wang")
        assert code_of(ask_to_wait(world, world.user("li"), place.slot_id)) == (409, "waiting_off")
        revoke(world, join["id"])

        assert outcome(world, user, wait["id"]) == "closed"
        assert my_joins(world, user)["items"] == []
        assert book(world, world.user("zhao"), place.slot_id).status_code == 201, "who asks for it may still have it"


def test_what_has_begun_is_offered(world: World) -> None:
    place, _, [join] = a_full_slot(world, waitlist="offer")
    wait = waiting(world, world.user("wang"), place.slot_id)

    with time_machine.travel(place.slot.starts_at, tick=True):
        user = world.user("wang")
        revoke(world, join["id"])
        served(world)

        assert my_wait(world, user, wait["id"])["offered_until"] is not None


def test_at_the_last_call_a_line_that_can_not_use_what_is_free_makes_way(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=3, max_waiting=2, closes_before="start")
    users = [world.user("pair"), world.user("trio")]
    waits = [waiting(world, user, place.slot_id, people=people) for user, people in zip(users, (2, 3), strict=True)]
    cancel(world, owner, joins[0]["id"])
    assert [outcome(world, user, wait["id"]) for user, wait in zip(users, waits, strict=True)] == [None, None]

    with time_machine.travel(place.slot.starts_at - line.LAST_CALL, tick=True):
        assert [outcome(world, user, wait["id"]) for user, wait in zip(users, waits, strict=True)] == ["closed"] * 2
        assert stock(world, place.slot_id) | {"waiting": 0, "remaining": 1} == stock(world, place.slot_id)
        assert book(world, world.user("late"), place.slot_id).status_code == 201


def test_at_the_last_call_people_wait_on_where_nothing_is_free(world: World) -> None:
    place, _, _ = a_full_slot(world, people=2, closes_before="start")
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id, people=2)

    with time_machine.travel(place.slot.starts_at - line.LAST_CALL, tick=True):
        assert outcome(world, user, wait["id"]) is None


def test_a_disabled_user_waits_no_more(world: World) -> None:
    place, _, _ = a_full_slot(world)
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)

    change = {"disabled": True, "reason": "多次失约"}
    world.client.patch(f"/api/booking/staff/users/{user_id(world, user)}", json=change, headers=world.staff())

    assert outcome(world, user, wait["id"]) == "disabled"


def test_with_the_user_goes_all_that_they_waited_with(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=2, waitlist="offer")
    other = place.another_slot(capacity=0)
    user = world.user("wang")
    waits = [waiting(world, user, slot) for slot in (place.slot_id, other.slot_id)]
    cancel(world, owner, joins[0]["id"])
    served(world)
    assert len(world.client.get("/api/booking/me/data", headers=user).json()["waits"]) == 2

    assert world.client.delete("/api/booking/me", headers=user).status_code == 204

    found = [stock(world, slot) for slot in (place.slot_id, other.slot_id)]
    assert [(one["held"], one["waiting"]) for one in found] == [(0, 0), (0, 0)]
    assert found[0]["remaining"] == 1
    with world.runtimes["booking"].db.engine.connect() as connection:
        left = connection.exec_driver_sql(
            "SELECT count(*) FROM waits WHERE id::text = ANY(%s)", ([w["id"] for w in waits],)
        )
        assert left.scalar() == 0
    assert [endings(world)[wait["id"]] for wait in waits] == [["erased"], ["erased"]]


# --- staff ---


def test_staff_see_the_line_masked_and_may_remove_somebody_with_a_reason(world: World) -> None:
    place, _, _ = a_full_slot(world)
    place.change_item(form=[NAME, MOBILE], form_version=2)
    users = [world.user("first"), world.user("second")]
    waits = [waiting(world, user, place.slot_id, mobile="13800138000") for user in users]
    staff = world.staff(Role.HALL_ADMIN, [place.hall_id])
    stranger = world.staff(Role.HALL_ADMIN, [new_id()])

    shown = waits_of(world, place.slot_id, staff)

    assert [one["place"] for one in shown] == [1, 2]
    assert shown[0]["attendees"] == [{"name": "张三", "mobile": "138******00"}]
    path, reason = f"/api/booking/staff/waits/{waits[0]['id']}/remove", {"reason": "重复候补"}
    assert world.client.get(f"/api/booking/staff/slots/{place.slot_id}/waits", headers=stranger).status_code == 404
    assert code_of(world.client.post(path, json=reason, headers=stranger)) == (404, "wait_not_found")
    answer = world.client.post(path, json=reason, headers=staff)
    assert (answer.status_code, answer.json()["outcome"], answer.json()["attendees"]) == (200, "removed", [])
    assert my_wait(world, users[0], waits[0]["id"])["reason"] == "重复候补"
    assert code_of(world.client.post(path, json=reason, headers=staff)) == (409, "wait_over")
    assert [one["id"] for one in waits_of(world, place.slot_id)] == [waits[1]["id"]]
    assert recorded(world, "audit.recorded")[-1].data["action"] == "wait.removed"


@pytest.mark.parametrize("what", ["slot", "day"])
def test_revoking_gives_no_place_to_who_waits(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(joins, "AT_ONCE", 1)  # what the line takes after a piece could be revoked with the next
    place, owner, [first, _] = a_full_slot(world, people=2, waitlist="offer")
    booked(world, world.user("other"), place.another_slot().slot_id)
    users = [world.user(new_id()) for _ in range(2)]
    waits = [waiting(world, user, place.slot_id) for user in users]
    cancel(world, owner, first["id"])
    served(world)  # the first has an offer

    if what == "slot":
        path, body = f"slots/{place.slot_id}", {"reason": "设备故障"}
    else:
        path, body = f"days/{place.slot.date}", {"reason": "设备故障", "item_id": place.item.item_id}
    answer = world.client.post(f"/api/booking/staff/{path}/revoke", json=body, headers=world.staff())
    served(world)

    assert answer.is_success, answer.text
    mine = [my_wait(world, user, wait["id"]) for user, wait in zip(users, waits, strict=True)]
    assert [(wait["outcome"], wait["reason"]) for wait in mine] == [("removed", "设备故障")] * 2
    assert [my_joins(world, user)["items"] for user in users] == [[], []]
    assert stock(world, place.slot_id) | {"taken": 0, "held": 0, "waiting": 0} == stock(world, place.slot_id)
    ended = [row.data["after"].get("waits_ended") for row in recorded(world, "audit.recorded")]
    assert 2 in ended


def test_a_line_without_joins_ends_with_its_day(world: World) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)
    cancel(world, owner, join["id"])
    served(world)

    body = {"reason": "设备故障", "hall_id": place.hall_id}
    answer = world.client.post(f"/api/booking/staff/days/{place.slot.date}/revoke", json=body, headers=world.staff())

    assert answer.json() == {"revoked": 0, "kept_checked_in": 0, "not_booked": 0}
    assert my_wait(world, user, wait["id"])["outcome"] == "removed"


def test_who_books_while_a_slot_is_revoked_keeps_the_place(world: World) -> None:
    place, _, _ = a_full_slot(world)
    place.change_slot(capacity=2)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1), tick=True):  # as if it took so long
        [later] = booked(world, world.user("later"), place.slot_id)

    answer = world.client.post(
        f"/api/booking/staff/slots/{place.slot_id}/revoke", json={"reason": "设备故障"}, headers=world.staff()
    )

    assert answer.json() == {"revoked": 1, "kept_checked_in": 0, "not_booked": 0}
    assert my_joins(world, world.user("later"))["items"][0]["id"] == later["id"]
    assert people_booked(world, place.slot_id) == 1


# --- for operators ---


def test_a_metric_says_how_many_people_wait(world: World) -> None:
    place, _, _ = a_full_slot(world, people=2)
    waiting(world, world.user("wang"), place.slot_id, people=2)
    waiting(world, world.user("li"), place.slot_id)

    do(world, "serve_lines")

    assert REGISTRY.get_sample_value("hallpass_waits", {"service": "booking"}) == 3


@pytest.mark.parametrize("number", ["held", "waiting"])
def test_a_slot_whose_line_is_not_what_it_counts_raises_the_alarm(world: World, number: str) -> None:
    place, owner, joins = a_full_slot(world, people=2, waitlist="offer")
    for name in ("wang", "li"):
        waiting(world, world.user(name), place.slot_id)
    cancel(world, owner, joins[0]["id"])
    served(world)
    assert do(world, "reconcile")["diverging"] == 0

    with world.runtimes["booking"].db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE slots SET {number} = {number} - 1 WHERE id = '{place.slot_id}'")

    assert do(world, "reconcile")["diverging"] == 1


def test_ended_waits_are_forgotten_in_time(world: World) -> None:
    place, _, _ = a_full_slot(world)
    user = world.user("wang")
    gone, stays = waiting(world, user, place.slot_id), world.user("li")
    leave(world, user, gone["id"])
    waiting(world, stays, place.slot_id)

    with time_machine.travel(datetime.now(UTC) + timedelta(days=31), tick=True):
        assert do(world, "upkeep")["waits"] == 1

    assert world.client.get("/api/booking/waits", headers=user).json()["items"] == []
    assert stock(world, place.slot_id)["waiting"] == 1


# --- in which order ---


def _party(people: int, passed: int = 0) -> Waiting:
    return Waiting(new_id(), people, passed)


def test_first_come_first_served() -> None:
    first, second = _party(1), _party(1)

    assert next_served([first, second], free=1, asked=5, is_last_call=False) == first
    assert next_served([first, second], free=None, asked=None, is_last_call=False) == first
    assert next_served([first, second], free=0, asked=5, is_last_call=False) is None


def test_a_party_that_does_not_fit_yet_is_passed_some_times_and_no_more() -> None:
    for passed in range(line.MOST_PASSED):
        small = _party(1)
        assert next_served([_party(2, passed), small], free=1, asked=5, is_last_call=False) == small

    kept_for = _party(2, line.MOST_PASSED)
    assert next_served([kept_for, _party(1)], free=1, asked=5, is_last_call=False) is None
    assert next_served([kept_for, _party(1)], free=2, asked=5, is_last_call=False) == kept_for


def test_nothing_is_kept_at_the_last_call_or_for_who_can_never_fit() -> None:
    small = _party(1)

    assert next_served([_party(2, 9), small], free=1, asked=5, is_last_call=True) == small
    assert next_served([_party(6, 9), small], free=1, asked=5, is_last_call=False) == small


def test_a_large_party_is_not_passed_for_ever(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=6)
    large = world.user("large")
    wait = waiting(world, large, place.slot_id, people=2)
    small = [world.user(f"small {number}") for number in range(5)]
    waits = [waiting(world, user, place.slot_id) for user in small]

    for join in joins:
        cancel(world, owner, join["id"])
        served(world)

    outcomes = [my_wait(world, user, one["id"])["outcome"] for user, one in zip(small, waits, strict=True)]
    assert outcomes == ["booked", "booked", "booked", "booked", None]
    assert my_wait(world, large, wait["id"])["outcome"] == "booked"
    order = [fact.data["user_id"] for fact in recorded(world, "join.booked")][6:]
    assert order[3:5] == [user_id(world, large)] * 2
