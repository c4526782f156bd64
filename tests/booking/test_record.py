"""What staff do is on record."""

from datetime import timedelta
from unittest.mock import ANY

import pytest

from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from tests.booking.builders import NAME, a_slot, booked, check_in, move, recorded, restore, revoke, revoke_slot
from tests.world import World

ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="slot")
A_PERSON = "11010519491231002X"


@pytest.mark.usefixtures("noon")  # just before midnight it would be too early: a check-in is on the slot's day
def test_what_staff_do_to_a_join_is_on_record_with_what_it_was_before(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(minutes=10), max_per_slot=9)
    [join] = booked(world, world.user("wang"), place.slot_id)
    boss = world.staff()

    revoke(world, join["id"])
    assert restore(world, join["id"], boss).status_code == 200
    assert check_in(world, boss, join_id=join["id"]).status_code == 200
    undo = {"join_id": join["id"], "reason": "扫错了人"}
    assert world.client.post("/api/booking/staff/check-ins/undo", json=undo, headers=boss).status_code == 200

    audited = [row.data for row in recorded(world, "audit.recorded")]
    assert [(row["action"], row["before"], row["after"]) for row in audited] == [
        ("join.revoked", {"status": "booked"}, {"status": "revoked"}),
        ("join.restored", {"status": "revoked"}, {"status": "booked"}),
        ("join.checked_in", {"checked_in_at": None}, {"checked_in_at": ANY}),
        ("join.check_in_undone", {"checked_in_at": ANY}, {"checked_in_at": None}),
    ]


def test_everything_staff_do_is_on_record_without_answers_or_codes(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD], starts_in=timedelta(minutes=-5), cancel="anytime")
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, "王小明", id_card=A_PERSON)
    revoke(world, join["id"])
    restore(world, join["id"])
    check_in(world, world.staff(), code=join["code"])
    world.client.post(
        "/api/booking/staff/check-ins/undo", json={"join_id": join["id"], "reason": "扫错了码"}, headers=world.staff()
    )
    move(world, user, join["id"], target.slot_id)
    revoke_slot(world, target.slot_id)
    world.settle()

    answer = world.client.get(
        "/api/admin/audit", headers=world.staff(Role.HALL_ADMIN, [place.hall_id]), params={"limit": 100}
    )

    records = answer.json()["items"]
    assert [(record["action"], record["object_type"], record["object_id"]) for record in records[::-1]] == [
        ("join.revoked", "join", join["id"]),
        ("join.restored", "join", join["id"]),
        ("join.checked_in", "join", join["id"]),
        ("join.check_in_undone", "join", join["id"]),
        ("slot.revoked", "slot", target.slot_id),
    ]
    assert {record["hall_id"] for record in records} == {place.hall_id}
    for secret in (A_PERSON, "王小明", join["code"]):
        assert secret not in answer.text


def test_what_was_refused_is_not_on_record(world: World) -> None:
    place = a_slot(world, capacity=1)
    [join] = booked(world, world.user("wang"), place.slot_id)

    restore(world, join["id"])
    check_in(world, world.staff(), code=join["code"])

    assert recorded(world, "audit.recorded") == []
