"""What ends a wait."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from sqlalchemy import event

from libs.contracts.catalog import HallStatus, ItemStatus, SlotStatus
from services.booking import line_policy
from services.booking.lines import serve
from tests.booking.builders import book, cancel, code_of, my_joins, recorded, revoke, stock, user_id
from tests.booking.waiting import a_full_slot, ask_to_wait, endings, my_wait, outcome, served, waiting
from tests.world import World


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


def test_nothing_is_taken_that_could_not_be_given_back(world: World) -> None:
    place, _, [join, other] = a_full_slot(world, people=2, cancel="before_start", cancel_minutes_before=120)
    users = [world.user("wang"), world.user("li")]
    waits = [waiting(world, user, place.slot_id) for user in users]
    ends = place.slot.starts_at - timedelta(minutes=120)

    with time_machine.travel(ends - timedelta(minutes=10), tick=True):
        revoke(world, join["id"])
        served(world)
        [taken] = my_joins(world, users[0])["items"]
        assert cancel(world, users[0], taken["id"]).status_code == 200, "in time, what was taken can be given back"
        assert outcome(world, users[1], waits[1]["id"]) == "booked"
    late = waiting(world, users[0], place.slot_id)
    with time_machine.travel(ends, tick=True):
        assert code_of(ask_to_wait(world, world.user("zhao"), place.slot_id)) == (409, "waiting_off")
        revoke(world, other["id"])

        assert outcome(world, users[0], late["id"]) == "closed"
        assert book(world, world.user("zhao"), place.slot_id).status_code == 201, "who asks for it may still have it"


def test_where_nothing_is_ever_given_back_places_are_taken_until_the_start(world: World) -> None:
    place, _, [join] = a_full_slot(world, cancel="never")
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id)

    with time_machine.travel(place.slot.starts_at - timedelta(minutes=10), tick=True):
        revoke(world, join["id"])

        assert outcome(world, user, wait["id"]) == "booked"


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

    with time_machine.travel(place.slot.starts_at - line_policy.LAST_CALL, tick=True):
        assert [outcome(world, user, wait["id"]) for user, wait in zip(users, waits, strict=True)] == ["closed"] * 2
        assert stock(world, place.slot_id) | {"waiting": 0, "remaining": 1} == stock(world, place.slot_id)
        assert book(world, world.user("late"), place.slot_id).status_code == 201


def test_a_line_of_parties_for_which_the_slot_has_become_too_small_makes_way(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=3)
    user = world.user("trio")
    wait = waiting(world, user, place.slot_id, people=3)

    place.change_slot(capacity=2)
    assert outcome(world, user, wait["id"]) is None  # nothing is free

    for join in joins[:2]:
        cancel(world, owner, join["id"])
    assert outcome(world, user, wait["id"]) == "closed"
    assert book(world, world.user("newcomer"), place.slot_id).status_code == 201


def test_at_the_last_call_people_wait_on_where_nothing_is_free(world: World) -> None:
    place, _, _ = a_full_slot(world, people=2, closes_before="start")
    user = world.user("wang")
    wait = waiting(world, user, place.slot_id, people=2)

    with time_machine.travel(place.slot.starts_at - line_policy.LAST_CALL, tick=True):
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
