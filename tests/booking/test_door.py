"""At the door: a list that stays open, and people who come without a booking."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, SlotStatus
from libs.contracts.principals import Role
from tests.booking.builders import (
    NAME,
    Headers,
    Place,
    a_slot,
    book,
    booked,
    cancel,
    check_in,
    checked_in,
    code_of,
    do,
    people_booked,
    recorded,
    revoke,
    stock,
)
from tests.world import World, simultaneously

NOW: dict[str, Any] = {"starts_in": timedelta(minutes=-5), "lasts": timedelta(hours=1)}
ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="slot", required=False)
A_PERSON = "11010519491231002X"


def door(world: World, staff: Headers, place: Place, *, etag: str = "", **query: Any) -> httpx2.Response:
    headers = staff | ({"If-None-Match": etag} if etag else {})
    return world.client.get(f"/api/booking/staff/slots/{place.slot_id}/door", params=query, headers=headers)


def walk_in(world: World, staff: Headers, place: Place, *names: str, key: str = "", **more: Any) -> httpx2.Response:
    body = {"attendees": [{"answers": {"name": name}} for name in names or ("张三",)]} | more
    headers = staff | {"Idempotency-Key": key or new_id()}
    return world.client.post(f"/api/booking/staff/slots/{place.slot_id}/joins", json=body, headers=headers)


# --- the list ---


def test_the_door_sees_who_is_expected_and_who_has_come(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD], party_max=3, cancel="anytime", **NOW)
    user = world.user("wang")
    joins = booked(world, user, place.slot_id, "一一", "二二", "三三", id_card=A_PERSON)
    revoke(world, joins[2]["id"])
    checked_in(world, joins[1]["id"])
    verifier = world.staff(Role.VERIFIER, [place.hall_id])

    seen = door(world, verifier, place).json()

    assert (seen["expected"], seen["checked_in"], seen["slot"]["id"]) == (2, 1, place.slot_id)
    assert [one["id"] for one in seen["items"]] == [joins[0]["id"], joins[1]["id"]]
    assert seen["items"][0]["answers"] == {"name": "一一", "id_card": "110*************2X"}
    assert [one["checked_in_at"] is None for one in seen["items"]] == [True, False]
    assert [one["id"] for one in door(world, verifier, place, checked_in=False).json()["items"]] == [joins[0]["id"]]
    first = door(world, verifier, place, limit=1).json()
    rest = door(world, verifier, place, limit=1, cursor=first["next_cursor"]).json()
    assert [first["items"][0]["id"], rest["items"][0]["id"]] == [joins[0]["id"], joins[1]["id"]]
    assert rest["next_cursor"] is None


def test_the_door_is_told_of_every_change_and_of_nothing_else(world: World) -> None:
    place = a_slot(world, max_per_slot=9, cancel="anytime", **NOW)
    target, elsewhere = place.another_slot(starts_in=timedelta(hours=2)), a_slot(world)
    user, boss = world.user("wang"), world.staff()
    first, second, third, fourth = (booked(world, user, place.slot_id)[0] for _ in range(4))
    etag = door(world, boss, place).headers["ETag"]

    def has_changed() -> bool:
        nonlocal etag
        answer = door(world, boss, place, etag=etag)
        assert (answer.content == b"") == (answer.status_code == 304)
        changed, etag = answer.status_code == 200, answer.headers["ETag"]
        return changed

    assert not has_changed()
    booked(world, user, elsewhere.slot_id)
    assert not has_changed()
    for change in (
        lambda: booked(world, user, place.slot_id),
        lambda: cancel(world, user, first["id"]),
        lambda: revoke(world, second["id"]),
        lambda: world.client.post(f"/api/booking/staff/joins/{second['id']}/restore", headers=boss),
        lambda: check_in(world, boss, join_id=third["id"]),
        lambda: world.client.post(
            "/api/booking/staff/check-ins/undo", json={"join_id": third["id"], "reason": "扫错了"}, headers=boss
        ),
        lambda: world.client.post(
            f"/api/booking/joins/{fourth['id']}/move", json={"slot_id": target.slot_id}, headers=user
        ),
        lambda: place.change_item(title="居住证"),
        lambda: place.change_slot(capacity=50),
    ):
        change()
        assert has_changed()
        assert not has_changed()


# --- walk-ins ---


def test_who_comes_without_a_booking_is_registered_and_checked_in(world: World) -> None:
    place = a_slot(world, capacity=3, party_max=2, **NOW)
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])

    answer = walk_in(world, admin, place, "一一", "二二", check_in=True)

    assert answer.status_code == 201
    joins = answer.json()["joins"]
    assert [(join["status"], join["answers"], join["checked_in_at"] is None) for join in joins] == [
        ("booked", {"name": "一一"}, False),
        ("booked", {"name": "二二"}, False),
    ]
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 2
    world.settle()
    trail = world.client.get("/api/admin/audit", headers=admin).json()["items"]
    assert sorted(record["action"] for record in trail) == ["join.checked_in", "join.checked_in", "walk_in.registered"]
    [stat] = world.client.get("/api/notify/staff/stats", headers=admin).json()["items"]
    assert (stat["checked_in"], stat["taken"]) == (2, 2)


def test_a_walk_in_before_the_time_is_booked_and_not_checked_in(world: World) -> None:
    place = a_slot(world)

    [join] = walk_in(world, world.staff(), place, check_in=True).json()["joins"]

    assert (join["status"], join["checked_in_at"]) == ("booked", None)


def test_a_repeated_walk_in_is_the_first_one_again(world: World) -> None:
    place, boss, key = a_slot(world, capacity=5, **NOW), world.staff(), new_id()

    answers = [walk_in(world, boss, place, key=key, check_in=True) for _ in range(2)]
    another = walk_in(world, world.staff(), place, key=key)

    assert answers[0].json() == answers[1].json()
    assert code_of(walk_in(world, boss, place, "李四", key=key)) == (409, "idempotency_key_reused")
    assert another.json()["joins"][0]["id"] != answers[0].json()["joins"][0]["id"]
    assert stock(world, place.slot_id)["taken"] == 2
    world.settle()
    trail = world.client.get("/api/admin/audit?action=walk_in", headers=boss).json()["items"]
    assert len(trail) == 2


def test_a_repeated_walk_in_checks_nobody_in_whose_check_in_was_taken_back(world: World) -> None:
    place, boss, key = a_slot(world, capacity=5, party_max=2, **NOW), world.staff(), new_id()
    joins = walk_in(world, boss, place, "一一", "二二", key=key, check_in=True).json()["joins"]
    undo = {"join_id": joins[0]["id"], "reason": "扫错了人"}
    assert world.client.post("/api/booking/staff/check-ins/undo", json=undo, headers=boss).status_code == 200

    again = walk_in(world, boss, place, "一一", "二二", key=key, check_in=True)

    assert again.status_code == 201
    assert [join["checked_in_at"] for join in again.json()["joins"]] == [None, joins[1]["checked_in_at"]]


@pytest.mark.parametrize(
    ("slot", "names", "code"),
    [
        pytest.param({"capacity": 0}, ["一一"], "slot_full", id="full"),
        pytest.param({"party_max": 2}, ["一一", "二二", "三三"], "party_too_large", id="too many"),
        pytest.param({"starts_in": timedelta(hours=-2)}, ["一一"], "slot_ended", id="over"),
        pytest.param({"slot_status": SlotStatus.CLOSED}, ["一一"], "slot_closed", id="closed"),
        pytest.param({}, [""], "form_invalid", id="no name"),
    ],
)
def test_a_walk_in_is_bound_by_the_rules_of_everybody(
    world: World, slot: dict[str, Any], names: list[str], code: str
) -> None:
    place = a_slot(world, **slot)

    answer = walk_in(world, world.staff(), place, *names)

    assert answer.json()["code"] == code
    assert stock(world, place.slot_id)["taken"] == 0
    assert recorded(world, "audit.recorded") == []


@pytest.mark.parametrize(
    ("slot", "code"),
    [
        pytest.param(NOW | {"closes_before": "start", "closes_minutes_before": 120}, "slot_ended", id="closed"),
        pytest.param({"starts_in": timedelta(days=3), "opens_days_before": 1}, "too_early", id="not open yet"),
    ],
)
def test_who_stands_at_the_desk_is_booked_beyond_the_users_window(
    world: World, slot: dict[str, Any], code: str
) -> None:
    place = a_slot(world, capacity=1, **slot)

    ahead = book(world, world.user("wang"), place.slot_id)
    at_the_desk, one_more = (walk_in(world, world.staff(), place) for _ in range(2))

    assert code_of(ahead) == (409, code)
    assert at_the_desk.status_code == 201
    assert code_of(one_more) == (409, "slot_full")


def test_a_person_who_is_booked_does_not_walk_in(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD])
    booked(world, world.user("wang"), place.slot_id, id_card=A_PERSON)
    attendees = [{"answers": {"name": "张三", "id_card": A_PERSON}}]

    assert code_of(walk_in(world, world.staff(), place, attendees=attendees)) == (409, "person_already_joined")


def test_the_last_place_goes_to_one_of_many_desks(world: World) -> None:
    place = a_slot(world, capacity=1)
    boss = world.staff()

    answers = simultaneously([lambda: walk_in(world, boss, place) for _ in range(8)])

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 1


def test_parties_that_were_refused_are_forgotten_in_the_end(world: World) -> None:
    full, roomy = a_slot(world, capacity=0), a_slot(world)
    walk_in(world, world.staff(), full)
    [join] = walk_in(world, world.staff(), roomy).json()["joins"]

    with time_machine.travel(datetime.now(UTC) + timedelta(days=8)):
        assert (do(world, "upkeep")["walk_ins"], do(world, "upkeep")["walk_ins"]) == (1, 0)
        listed = world.client.get("/api/booking/staff/joins", headers=world.staff()).json()["items"]

    assert [one["id"] for one in listed] == [join["id"]]


def test_a_foreign_slot_takes_no_walk_ins_and_shows_no_list(world: World) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    stranger = world.staff(Role.HALL_ADMIN, [elsewhere.hall_id])

    assert code_of(walk_in(world, stranger, place)) == (404, "not_found")
    assert code_of(door(world, stranger, place)) == (404, "not_found")
    assert code_of(walk_in(world, world.staff(Role.VERIFIER, [place.hall_id]), place)) == (403, "role_forbids")
    assert stock(world, place.slot_id)["taken"] == 0
