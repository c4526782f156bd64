"""A join is shown by the form that it was made with, whatever becomes of the item's."""

from typing import Any

from libs.contracts.catalog import FieldType, FormField
from tests.booking.builders import NAME, Headers, Place, a_slot, booked, my_join
from tests.world import World

ILLNESS = FormField(key="about", type=FieldType.SELECT, label="病情", options=["阳性患者", "阴性"], sensitive=True)
REMARK = FormField(key="about", type=FieldType.TEXT, label="备注", required=False, sensitive=True)


def labels(join: dict[str, Any]) -> list[str]:
    return [field["label"] for field in join["form"]]


def seen_by_staff(world: World, join_id: str) -> dict[str, Any]:
    answer = world.client.get(f"/api/booking/staff/joins/{join_id}", headers=world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def listed_to_staff(world: World, join_id: str) -> dict[str, Any]:
    page = world.client.get("/api/booking/staff/joins", headers=world.staff()).json()
    return next(join for join in page["items"] if join["id"] == join_id)


def prefill(world: World, user: Headers, place: Place) -> Any:
    return world.client.get(f"/api/booking/slots/{place.slot_id}/form", headers=user).json()["prefill"]


def test_each_join_is_shown_with_the_form_that_it_was_made_with(world: World) -> None:
    place = a_slot(world, form=[NAME, ILLNESS], max_per_slot=9)
    user = world.user("wang")
    [first] = booked(world, user, place.slot_id, about="阴性")
    place.change_item(form=[REMARK, NAME], form_version=2)
    [second] = booked(world, user, place.slot_id, about="轮椅")

    for seen in (my_join(world, user, first["id"]), seen_by_staff(world, first["id"])):
        assert labels(seen) == ["姓名", "病情"]
    for seen in (my_join(world, user, second["id"]), seen_by_staff(world, second["id"])):
        assert labels(seen) == ["备注", "姓名"]


def test_an_answer_is_masked_as_the_question_that_it_answers(world: World) -> None:
    place = a_slot(world, form=[NAME, ILLNESS])
    [join] = booked(world, world.user("wang"), place.slot_id, about="阳性患者")

    place.change_item(form=[NAME, REMARK], form_version=2)

    assert seen_by_staff(world, join["id"])["answers"]["about"] == "***"
    assert listed_to_staff(world, join["id"])["answers"]["about"] == "***"


def test_an_answer_to_a_question_that_is_gone_is_masked_as_it_was(world: World) -> None:
    phone = FormField(key="phone", type=FieldType.MOBILE, label="手机号")
    place = a_slot(world, form=[NAME, phone])
    [join] = booked(world, world.user("wang"), place.slot_id, phone="13800138000")

    place.change_item(form=[NAME], form_version=2)

    assert seen_by_staff(world, join["id"])["answers"]["phone"] == "138******00"


def test_a_form_is_filled_in_with_answers_to_the_same_questions_only(world: World) -> None:
    place = a_slot(world, form=[NAME, ILLNESS])
    user = world.user("wang")
    booked(world, user, place.slot_id, "王大年", about="阴性")
    before = prefill(world, user, place)

    place.change_item(form=[REMARK, NAME], form_version=2)

    assert before == {"name": "王大年", "about": "阴性"}
    assert prefill(world, user, place) == {"name": "王大年"}
