"""Places that become free, offered to the first in line."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.catalog import MissedPolicy
from tests.booking.at_the_counter import outcomes, redis_of
from tests.booking.builders import (
    NAME,
    ZONE,
    Headers,
    Place,
    book,
    booked,
    cancel,
    code_of,
    do,
    move,
    my_joins,
    people_booked,
    refused,
    stock,
    user_id,
)
from tests.booking.test_cooling_off import check, miss
from tests.booking.test_groups import booking, codes, settled
from tests.booking.waiting import (
    MAY_HAVE_CARD,
    MOBILE,
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


def _spoil(world: World, place: Place, why: str) -> None:
    """Let answers with the card be unfit to book: the form asks for more, or somebody else has booked the person."""
    if why == "form_invalid":
        place.change_item(form=[NAME, MAY_HAVE_CARD, MOBILE], form_version=3)
    else:
        booked(world, world.user("other"), place.another_slot().slot_id, id_card="11010519491231002X")


ROADS: dict[str, Callable[[World, Headers, Place, str], httpx2.Response]] = {
    "booking": lambda world, user, place, _: book(world, user, place.slot_id),
    "checking": lambda world, user, place, _: check(world, user, place.slot_id),
    "moving": lambda world, user, place, join_id: move(world, user, join_id, place.slot_id),
    "waiting": lambda world, user, place, _: ask_to_wait(world, user, place.slot_id),
}


@pytest.mark.parametrize("road", ROADS)
def test_who_has_an_offer_and_comes_by_another_road_is_told_of_it(world: World, road: str) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer", offer_minutes=30)
    user = world.user("wang")
    [elsewhere] = booked(world, user, place.another_slot().slot_id)
    wait = waiting(world, user, place.slot_id)
    cancel(world, owner, join["id"])
    served(world)
    until = datetime.fromisoformat(my_wait(world, user, wait["id"])["offered_until"])

    told = refused(lambda who: ROADS[road](world, who, place, elsewhere["id"]), user)

    at_the_hall = until.astimezone(ZoneInfo(ZONE)).strftime("%Y-%m-%d %H:%M")
    assert told.kind == (409, "offered_already")
    assert told.params == {"wait_id": wait["id"], "until": at_the_hall}
    assert told.english == f"Places in this time slot are held for you until {at_the_hall}: accept them."
    assert told.chinese == f"该时段已为您保留名额，请在{at_the_hall}前确认候补名额"
    with time_machine.travel(until, tick=True):  # over, and not yet ended by anybody
        full = "waiting_already" if road == "waiting" else "slot_full"
        assert code_of(ROADS[road](world, user, place, elsewhere["id"])) == (409, full)


@pytest.mark.usefixtures("patience")
def test_who_has_an_offer_is_told_of_it_in_a_crowd_too(make_world: Callable[..., World]) -> None:
    world = make_world(crowd=3)
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    user = world.user("wang")
    waiting(world, user, place.slot_id)
    cancel(world, owner, join["id"])
    served(world)
    crowd = [user_id(world, world.user(name)) for name in ("one", "two", "three")]

    def codes_told() -> list[str] | None:
        """Ask twice, as a crowd: the slot has to be seen once. None where the counter has not refused anybody."""
        before = outcomes("full")
        asks = [[booking(who, place) for who in (user_id(world, user), *crowd)] for _ in range(2)]
        results = settled(world, *asks[0], again=asks[1])
        return codes(results) if outcomes("full") > before else None

    assert eventually(codes_told) == ["offered_already", *["slot_full"] * 3]
    redis_of(world).flushall()
    assert eventually(codes_told) == ["offered_already", *["slot_full"] * 3]


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


def test_an_offer_to_who_may_not_book_while_it_stands_goes_to_the_next_at_once(world: World) -> None:
    place, users, waits = _offered_and_then_missed(world, pause_days=14)

    assert code_of(accept(world, users[0], waits[0]["id"])) == (409, "cooling_off")
    served(world)

    mine = my_wait(world, users[0], waits[0]["id"])
    assert (mine["outcome"], mine["code"]) == ("refused", "cooling_off")
    assert my_wait(world, users[1], waits[1]["id"])["offered_until"] is not None
    assert stock(world, place.slot_id)["held"] == 1
    assert endings(world) == {waits[0]["id"]: ["refused"]}


def test_an_offer_stands_that_can_be_accepted_in_time(world: World) -> None:
    noon = datetime.now(ZoneInfo(ZONE)).replace(hour=12)
    with time_machine.travel(noon, tick=True):
        _, users, waits = _offered_and_then_missed(world, pause_days=1)

        refused = accept(world, users[0], waits[0]["id"])
        served(world)

        assert code_of(refused) == (409, "cooling_off")
        until = datetime.fromisoformat(my_wait(world, users[0], waits[0]["id"])["offered_until"])
    again = datetime.fromisoformat(refused.json()["params"]["until"])
    assert noon < again < until
    with time_machine.travel(again, tick=True):
        assert accept(world, world.user("first"), waits[0]["id"]).status_code == 200


def _offered_and_then_missed(world: World, *, pause_days: int) -> tuple[Place, list[Headers], list[dict[str, Any]]]:
    """Return a slot, two users and their waits: the first has an offer of a day, and may not book by what was missed since."""
    place, owner, [join] = a_full_slot(world, waitlist="offer", offer_minutes=60 * 24)
    users = [world.user("first"), world.user("second")]
    waits = [waiting(world, user, place.slot_id) for user in users]
    cancel(world, owner, join["id"])
    served(world)
    place.change_hall(missed_policy=MissedPolicy(missed=1, within_days=30, pause_days=pause_days))
    miss(world, place, users[0], days_ago=1)
    return place, users, waits


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
