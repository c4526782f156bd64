"""Places that staff give back to who they were taken from."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine

from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from tests.booking.builders import (
    NAME,
    a_slot,
    book,
    booked,
    cancel,
    code_of,
    my_join,
    recorded,
    refused,
    restore,
    revoke,
    set_user,
    stock,
    user_id,
)
from tests.world import World

ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="slot")
A_PERSON = "11010519491231002X"


def test_a_revoked_join_gets_its_place_back(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])

    answer = restore(world, join["id"], world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.status_code == 200
    seen = my_join(world, user, join["id"])
    assert seen == join | {"form": seen["form"]}
    assert stock(world, place.slot_id)["taken"] == 1
    assert recorded(world, "join.booked")[-1].data["restored"] is True


def test_a_full_slot_takes_nobody_back(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    booked(world, world.user("li"), place.slot_id)

    refusal = refused(lambda who: restore(world, join["id"], who), world.staff())

    assert (refusal.kind, refusal.params["left"]) == ((409, "slot_full"), 0)
    assert my_join(world, user, join["id"])["status"] == "revoked"
    assert stock(world, place.slot_id)["taken"] == 1


@pytest.mark.parametrize("limit", ["max_per_slot", "max_per_day", "max_ahead"])
def test_who_has_booked_again_meanwhile_is_not_given_more_than_their_limit(world: World, limit: str) -> None:
    rules: dict[str, Any] = {"max_per_slot": 9} | {limit: 1}
    place = a_slot(world, **rules)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    [other] = booked(world, user, place.slot_id)

    refusal = refused(lambda who: restore(world, join["id"], who), world.staff())
    revoke(world, other["id"])

    assert refusal.kind == (409, "already_joined")
    assert refusal.params == {"limit": limit, "held": 1, "allowed": 1}
    assert restore(world, join["id"]).status_code == 200
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_person_booked_meanwhile_is_not_booked_twice(world: World) -> None:
    place = a_slot(world, capacity=5, form=[NAME, ID_CARD])
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, id_card=A_PERSON)
    revoke(world, join["id"])
    booked(world, world.user("li"), place.slot_id, id_card=A_PERSON)

    refusal = refused(lambda who: restore(world, join["id"], who), world.staff())

    assert refusal.kind == (409, "person_already_joined")
    assert stock(world, place.slot_id)["taken"] == 1
    assert my_join(world, user, join["id"])["status"] == "revoked"


def test_a_restored_person_is_held_again(world: World) -> None:
    place = a_slot(world, capacity=5, form=[NAME, ID_CARD])
    [join] = booked(world, world.user("wang"), place.slot_id, id_card=A_PERSON)
    revoke(world, join["id"])
    restore(world, join["id"])

    assert code_of(book(world, world.user("li"), place.slot_id, id_card=A_PERSON)) == (409, "person_already_joined")


def test_what_is_over_is_not_restored(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(hours=1))
    [join] = booked(world, world.user("wang"), place.slot_id)
    revoke(world, join["id"])

    with time_machine.travel(place.slot.ends_at):
        refusal = refused(lambda who: restore(world, join["id"], who), world.staff())

    assert refusal.kind == (409, "slot_ended")


def test_only_what_staff_took_back_is_restored(world: World) -> None:
    place = a_slot(world, party_max=2)
    user = world.user("wang")
    held, given_back = booked(world, user, place.slot_id, "一一", "二二")
    cancel(world, user, given_back["id"])

    held_still = refused(lambda who: restore(world, held["id"], who), world.staff())
    cancelled = refused(lambda who: restore(world, given_back["id"], who), world.staff())

    assert held_still == cancelled
    assert held_still.kind == (409, "not_revoked")
    assert "Only a revoked booking" in held_still.english
    assert "只有后台取消的预约" in held_still.chinese


def test_staff_may_restore_into_a_closed_slot(world: World) -> None:
    place = a_slot(world, capacity=1)
    [join] = booked(world, world.user("wang"), place.slot_id)
    revoke(world, join["id"])
    place.change_slot(deleted=True)

    assert restore(world, join["id"]).status_code == 200
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_disabled_user_is_given_no_place_back(world: World) -> None:
    place, user = a_slot(world), world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    set_user(world, user_id(world, user), disabled=True, reason="多次爽约")

    assert code_of(restore(world, join["id"])) == (409, "person_disabled")
