"""Staff find a person's joins by name or number, within seconds of the booking, and learn nothing by trying."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from sqlalchemy import text

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from tests.booking.builders import (
    NAME,
    Headers,
    a_slot,
    booked,
    cancel,
    checked_in,
    code_of,
    do,
    move,
    user_id,
)
from tests.world import World

PHONE = FormField(key="phone", type=FieldType.MOBILE, label="手机号", required=False)
ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", required=False)
PLATE = FormField(key="plate", type=FieldType.PLATE, label="车牌", required=False)
ALIAS = FormField(key="alias", type=FieldType.TEXT, label="曾用名", required=False, sensitive=True)
ILLNESS = FormField(
    key="illness", type=FieldType.SELECT, label="病情", options=["阳性患者"], required=False, sensitive=True
)
BORN = FormField(key="born", type=FieldType.DATE, label="生日", required=False)
NOTE = FormField(key="note", type=FieldType.TEXTAREA, label="备注", required=False)
FORM = [NAME, PHONE, ID_CARD, PLATE, ALIAS, ILLNESS, BORN, NOTE]


def found(world: World, person: str, staff: Headers | None = None, **query: Any) -> list[str]:
    """Return the ids of the joins that staff find."""
    query |= {"person": person}
    answer = world.client.get("/api/booking/staff/joins", params=query, headers=staff or world.staff())
    assert answer.status_code == 200, answer.text
    return [join["id"] for join in answer.json()["items"]]


@pytest.mark.parametrize(
    "person",
    [
        "王小明",
        "小明",
        "王 小明",
        "13800138000",
        "+86 138 0013 8000",
        "11010519491231002x",
        "粤a12345",
        "旧名字",
    ],
)
def test_a_person_is_found_by_what_identifies_them(world: World, person: str) -> None:
    place = a_slot(world, form=FORM, party_max=2)
    answers = {"phone": "13800138000", "id_card": "11010519491231002X", "plate": "粤A12345", "alias": "旧名字"}
    wang, _ = booked(world, world.user("wang"), place.slot_id, "王小明", "李四", **answers)

    do(world, "find")

    assert found(world, person) == [wang["id"]]


@pytest.mark.parametrize(
    "person",
    [
        pytest.param("1380013800", id="part of a number"),
        pytest.param("旧名", id="part of a sensitive answer"),
        pytest.param("阳性患者", id="a sensitive choice"),
        pytest.param("1949-12-31", id="a date"),
        pytest.param("花生", id="a remark"),
        pytest.param("%", id="a wildcard"),
        pytest.param("王小明\n李四", id="two people"),
        pytest.param(" ", id="nothing"),
    ],
)
def test_nobody_is_found_by_what_is_masked_or_shared(world: World, person: str) -> None:
    place = a_slot(world, form=FORM, party_max=2)
    answers = {"phone": "13800138000", "alias": "旧名字", "illness": "阳性患者", "born": "1949-12-31", "note": "花生"}
    booked(world, world.user("wang"), place.slot_id, "王小明", "李四", **answers)

    do(world, "find")

    assert found(world, person) == []


def test_a_user_is_found_by_their_own_name_and_number_at_once(world: World) -> None:
    place, user = a_slot(world), world.user("wang")
    [join] = booked(world, user, place.slot_id)
    booked(world, world.user("li"), place.slot_id)
    world.client.patch("/api/booking/me", json={"name": "王_小明", "phone": "138 0013 8000"}, headers=user)

    assert found(world, "13800138000") == found(world, "王_") == [join["id"]]
    world.client.patch("/api/booking/me", json={"name": "", "phone": ""}, headers=user)
    assert found(world, "13800138000") == found(world, "王_") == []


def test_who_is_found_goes_with_every_other_question(world: World) -> None:
    place, elsewhere = a_slot(world, max_per_slot=9, cancel="anytime"), a_slot(world)
    user = world.user("wang")
    [here], [gone] = (booked(world, user, place.slot_id) for _ in range(2))
    [there] = booked(world, user, elsewhere.slot_id)
    cancel(world, user, gone["id"])
    do(world, "find")

    assert found(world, "张三") == [there["id"], gone["id"], here["id"]]
    assert found(world, "张三", status="booked", hall_id=place.hall_id) == [here["id"]]
    assert found(world, "张三", staff=world.staff(Role.VERIFIER, [elsewhere.hall_id])) == [there["id"]]
    assert found(world, "李四") == []


def test_a_moved_join_is_still_found(world: World) -> None:
    place, user = a_slot(world, cancel="anytime"), world.user("wang")
    [join] = booked(world, user, place.slot_id)
    do(world, "find")

    assert move(world, user, join["id"], place.another_slot().slot_id).status_code == 200

    assert found(world, "张三") == [join["id"]]


def test_a_name_made_sensitive_later_is_found_by_the_whole_of_it_alone(world: World) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id, "王小明")
    do(world, "find")

    place.change_item(form=[NAME.model_copy(update={"sensitive": True})], form_version=2)

    assert found(world, "小明") == []
    do(world, "find")
    assert (found(world, "小明"), found(world, "王小明")) == ([], [join["id"]])


def test_an_answer_is_what_the_form_was_when_it_was_given(world: World) -> None:
    place = a_slot(world, form=[NAME, ILLNESS, ID_CARD])
    answers = {"illness": "阳性患者", "id_card": "11010519491231002X"}
    [join] = booked(world, world.user("wang"), place.slot_id, **answers)

    asked_in_words = FormField(key="illness", type=FieldType.TEXT, label="病情", required=False)
    place.change_item(form=[NAME, asked_in_words], form_version=2)  # and no question for the ID card any more
    do(world, "find")

    assert found(world, "阳性患者") == []
    assert found(world, "11010519491231002X") == [join["id"]]


def test_what_is_booked_while_others_are_added_is_added_next(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    user = world.user("wang")
    first = booked(world, user, place.slot_id)
    added = [do(world, "find")]
    second = booked(world, user, place.slot_id)
    added += [do(world, "find"), do(world, "find")]

    assert added == [1, 1, 0]
    assert found(world, "张三") == [second[0]["id"], first[0]["id"]]


def test_a_join_that_was_committed_far_too_late_is_found_after_the_night(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    user = world.user("wang")
    [late] = booked(world, user, place.slot_id, "李四")
    with time_machine.travel(place.slot.starts_at - timedelta(hours=1)):
        # uuid7 asks the system's clock: the id of this join is what a clock an hour ahead would have made.
        [ahead] = booked(world, user, place.slot_id, "王五")
    _make_it_an_hour_later(world, ahead["id"])
    assert do(world, "find") == 2
    _forget(world, late["id"])

    assert (do(world, "find"), found(world, "李四")) == (0, [])
    assert do(world, "upkeep")["findables"] == 1
    assert found(world, "李四") == [late["id"]]


def _make_it_an_hour_later(world: World, join_id: str) -> None:
    later = f"{int(join_id[:8], 16) + 60:08x}" + new_id()[8:]
    with world.runtimes["booking"].db.transaction() as session:
        session.execute(text("UPDATE joins SET id = :later WHERE id = :id"), {"later": later, "id": join_id})


def _forget(world: World, join_id: str) -> None:
    with world.runtimes["booking"].db.transaction() as session:
        session.execute(text("DELETE FROM findables WHERE join_id = :id"), {"id": join_id})


def test_numbers_can_not_be_found_out_by_trying(make_world: Callable[..., World]) -> None:
    world = make_world(person_rate="3/minute")
    staff, path = world.staff(), "/api/booking/staff/joins"

    tries = [world.client.get(path, params={"person": f"1380013800{n}"}, headers=staff) for n in range(4)]

    assert [answer.status_code for answer in tries] == [200, 200, 200, 429]
    assert world.client.get(path, headers=staff).status_code == 200
    assert code_of(world.client.get(f"{path}?person=", headers=world.staff())) == (422, "invalid")


def test_joins_are_listed_by_user_and_by_who_did_not_come(world: World) -> None:
    place = a_slot(world, party_max=2, starts_in=timedelta(minutes=-30), lasts=timedelta(hours=1))
    wang, li = world.user("wang"), world.user("li")
    absent, present = booked(world, wang, place.slot_id, "一一", "二二")
    [other] = booked(world, li, place.slot_id)
    checked_in(world, present["id"])

    def listed(**query: Any) -> list[str]:
        items = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff()).json()["items"]
        return [join["id"] for join in items]

    assert listed(user_id=user_id(world, li)) == [other["id"]]
    assert listed(missed="true") == []
    with time_machine.travel(place.slot.ends_at + timedelta(minutes=1)):
        assert listed(missed="true") == [other["id"], absent["id"]]
        assert listed(missed="true", user_id=user_id(world, wang)) == [absent["id"]]
        assert listed(missed="false") == [present["id"]]


def test_numbers_of_users_are_hashed_anew_by_night_where_something_else_set_them(world: World) -> None:
    place, user = a_slot(world), world.user("wang")
    [join] = booked(world, user, place.slot_id)
    world.client.patch("/api/booking/me", json={"phone": "13800138000"}, headers=user)
    with world.runtimes["booking"].db.transaction() as session:
        session.execute(text("UPDATE users SET phone_digest = NULL"))  # as the release before this one leaves it

    assert found(world, "13800138000") == []
    assert do(world, "upkeep")["phones"] == 1
    assert found(world, "13800138000") == [join["id"]]
