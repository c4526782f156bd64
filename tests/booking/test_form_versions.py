"""A join is shown by the form that it was made with, whatever becomes of the item's."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.contracts.catalog import FieldType, FormField
from services.booking import joins
from tests.booking.builders import NAME, Headers, Place, a_slot, book, booked, cancel, code_of, do, my_join
from tests.world import World, eventually

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


# --- what is unique goes by the form of now ---

CARD = FormField(key="card", type=FieldType.DIGITS, label="卡号", required=False)


def asks_once(place: Place, scope: str | None, *, version: int, sensitive: bool = False) -> None:
    """Let the item's form ask for the card once in this scope."""
    card = CARD.model_copy(update={"unique": scope, "sensitive": sensitive})
    place.change_item(form=[NAME, card], form_version=version)


@pytest.mark.parametrize("sensitive", [False, True])
def test_an_answer_that_is_made_unique_later_is_held_by_who_has_booked(world: World, sensitive: bool) -> None:
    place = a_slot(world)
    asks_once(place, None, version=2, sensitive=sensitive)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, card="100")
    do(world, "find")
    asks_once(place, "slot", version=3, sensitive=sensitive)

    do(world, "find")

    assert code_of(book(world, world.user("li"), place.slot_id, card="100")) == (409, "person_already_joined")
    assert cancel(world, user, join["id"]).status_code == 200
    booked(world, world.user("li"), place.slot_id, card="100")


def test_an_answer_that_is_made_unique_beyond_the_slot_is_held_there_too(world: World) -> None:
    place = a_slot(world)
    asks_once(place, "slot", version=2)
    elsewhere = place.another_slot(starts_in=timedelta(days=5))
    booked(world, world.user("wang"), place.slot_id, card="100")
    do(world, "find")
    booked(world, world.user("li"), elsewhere.slot_id, card="200")  # not found yet when the form changes
    asks_once(place, "item", version=3)

    do(world, "find")

    refused = [
        book(world, world.user("zhao"), slot_id, card=card)
        for slot_id, card in ((elsewhere.slot_id, "100"), (place.slot_id, "200"))
    ]
    assert [code_of(answer) for answer in refused] == [(409, "person_already_joined")] * 2


def test_who_is_booked_twice_when_an_answer_is_made_unique_stays_so(world: World) -> None:
    place = a_slot(world)
    asks_once(place, None, version=2)
    first, second, third = (world.user(name) for name in ("wang", "li", "zhao"))
    [before] = booked(world, third, place.slot_id, card="100")
    twice = [booked(world, user, place.slot_id, card="100")[0] for user in (first, second)]
    cancel(world, third, before["id"])  # who has left holds nothing
    asks_once(place, "slot", version=3)

    do(world, "find")

    assert [my_join(world, user, join["id"])["status"] for user, join in zip((first, second), twice, strict=True)] == [
        "booked",
        "booked",
    ]
    assert code_of(book(world, third, place.slot_id, card="100")) == (409, "person_already_joined")
    cancel(world, second, twice[1]["id"])
    assert code_of(book(world, third, place.slot_id, card="100")) == (409, "person_already_joined")
    cancel(world, first, twice[0]["id"])
    booked(world, third, place.slot_id, card="100")


def test_nothing_is_held_for_who_loses_the_place_in_that_moment(world: World) -> None:
    place = a_slot(world)
    asks_once(place, None, version=2)
    [join] = booked(world, world.user("wang"), place.slot_id, card="100")
    asks_once(place, "slot", version=3)

    with ThreadPoolExecutor(1) as pool, world.runtimes["booking"].db.transaction() as revoking:
        joins.revoke(revoking, join_id=join["id"], reason="停电检修", now=utcnow())
        finding = pool.submit(do, world, "find")
        waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        eventually(lambda: revoking.scalar(waiting))  # it has seen the join as it was, and looks again

    finding.result()
    booked(world, world.user("li"), place.slot_id, card="100")
