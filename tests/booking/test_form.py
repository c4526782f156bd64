"""What a form asks and what is taken for an answer: catalog and booking agree on it."""

from typing import Any

import pytest

from libs.contracts.catalog import FieldType, FormField
from tests.booking.builders import NAME, a_slot, book, booked, code_of
from tests.booking.uploading import A_PDF, an_image
from tests.catalog.builders import STAFF, a_day, a_hall, an_item, in_days, shown
from tests.world import World

pytestmark = pytest.mark.usefixtures("noon")

OPTION = "Cafe\u0301 "  # decomposed, and with a space behind it


def test_the_longest_answers_that_a_form_may_ask_for_are_taken(world: World) -> None:
    form = [
        {"key": "name", "type": "text", "label": "姓名", "min": 200, "max": 200},
        {"key": "story", "type": "textarea", "label": "经过", "min": 10_000, "max": 10_000},
        {"key": "card", "type": "digits", "label": "卡号", "min": 50, "max": 50},
    ]
    item = an_item(world, a_hall(world), form=form)
    [slot] = a_day(world, item, in_days(1))["slots"]
    world.settle()

    [join] = booked(world, world.user("wang"), slot["id"], "名" * 200, story="事" * 10_000, card="7" * 50)

    assert {key: len(said) for key, said in join["answers"].items()} == {"name": 200, "story": 10_000, "card": 50}


@pytest.mark.parametrize(
    ("type", "said", "kept"),
    [
        (FieldType.SELECT, OPTION, "Café"),
        (FieldType.RADIO, "Café", "Café"),
        (FieldType.CHECKBOX, [OPTION], ["Café"]),
    ],
)
def test_an_option_is_chosen_however_its_letters_are_composed(
    world: World, type: FieldType, said: Any, kept: Any
) -> None:
    place = a_slot(world, form=[NAME, FormField(key="drink", type=type, label="饮品", options=[OPTION, "茶"])])

    [join] = booked(world, world.user("wang"), place.slot_id, drink=said)

    assert join["answers"]["drink"] == kept


@pytest.mark.parametrize(("first", "spellings"), [(1, [1.0, "1", "1.0", "+1", "01."]), (-0.0, [0, 0.0, "-0", "-.0"])])
def test_a_unique_number_is_one_however_it_is_spelled(world: World, first: float, spellings: list[Any]) -> None:
    number = FormField(key="number", type=FieldType.NUMBER, label="编号", unique="slot")
    place = a_slot(world, form=[NAME, number])
    [join] = booked(world, world.user("wang"), place.slot_id, number=first)

    answers = [book(world, world.user("li"), place.slot_id, number=spelling) for spelling in spellings]

    assert str(join["answers"]["number"]) == str(int(first))
    assert {code_of(answer) for answer in answers} == {(409, "person_already_joined")}


EVERY_TYPE: dict[str, Any] = {
    "text": "王大年",
    "textarea": "第一行\n第二行",
    "number": 2.5,
    "digits": "007",
    "mobile": "13800138000",
    "id_card": "11010519491231002X",
    "plate": "粤A12345",
    "date": "2026-02-28",
    "month": "2026-02",
    "time": "09:30",
    "region": ["广东省", "广州市", "天河区"],
    "select": "茶",
    "radio": "水",
    "checkbox": ["茶", "水"],
    "switch": False,
}


def test_every_type_of_field_is_asked_and_answered(world: World) -> None:
    choices = {"select", "radio", "checkbox"}
    form = [
        {"key": kind, "type": kind, "label": kind, "options": ["茶", "水"] if kind in choices else []}
        for kind in FieldType
    ]
    item = an_item(world, a_hall(world), form=form)
    [slot] = a_day(world, item, in_days(1))["slots"]
    world.settle()
    user = world.user("wang")
    files = {}
    for kind, data in (("image", an_image()), ("file", A_PDF)):
        body = {"item_id": item["id"], "field": kind}
        answer = world.client.post("/api/booking/uploads", data=body, files={"file": ("a", data)}, headers=user)
        files[kind] = answer.json()["reference"]

    answer = world.client.post(
        "/api/booking/joins",
        json={"slot_id": slot["id"], "attendees": [{"answers": EVERY_TYPE | files}]},
        headers=user | {"Idempotency-Key": "every-type"},
    )

    assert answer.status_code == 201, answer.text
    said = answer.json()["joins"][0]["answers"]
    assert {kind: said[kind] for kind in EVERY_TYPE} == EVERY_TYPE
    assert {kind: said[kind]["name"] for kind in files} == {"image": "a.jpg", "file": "a.pdf"}
    assert set(said) == set(FieldType)


def test_fields_are_asked_in_the_order_that_staff_last_gave_them(world: World) -> None:
    form = [{"key": key, "type": "text", "label": key, "required": False} for key in ("first", "second", "third")]
    item = an_item(world, a_hall(world), form=form)
    [slot] = a_day(world, item, in_days(1))["slots"]

    changed = world.client.patch(f"{STAFF}/items/{item['id']}", json={"form": form[::-1]}, headers=world.staff())

    world.settle()
    asked = world.client.get(f"/api/booking/slots/{slot['id']}/form", headers=world.user("wang")).json()["form"]
    assert [field["key"] for field in shown(changed)["form"]] == ["third", "second", "first"]
    assert [field["key"] for field in asked] == ["third", "second", "first"]


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*b", "(.*a){25}b", "(a*)*(a*)*b"])
def test_no_pattern_that_staff_write_keeps_anybody_waiting(world: World, pattern: str) -> None:
    """An engine that goes back and tries again would take longer than there is time for each of these."""
    form = [NAME, FormField(key="story", type=FieldType.TEXTAREA, label="经过", pattern=pattern)]
    place = a_slot(world, form=form)

    answer = book(world, world.user("wang"), place.slot_id, story="a" * 10_000)

    assert code_of(answer) == (422, "form_invalid")
    assert [fault["reason"] for fault in answer.json()["params"]["faults"]] == ["bad_format"]


def test_a_form_shows_its_defaults_until_the_user_has_answered(world: World) -> None:
    drink = FormField(
        key="drink", type=FieldType.SELECT, label="饮品", options=["茶", "水"], default="茶", required=False
    )
    agent = FormField(key="agent", type=FieldType.SWITCH, label="代办", default=False)
    place = a_slot(world, form=[NAME, drink, agent])
    user = world.user("wang")

    def prefill() -> Any:
        return world.client.get(f"/api/booking/slots/{place.slot_id}/form", headers=user).json()["prefill"]

    before = prefill()
    unanswered = book(world, user, place.slot_id)
    booked(world, user, place.slot_id, "王大年", agent=True)
    pages = FormField(key="pages", type=FieldType.NUMBER, label="份数", default=1)
    place.change_item(form=[NAME, drink, agent, pages], form_version=2)

    assert before == {"drink": "茶", "agent": False}
    assert [fault["field"] for fault in unanswered.json()["params"]["faults"]] == ["agent"]
    assert prefill() == {"name": "王大年", "agent": True, "pages": 1}
