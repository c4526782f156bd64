"""What staff see and may do, within their halls."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import httpx2
import pytest

from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.booking.builders import (
    Headers,
    Place,
    a_slot,
    booked,
    cancel,
    checked_in,
    my_join,
    recorded,
    refused,
    restore,
    revoke,
    revoke_slot,
    stock,
)
from tests.world import World


def _list(world: World, staff: Headers, **query: Any) -> list[str]:
    answer = world.client.get("/api/booking/staff/joins", params=query, headers=staff)
    assert answer.status_code == 200, answer.text
    return [join["id"] for join in answer.json()["items"]]


# --- lists ---


def test_the_list_answers_each_question(world: World) -> None:
    passports, permits = a_slot(world), a_slot(world, starts_in=timedelta(days=5))
    permits.change_item(title="居住证100%")
    later = passports.another_slot(starts_in=timedelta(days=3))
    user = world.user("wang")
    a, b, c = (booked(world, user, slot)[0] for slot in (passports.slot_id, later.slot_id, permits.slot_id))
    cancel(world, user, b["id"])
    checked_in(world, c["id"])
    boss = world.staff()

    def found(**query: Any) -> list[str]:
        return ["abc"[[a["id"], b["id"], c["id"]].index(join_id)] for join_id in _list(world, boss, **query)]

    assert found() == ["c", "b", "a"]
    assert found(hall_id=permits.hall_id) == ["c"]
    assert found(hall_id=permits.hall_id.upper()) == ["c"]
    assert found(item_id=passports.item.item_id) == ["b", "a"]
    assert found(slot_id=later.slot_id) == ["b"]
    assert found(status="booked") == ["c", "a"]
    assert found(status="cancelled") == ["b"]
    assert found(status="revoked") == []
    assert found(status=["cancelled", "revoked"]) == ["b"]
    assert found(status=["booked", "cancelled"]) == ["c", "b", "a"]
    assert found(checked_in="true") == ["c"]
    assert found(checked_in="false", status="booked") == ["a"]
    assert found(**{"from": later.date.isoformat()}) == ["c", "b"]
    assert found(to=later.date.isoformat()) == ["b", "a"]
    assert found(**{"from": later.date.isoformat(), "to": later.date.isoformat()}) == ["b"]
    assert found(q="护照") == ["b", "a"]
    assert found(q="%") == ["c"]
    assert found(q="_") == []
    assert found(q=a["code"]) == ["a"]
    assert found(q=a["code"][:14]) == []
    assert found(q="护照", status="booked", item_id=passports.item.item_id) == ["a"]
    assert found(item_id=new_id()) == []


@pytest.mark.parametrize(
    "query",
    [
        {"hall_id": "nonsense"},
        {"status": "done"},
        {"checked_in": "perhaps"},
        {"from": "tomorrow"},
        {"q": "\x00"},
        {"from": "2026-12-02", "to": "2026-12-01"},
        {"limit": "101"},
        {"cursor": "x"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(world: World, query: dict[str, str]) -> None:
    answer = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff())

    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid", "bad_cursor", "range_unfit")


def test_pages_of_the_list_hold_each_join_once(world: World) -> None:
    place = a_slot(world, max_per_slot=50, party_max=5)
    user = world.user("wang")
    joins = [join["id"] for _ in range(2) for join in booked(world, user, place.slot_id, *["张三"] * 5)]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        query = {"limit": "4"} | cursor
        page = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff()).json()
        seen += [join["id"] for join in page["items"]]
        booked(world, user, place.slot_id)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == joins[::-1]


# --- within their halls and role ---


@pytest.mark.parametrize("role", [Role.VERIFIER, Role.HALL_ADMIN])
def test_staff_see_their_own_halls_only(world: World, role: Role) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    user = world.user("wang")
    [here] = booked(world, user, mine.slot_id)
    [there] = booked(world, user, foreign.slot_id)
    staff = world.staff(role, [mine.hall_id])

    assert _list(world, staff) == [here["id"]]
    assert _list(world, staff, hall_id=foreign.hall_id) == []
    assert _list(world, staff, q=there["code"]) == []
    assert _list(world, world.staff(role, [])) == []
    assert _list(world, world.staff()) == [there["id"], here["id"]]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda w, p, j, s: w.client.get(f"/api/booking/staff/joins/{j}", headers=s), id="join"),
        pytest.param(lambda w, p, j, s: w.client.get(f"/api/booking/staff/slots/{p.slot_id}", headers=s), id="slot"),
        pytest.param(lambda w, p, j, s: revoke(w, j, staff=s), id="revoke"),
        pytest.param(lambda w, p, j, s: restore(w, j, s), id="restore"),
        pytest.param(lambda w, p, j, s: revoke_slot(w, p.slot_id, s), id="revoke slot"),
    ],
)
def test_foreign_things_are_not_there(
    world: World, ask: Callable[[World, Place, str, Headers], httpx2.Response]
) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    answer = ask(world, place, join["id"], world.staff(Role.HALL_ADMIN, [elsewhere.hall_id]))

    assert answer.status_code == 404
    assert my_join(world, user, join["id"])["status"] == "booked"
    assert recorded(world, "audit.recorded") == []


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda w, p, j, s: revoke(w, j, staff=s), id="revoke"),
        pytest.param(lambda w, p, j, s: restore(w, j, s), id="restore"),
        pytest.param(lambda w, p, j, s: revoke_slot(w, p.slot_id, s), id="revoke slot"),
        pytest.param(lambda w, p, j, s: w.client.get("/api/booking/staff/users", headers=s), id="users"),
    ],
)
def test_a_verifier_changes_nothing_but_check_ins(
    world: World, ask: Callable[[World, Place, str, Headers], httpx2.Response]
) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)
    verifier = world.staff(Role.VERIFIER, [place.hall_id])

    refusal = refused(lambda who: ask(world, place, join["id"], who), verifier)

    assert refusal.kind == (403, "role_forbids")


# --- the inventory ---


def test_staff_see_the_inventory_of_a_slot(world: World) -> None:
    place = a_slot(world, capacity=3)
    booked(world, world.user("wang"), place.slot_id)

    found = stock(world, place.slot_id)

    assert (found["asked"], found["capacity"], found["taken"], found["remaining"]) == (3, 3, 1, 2)
    assert found["status"] == "open"
    assert date.fromisoformat(found["slot"]["date"]) == place.slot.date
