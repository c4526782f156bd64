"""Giving a place back: when a user may, and what it leaves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, HallStatus, ItemStatus, SlotStatus
from tests.booking.builders import (
    NAME,
    Place,
    a_slot,
    book,
    booked,
    cancel,
    checked_in,
    code_of,
    my_join,
    my_joins,
    recorded,
    refused,
    revoke,
    stock,
)
from tests.world import World

HOUR_BEFORE: dict[str, Any] = {"cancel": "before_start", "cancel_minutes_before": 60}


@pytest.mark.parametrize(
    ("rules", "minutes_after_start"),
    [
        pytest.param({}, -1, id="by default until the start"),
        pytest.param(HOUR_BEFORE, -61, id="more than an hour before"),
        pytest.param({"cancel": "anytime"}, -1, id="anytime before the start"),
        pytest.param({"cancel": "anytime"}, 59, id="anytime until the end"),
    ],
)
def test_a_place_can_be_given_back_in_time(world: World, rules: dict[str, Any], minutes_after_start: int) -> None:
    place = a_slot(world, starts_in=timedelta(hours=2), capacity=1, **rules)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    with time_machine.travel(place.slot.starts_at + timedelta(minutes=minutes_after_start)):
        answer = cancel(world, user, join["id"])

    assert answer.status_code == 200
    assert answer.json() == join | {"status": "cancelled"}
    assert stock(world, place.slot_id)["taken"] == 0


@pytest.mark.parametrize(
    ("rules", "minutes_after_start", "code", "english", "chinese"),
    [
        pytest.param({"cancel": "never"}, -60, "cancel_never", "can't be cancelled", "该预约不能取消", id="never"),
        pytest.param({}, 0, "cancel_too_late", "until", "已超过可取消时间", id="at the start"),
        pytest.param(HOUR_BEFORE, -60, "cancel_too_late", "until", "已超过可取消时间", id="an hour before"),
        pytest.param({"cancel": "anytime"}, 60, "cancel_too_late", "until", "已超过可取消时间", id="at the end"),
    ],
)
def test_a_place_can_not_be_given_back_too_late(
    world: World, rules: dict[str, Any], minutes_after_start: int, code: str, english: str, chinese: str
) -> None:
    place = a_slot(world, starts_in=timedelta(hours=2), **rules)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    with time_machine.travel(place.slot.starts_at + timedelta(minutes=minutes_after_start)):
        refusal = refused(lambda who: cancel(world, who, join["id"]), user)

    assert refusal.kind == (409, code)
    assert english in refusal.english
    assert chinese in refusal.chinese
    assert my_join(world, user, join["id"])["status"] == "booked"
    assert stock(world, place.slot_id)["taken"] == 1


def test_the_last_moment_is_said_in_the_halls_time(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(minutes=30), **HOUR_BEFORE)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    refusal = refused(lambda who: cancel(world, who, join["id"]), user)

    until = place.slot.starts_at - timedelta(minutes=60) + timedelta(hours=8)
    assert refusal.params == {"until": until.strftime("%Y-%m-%d %H:%M")}


def test_who_is_checked_in_can_not_cancel(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    checked_in(world, join["id"])

    refusal = refused(lambda who: cancel(world, who, join["id"]), user)

    assert refusal.kind == (409, "already_checked_in")
    assert "Checked in already at" in refusal.english
    assert "该预约已签到" in refusal.chinese
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_place_is_given_back_once(world: World) -> None:
    place = a_slot(world, capacity=3)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    booked(world, world.user("li"), place.slot_id)
    cancel(world, user, join["id"])

    refusal = refused(lambda who: cancel(world, who, join["id"]), user)

    assert refusal.kind == (409, "join_not_booked")
    assert refusal.params == {"status": "cancelled"}
    assert "no longer valid" in refusal.english
    assert "已失效" in refusal.chinese
    assert stock(world, place.slot_id)["taken"] == 1
    assert len(recorded(world, "join.cancelled")) == 1


def test_a_revoked_place_can_not_be_cancelled(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])

    refusal = refused(lambda who: cancel(world, who, join["id"]), user)

    assert (refusal.kind, refusal.params) == ((409, "join_not_booked"), {"status": "revoked"})


@pytest.mark.parametrize("join_id", ["nonsense", "'; drop table joins; --", "0"])
def test_what_is_no_id_names_no_join(world: World, join_id: str) -> None:
    assert code_of(cancel(world, world.user("wang"), join_id)) == (404, "not_found")


def test_another_users_join_is_not_there(world: World) -> None:
    place = a_slot(world)
    owner = world.user("wang")
    [join] = booked(world, owner, place.slot_id)

    foreign = refused(lambda who: cancel(world, who, join["id"]), world.user("li"))
    missing = refused(lambda who: cancel(world, who, new_id()), world.user("li"))

    assert foreign == missing
    assert foreign.kind == (404, "join_not_found")
    assert foreign.chinese == "没有找到该预约记录"
    assert my_join(world, owner, join["id"])["status"] == "booked"


def test_without_a_token_nothing_is_cancelled(world: World) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)

    refusal = refused(lambda who: cancel(world, who, join["id"]), {"Accept-Language": "en"})

    assert refusal.kind == (401, "unauthenticated")
    assert stock(world, place.slot_id)["taken"] == 1


@pytest.mark.parametrize(
    "close",
    [
        pytest.param(lambda place: place.change_item(status=ItemStatus.CLOSED), id="item closed"),
        pytest.param(lambda place: place.change_item(status=ItemStatus.STOPPED), id="item stopped"),
        pytest.param(lambda place: place.change_item(status=ItemStatus.DRAFT), id="item back to draft"),
        pytest.param(lambda place: place.change_hall(status=HallStatus.CLOSED), id="hall closed"),
        pytest.param(lambda place: place.change_slot(status=SlotStatus.CLOSED), id="slot closed"),
        pytest.param(lambda place: place.change_slot(deleted=True), id="slot deleted"),
    ],
)
def test_what_is_closed_meanwhile_can_still_be_given_back(world: World, close: Callable[[Place], None]) -> None:
    place = a_slot(world, capacity=2)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    close(place)

    answer = cancel(world, user, join["id"])

    assert answer.status_code == 200
    assert stock(world, place.slot_id)["taken"] == 0


def test_a_disabled_user_can_still_give_a_place_back(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    me = world.client.get("/api/booking/me", headers=user).json()
    world.client.patch(
        f"/api/booking/staff/users/{me['id']}", json={"disabled": True, "reason": "多次爽约"}, headers=world.staff()
    )

    assert cancel(world, user, join["id"]).status_code == 200


def test_the_row_stays_and_is_listed_as_cancelled(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    cancel(world, user, join["id"])

    listed = my_joins(world, user, filter="cancelled")["items"]
    for_staff = world.client.get(
        "/api/booking/staff/joins", params={"status": "cancelled"}, headers=world.staff()
    ).json()["items"]

    assert [(one["id"], one["status"], one["code"]) for one in listed] == [(join["id"], "cancelled", join["code"])]
    assert [one["id"] for one in for_staff] == [join["id"]]
    assert my_joins(world, user, filter="booked")["items"] == []


def test_the_place_is_free_at_once(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    full = book(world, world.user("li"), place.slot_id)
    cancel(world, user, join["id"])

    then = book(world, world.user("li"), place.slot_id)

    assert code_of(full) == (409, "slot_full")
    assert then.status_code == 201


def test_one_of_a_party_is_cancelled_and_the_others_stay(world: World) -> None:
    card = FormField(key="card", type=FieldType.DIGITS, label="卡号", required=False, unique="slot")
    place = a_slot(world, capacity=3, party_max=3, form=[NAME, card])
    user = world.user("wang")
    joins = booked(world, user, place.slot_id, "一一", "二二", "三三", card="0012")
    cancel(world, user, joins[0]["id"])

    again = book(world, world.user("li"), place.slot_id, "四四", card="0012")

    assert again.status_code == 201
    assert [my_join(world, user, join["id"])["status"] for join in joins] == ["cancelled", "booked", "booked"]
    assert stock(world, place.slot_id)["taken"] == 3


def test_the_event_tells_the_inventory_at_commit(world: World) -> None:
    place = a_slot(world, capacity=5)
    user = world.user("wang")
    booked(world, world.user("li"), place.slot_id)
    [join] = booked(world, user, place.slot_id)
    before = stock(world, place.slot_id)
    cancel(world, user, join["id"])

    [event] = recorded(world, "join.cancelled")

    assert event.subject == join["id"]
    assert event.data["slot"] == {
        "slot_id": place.slot_id,
        "taken": 1,
        "capacity": 5,
        "version": before["version"] + 1,
    }
    assert "answers" not in event.data
    assert join["code"] not in str(event.data)
