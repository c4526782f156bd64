"""Moving a join to another slot: whole, or not at all."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, HallStatus, ItemStatus, SlotChanged, SlotStatus
from tests.booking.builders import (
    NAME,
    Headers,
    Place,
    a_slot,
    book,
    booked,
    cancel,
    checked_in,
    code_of,
    move,
    my_join,
    recorded,
    refused,
    stock,
    user_id,
)
from tests.world import World

ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="day")
A_PERSON = "11010519491231002X"


def test_a_moved_join_is_the_same_join_in_another_slot(world: World) -> None:
    phone = FormField(key="phone", type=FieldType.MOBILE, label="手机号")
    place = a_slot(world, capacity=2, form=[NAME, phone])
    target = place.another_slot(capacity=3)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, phone="13800138000")

    answer = move(world, user, join["id"], target.slot_id)

    moved = answer.json()
    assert answer.status_code == 200
    assert moved["slot"]["id"] == target.slot_id
    assert moved["slot"]["date"] == target.date.isoformat()
    assert moved | {"slot": None} == join | {"slot": None}
    seen = my_join(world, user, join["id"])
    assert seen == moved | {"form": seen["form"]}
    assert stock(world, place.slot_id)["taken"] == 0
    assert stock(world, target.slot_id)["taken"] == 1


def test_the_event_tells_both_inventories(world: World) -> None:
    place = a_slot(world, capacity=2)
    target = place.another_slot(capacity=3)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    move(world, user, join["id"], target.slot_id)

    [event] = recorded(world, "join.moved")

    here, there = stock(world, place.slot_id), stock(world, target.slot_id)
    assert event.version == 2
    assert event.data["slot"] == {
        "slot_id": target.slot_id,
        "taken": 1,
        "capacity": 3,
        "version": there["version"],
    }
    assert event.data["left"] == {"slot_id": place.slot_id, "taken": 0, "capacity": 2, "version": here["version"]}


def test_the_place_left_is_free_and_the_new_one_is_held(world: World) -> None:
    place = a_slot(world, capacity=1)
    target = place.another_slot(capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    move(world, user, join["id"], target.slot_id)

    here = book(world, world.user("li"), place.slot_id)
    there = book(world, world.user("zhao"), target.slot_id)

    assert here.status_code == 201
    assert code_of(there) == (409, "slot_full")


def _full(world: World, target: SlotChanged) -> None:
    booked(world, world.user("another"), target.slot_id)


@pytest.mark.parametrize(
    ("target", "rules", "then", "status", "code"),
    [
        pytest.param({"capacity": 1}, {}, _full, 409, "slot_full", id="full"),
        pytest.param({"status": SlotStatus.CLOSED}, {}, None, 409, "slot_closed", id="closed"),
        pytest.param({"deleted": True}, {}, None, 404, "slot_not_found", id="deleted"),
        pytest.param({"starts_in": timedelta(hours=-3)}, {}, None, 409, "slot_ended", id="ended"),
        pytest.param({"starts_in": timedelta(days=9)}, {"opens_days_before": 2}, None, 409, "too_early", id="early"),
        pytest.param({}, {"cancel": "never"}, None, 409, "cancel_never", id="never cancelled"),
        pytest.param(
            {},
            {"cancel": "before_start", "cancel_minutes_before": 3 * 24 * 60},
            None,
            409,
            "cancel_too_late",
            id="too late to leave",
        ),
    ],
)
def test_a_refused_move_changes_nothing(
    world: World,
    target: dict[str, Any],
    rules: dict[str, Any],
    then: Callable[[World, SlotChanged], None] | None,
    status: int,
    code: str,
) -> None:
    place = a_slot(world, capacity=2, **rules)
    elsewhere = place.another_slot(**target)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    if then is not None:
        then(world, elsewhere)
    before = _state(world, user, join["id"], place.slot_id, elsewhere.slot_id)

    refusal = refused(lambda who: move(world, who, join["id"], elsewhere.slot_id), user)

    assert refusal.kind == (status, code)
    assert _state(world, user, join["id"], place.slot_id, elsewhere.slot_id) == before
    assert recorded(world, "join.moved") == []


def _state(world: World, user: Headers, join_id: str, *slot_ids: str) -> list[dict[str, Any]]:
    return [my_join(world, user, join_id), *(stock(world, slot_id) for slot_id in slot_ids)]


@pytest.mark.parametrize(
    ("close", "status", "code"),
    [
        pytest.param(lambda place: place.change_item(status=ItemStatus.STOPPED), 409, "item_not_open", id="stopped"),
        pytest.param(lambda place: place.change_item(status=ItemStatus.CLOSED), 404, "slot_not_found", id="closed"),
        pytest.param(lambda place: place.change_hall(status=HallStatus.CLOSED), 409, "item_not_open", id="hall"),
    ],
)
def test_nobody_moves_within_what_is_not_open(
    world: World, close: Callable[[Place], None], status: int, code: str
) -> None:
    place = a_slot(world)
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    close(place)

    assert code_of(move(world, user, join["id"], target.slot_id)) == (status, code)
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_join_stays_with_its_item(world: World) -> None:
    place, other = a_slot(world), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    refusal = refused(lambda who: move(world, who, join["id"], other.slot_id), user)

    assert refusal.kind == (409, "move_to_other_item")
    assert "within the same item only" in refusal.english
    assert "只能改约到同一预约项目" in refusal.chinese
    assert stock(world, other.slot_id)["taken"] == 0


def test_moving_to_the_same_slot_is_refused(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    refusal = refused(lambda who: move(world, who, join["id"], place.slot_id.upper()), user)

    assert refusal.kind == (409, "same_slot")
    assert "already" in refusal.english
    assert "无需改约" in refusal.chinese
    assert stock(world, place.slot_id)["taken"] == 1


@pytest.mark.parametrize("slot_id", ["nonsense", "", "01a206b3-0000-7000-8000-000000000000"])
def test_a_slot_that_does_not_exist_is_not_found(world: World, slot_id: str) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    assert code_of(move(world, user, join["id"], slot_id)) == (404, "slot_not_found")


def test_another_users_join_is_not_there(world: World) -> None:
    place = a_slot(world)
    target = place.another_slot()
    [join] = booked(world, world.user("wang"), place.slot_id)

    foreign = refused(lambda who: move(world, who, join["id"], target.slot_id), world.user("li"))
    missing = refused(lambda who: move(world, who, new_id(), target.slot_id), world.user("li"))

    assert foreign == missing
    assert foreign.kind == (404, "join_not_found")


def test_what_is_cancelled_or_checked_in_stays_where_it_is(world: World) -> None:
    place = a_slot(world, party_max=2)
    target = place.another_slot()
    user = world.user("wang")
    gone, here = booked(world, user, place.slot_id, "一一", "二二")
    cancel(world, user, gone["id"])
    checked_in(world, here["id"])

    codes = [code_of(move(world, user, join["id"], target.slot_id)) for join in (gone, here)]

    assert codes == [(409, "join_not_booked"), (409, "already_checked_in")]
    assert stock(world, target.slot_id)["taken"] == 0


@pytest.mark.parametrize("rules", [{"max_per_day": 1}, {"max_ahead": 1}])
def test_a_limit_does_not_count_the_join_that_moves(world: World, rules: dict[str, Any]) -> None:
    place = a_slot(world, max_per_slot=9, **rules)
    target = place.another_slot(date=place.slot.date)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    assert move(world, user, join["id"], target.slot_id).status_code == 200


def test_a_limit_counts_the_others(world: World) -> None:
    place = a_slot(world)
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    booked(world, user, target.slot_id)

    refusal = refused(lambda who: move(world, who, join["id"], target.slot_id), user)

    assert refusal.kind == (409, "already_joined")
    assert refusal.params == {"limit": "max_per_slot", "held": 1, "allowed": 1}


def test_a_disabled_user_does_not_move(world: World) -> None:
    place = a_slot(world)
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    world.client.patch(
        f"/api/booking/staff/users/{user_id(world, user)}",
        json={"disabled": True, "reason": "多次爽约"},
        headers=world.staff(),
    )

    assert code_of(move(world, user, join["id"], target.slot_id)) == (403, "user_disabled")


def test_a_person_booked_on_the_other_day_keeps_a_move_out(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD])
    target = place.another_slot()
    user, other = world.user("wang"), world.user("li")
    [join] = booked(world, user, place.slot_id, id_card=A_PERSON)
    booked(world, other, target.slot_id, id_card=A_PERSON)
    before = _state(world, user, join["id"], place.slot_id, target.slot_id)

    refusal = refused(lambda who: move(world, who, join["id"], target.slot_id), user)
    still_held = book(world, world.user("zhao"), place.slot_id, id_card=A_PERSON)

    assert refusal.kind == (409, "person_already_joined")
    assert code_of(still_held) == (409, "person_already_joined")
    assert _state(world, user, join["id"], place.slot_id, target.slot_id) == before


def test_a_persons_claim_moves_along(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD])
    same_day = place.another_slot(date=place.slot.date)
    other_day = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, id_card=A_PERSON)

    within_the_day = move(world, user, join["id"], same_day.slot_id)
    to_another_day = move(world, user, join["id"], other_day.slot_id)
    freed = book(world, world.user("li"), place.slot_id, id_card=A_PERSON)
    held = book(world, world.user("zhao"), other_day.slot_id, id_card=A_PERSON)

    assert [within_the_day.status_code, to_another_day.status_code, freed.status_code] == [200, 200, 201]
    assert code_of(held) == (409, "person_already_joined")


def test_a_move_to_a_later_slot_is_bound_by_the_slot_it_leaves(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(hours=2))
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    with time_machine.travel(place.slot.starts_at + timedelta(minutes=1)):
        refusal = refused(lambda who: move(world, who, join["id"], target.slot_id), user)

    assert refusal.kind == (409, "cancel_too_late")


def test_there_and_back_again_leaves_the_counts_right(world: World) -> None:
    place = a_slot(world, capacity=1)
    target = place.another_slot(capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    for slot_id in (target.slot_id, place.slot_id, target.slot_id):
        assert move(world, user, join["id"], slot_id).status_code == 200
    cancelled = cancel(world, user, join["id"])

    assert cancelled.json()["slot"]["id"] == target.slot_id
    assert [stock(world, slot_id)["taken"] for slot_id in (place.slot_id, target.slot_id)] == [0, 0]
