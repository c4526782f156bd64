"""The line as staff and operators see it."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from prometheus_client import REGISTRY

from libs.common.ids import new_id
from libs.contracts.principals import Role
from services.booking import joins
from tests.booking.builders import NAME, booked, cancel, code_of, do, my_joins, people_booked, recorded, stock
from tests.booking.waiting import MOBILE, a_full_slot, leave, my_wait, served, waiting, waits_of
from tests.world import World

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
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10), tick=True):  # as if it took so long
        [later] = booked(world, world.user("later"), place.slot_id)

    answer = world.client.post(
        f"/api/booking/staff/slots/{place.slot_id}/revoke", json={"reason": "设备故障"}, headers=world.staff()
    )

    assert answer.json() == {"revoked": 1, "kept_checked_in": 0, "not_booked": 0}
    assert my_joins(world, world.user("later"))["items"][0]["id"] == later["id"]
    assert people_booked(world, place.slot_id) == 1


# --- operators ---


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
