"""What a form asks and what is taken for an answer: catalog and booking agree on it."""

from typing import Any

import pytest

from libs.contracts.catalog import FieldType, FormField
from tests.booking.builders import NAME, a_slot, book, booked, code_of
from tests.catalog.builders import a_day, a_hall, an_item, in_days
from tests.world import World

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
