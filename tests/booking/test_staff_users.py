"""Users as staff see them: found by name or number, with what became of their joins in the halls of whoever asks."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.booking.builders import Headers, a_slot, booked, cancel, checked_in, code_of, recorded, revoke, user_id
from tests.world import World

USERS = "/api/booking/staff/users"


def a_user(world: World, name: str, phone: str = "") -> tuple[Headers, str]:
    """Return the headers and the id of a user with a profile."""
    user = world.user(name)
    assert world.client.patch("/api/booking/me", json={"name": name, "phone": phone}, headers=user).is_success
    return user, user_id(world, user)


def found(world: World, q: str, staff: Headers | None = None) -> list[str]:
    answer = world.client.get(USERS, params={"q": q}, headers=staff or world.staff())
    assert answer.status_code == 200, answer.text
    return [user["id"] for user in answer.json()["items"]]


def listed(world: World, staff: Headers, **query: Any) -> list[dict[str, Any]]:
    answer = world.client.get(USERS, params=query, headers=staff)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def shown(world: World, of: str, staff: Headers | None = None) -> httpx2.Response:
    return world.client.get(f"{USERS}/{of}", headers=staff or world.staff())


def unmask(world: World, of: str, staff: Headers, reason: str = "联系本人") -> httpx2.Response:
    return world.client.post(f"{USERS}/{of}/unmask", json={"reason": reason}, headers=staff)


@pytest.mark.parametrize("q", ["王小明", "小", "13800138000", "+86 138-0013-8000"])
def test_a_user_is_found_by_part_of_the_name_or_the_whole_number(world: World, q: str) -> None:
    _, wang = a_user(world, "王小明", "13800138000")
    a_user(world, "李四", "13900139000")

    assert found(world, q) == [wang]
    assert found(world, "1380013800") == found(world, "%") == []


def test_a_user_is_shown_with_what_became_of_their_joins(world: World) -> None:
    place = a_slot(world, party_max=6, cancel="anytime", starts_in=timedelta(minutes=-30))
    user, wang = a_user(world, "王小明", "13800138000")
    joins = booked(world, user, place.slot_id, *["张三"] * 6)
    cancel(world, user, joins[0]["id"])
    revoke(world, joins[1]["id"])
    checked_in(world, joins[2]["id"])

    now = shown(world, wang).json()
    with time_machine.travel(place.slot.ends_at):
        later = shown(world, wang).json()

    assert now["joins"] == {"booked": 4, "checked_in": 1, "missed": 0, "cancelled": 1, "revoked": 1}
    assert later["joins"] == now["joins"] | {"missed": 3}
    assert (now["name"], now["phone"], now["disabled"]) == ("王小明", "138******00", False)


def test_a_number_is_shown_in_clear_for_a_reason_that_is_on_record(world: World) -> None:
    place = a_slot(world)
    user, wang = a_user(world, "王小明", "13800138000")
    booked(world, user, place.slot_id)

    answer = unmask(world, wang, world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.json()["phone"] == "13800138000"
    [row] = recorded(world, "audit.recorded")
    assert (row.data["action"], row.data["object_id"], row.data["reason"]) == ("user.unmasked", wang, "联系本人")
    assert row.data["hall_id"] == place.hall_id
    assert "13800138000" not in str(row.data)
    assert code_of(unmask(world, wang, world.staff(), reason="")) == (422, "invalid")


def test_who_never_booked_in_a_hall_is_not_there_for_its_admin(world: World) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    user, wang = a_user(world, "王小明", "13800138000")
    booked(world, user, foreign.slot_id)
    admin = world.staff(Role.HALL_ADMIN, [mine.hall_id])

    answers = [shown(world, wang, admin), unmask(world, wang, admin), shown(world, new_id())]

    assert [code_of(answer) for answer in answers] == [(404, "not_found")] * 3
    assert found(world, "13800138000", admin) == found(world, "王小明", admin) == []
    assert code_of(shown(world, wang, world.staff(Role.VERIFIER, [foreign.hall_id]))) == (403, "role_forbids")


def test_who_walked_in_is_no_user(world: World) -> None:
    place = a_slot(world)
    body: dict[str, Any] = {"attendees": [{"answers": {"name": "张三"}}]}
    path = f"/api/booking/staff/slots/{place.slot_id}/joins"
    answer = world.client.post(path, json=body, headers=world.staff() | {"Idempotency-Key": new_id()})

    [join] = answer.json()["joins"]

    assert found(world, "") == []
    assert code_of(shown(world, join["user_id"])) == (404, "not_found")


def test_numbers_of_users_can_not_be_found_out_by_trying(make_world: Callable[..., World]) -> None:
    world = make_world(person_rate="2/minute")
    staff = world.staff()

    tries = [world.client.get(USERS, params={"q": f"1380013800{n}"}, headers=staff).status_code for n in range(3)]

    assert tries == [200, 200, 429]


def test_no_spelling_of_a_number_is_tried_more_often(make_world: Callable[..., World]) -> None:
    world = make_world(person_rate="2/minute")
    staff = world.staff()

    tries = [world.client.get(USERS, params={"q": f"①③⑧0013800{n}"}, headers=staff).status_code for n in range(3)]

    assert tries == [200, 200, 429]


def test_a_hall_admin_sees_those_who_booked_in_their_halls(world: World) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    wang, li = world.user("wang"), world.user("li")
    world.user("nobody")
    booked(world, wang, mine.slot_id)
    booked(world, li, foreign.slot_id)

    seen = listed(world, world.staff(Role.HALL_ADMIN, [mine.hall_id]))
    all_of_them = listed(world, world.staff())

    assert [user["id"] for user in seen] == [user_id(world, wang)]
    assert len(all_of_them) == 3


def test_users_are_found_by_name_and_shown_without_their_number(world: World) -> None:
    user = world.user("wang")
    world.client.patch("/api/booking/me", json={"name": "王_小明", "phone": "13800138000"}, headers=user)
    world.client.patch("/api/booking/me", json={"name": "李四"}, headers=world.user("li"))

    [found] = listed(world, world.staff(), q="_")

    assert (found["name"], found["phone"]) == ("王_小明", "138******00")
    assert listed(world, world.staff(), q="%") == []
    assert "openid" not in found
