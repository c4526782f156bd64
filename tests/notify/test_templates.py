"""The words of notices: whose they are, who may change them, and that nothing but facts can be said with them."""

from typing import Any

import httpx2
import pytest

from libs.common.ids import new_id
from libs.contracts.principals import Role
from services.notify import wording
from services.notify.texts import TEXTS
from services.notify.wording import Faulty, parse, render
from tests.notify.builders import a_hall_known_to, a_join, a_slot, hear, notices_of
from tests.world import World

PATH = "/api/notify/staff/notice-templates"
OWN = {
    "title": {"zh": "约好了", "en": "See you"},
    "body": {"zh": "{item}，{date} {start}", "en": "{item}, {date} at {start}{?reason} ({reason}){/reason}"},
}


def put(
    world: World, body: Any, *, kind: str = "booked", who: Any = None, tag: str = "*", **query: Any
) -> httpx2.Response:
    headers = (who or world.staff()) | {"If-Match": tag}
    return world.client.put(f"{PATH}/{kind}", json=body, params=query, headers=headers)


def own(**body: str) -> dict[str, Any]:
    return OWN | {"body": OWN["body"] | body}


def told(world: World, hall_id: str, language: str = "en") -> tuple[str, str]:
    """Return title and body of what a user is told who has just booked in this hall."""
    join = a_join(a_slot(hall_id=hall_id))
    hear(world, join.booked())
    [notice] = notices_of(world, join.user_id, language)["items"]
    return notice["title"], notice["body"]


def previewed(world: World, kind: str, words: dict[str, Any]) -> list[str]:
    """Return the bodies that a preview shows, each in both languages."""
    body = {"title": words["title"], "body": words["body"]}
    answer = world.client.post(f"{PATH}/{kind}/preview", json=body, headers=world.staff())
    assert answer.status_code == 200, answer.text
    tried = answer.json()
    return [said["body"][language] for said in (tried, *tried["others"]) for language in ("zh", "en")]


# --- the language ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain", "plain"),
        ("{item}!", "护照!"),
        ("{{item}}", "{item}"),
        ("a{?item}[{item}]{/item}b", "a[护照]b"),
        ("a{?reason}[{reason}]{/reason}b", "ab"),
        ("{reason}", "none given"),
    ],
)
def test_a_template_says_what_it_says(text: str, said: str) -> None:
    assert render(parse(text), {"item": "护照", "reason": ""}, "en") == said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{secret}", "unknown_fact"),
        ("{?secret}x{/secret}", "unknown_fact"),
        ("{item.__class__}", "stray_brace"),
        ("{item[0]}", "stray_brace"),
        ("{item!r}", "stray_brace"),
        ("{item:>1000000000}", "stray_brace"),
        ("{0}", "stray_brace"),
        ("{}", "stray_brace"),
        ("{item", "stray_brace"),
        ("}", "stray_brace"),
        ("{?item}x", "section_not_closed"),
        ("x{/item}", "section_not_open"),
        ("{?item}{?item}x{/item}{/item}", "section_in_section"),
        ("{?item}{/hall}", "section_not_open"),
    ],
)
def test_what_is_no_template_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Faulty) as refused:
        parse(text, known=frozenset({"item", "hall"}))

    assert refused.value.reason == reason


def test_what_a_fact_holds_is_not_read_as_a_template() -> None:
    assert render(parse("{item}"), {"item": "{hall}{?x}"}, "en") == "{hall}{?x}"


def test_reading_takes_time_by_the_length_alone() -> None:
    with pytest.raises(Faulty):
        parse("{?item}" + "{" * 200_000)


# --- whose words they are ---


def test_a_halls_words_come_before_the_installations_before_the_built_in(world: World) -> None:
    hall, other = new_id(), new_id()
    assert told(world, hall)[0] == "Booked"

    put(world, OWN)
    assert told(world, hall) == ("See you", "护照办理, 3 Nov 2026 at 09:00")
    put(world, own(en="Here: {item}"), hall_id=hall)

    assert told(world, hall)[1] == "Here: 护照办理"
    assert told(world, other)[1] == "护照办理, 3 Nov 2026 at 09:00"
    assert told(world, hall, "zh") == ("约好了", "护照办理，2026年11月3日 09:00")


def test_reset_brings_back_what_stands_behind(world: World) -> None:
    hall = a_hall_known_to(world)
    put(world, OWN)
    put(world, own(en="Here"), hall_id=hall)

    for query, said in (({"hall_id": hall}, "See you"), ({}, "Booked")):
        assert world.client.delete(f"{PATH}/booked", params=query, headers=world.staff()).status_code == 204
        assert told(world, hall)[0] == said


def test_staff_see_what_is_in_force_and_whose_it_is(world: World) -> None:
    hall = a_hall_known_to(world)
    put(world, OWN, kind="moved")

    answer = world.client.get(PATH, params={"hall_id": hall}, headers=world.staff(Role.HALL_ADMIN, [hall]))

    found = {one["kind"]: one for one in answer.json()["items"]}
    assert set(found) == set(TEXTS)
    assert (found["moved"]["source"], found["booked"]["source"]) == ("installation", "built_in")
    assert "left" in found["moved"]["facts"]
    assert "left" not in found["booked"]["facts"]


def test_every_built_in_text_is_a_template_by_the_same_rules(world: World) -> None:
    for kind, texts in TEXTS.items():
        body = {
            "title": {"zh": texts.title.zh, "en": texts.title.en},
            "body": {"zh": texts.body.zh, "en": texts.body.en},
        }
        assert put(world, body, kind=kind).status_code == 200, kind


# --- changing them ---


def test_a_fault_is_refused_with_the_fact_that_is_unknown(world: World) -> None:
    answer = put(world, own(zh="{phone}", en="{item"))

    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "template_faulty"
    assert problem["params"]["faults"] == [
        {"field": "body_zh", "reason": "unknown_fact", "said": "phone"},
        {"field": "body_en", "reason": "stray_brace", "said": "{item"},
    ]
    assert "there is no {phone} in notices of this kind" in problem["detail"]


@pytest.mark.parametrize("text", ["{when}" * 300, "{?left} {/left}"], ids=["too much", "nothing"])
def test_what_comes_out_has_to_be_something_and_not_too_much(world: World, text: str) -> None:
    assert put(world, own(en=text), kind="moved").json()["code"] == "template_faulty"


@pytest.mark.parametrize("title", ["two\nlines", "turned \u202e round", "two\u2028lines", "\u200b\u200b"])
def test_a_title_can_be_read_on_one_line(world: World, title: str) -> None:
    answer = put(world, OWN | {"title": {"zh": "约好了", "en": title}})

    assert (answer.status_code, answer.json()["code"]) in ((422, "invalid"), (422, "template_faulty"))


def test_a_preview_fills_in_sample_facts_and_changes_nothing(world: World) -> None:
    answer = world.client.post(f"{PATH}/booked/preview", json=OWN, headers=world.staff())

    assert answer.json()["body"] == {
        "zh": "护照办理，2026年11月3日 09:00",
        "en": "护照办理, 3 Nov 2026 at 09:00 (系统维护)",
    }
    assert told(world, new_id())[0] == "Booked"


@pytest.mark.parametrize("kind", TEXTS)
def test_a_preview_has_all_that_notices_of_the_kind_tell(world: World, kind: str) -> None:
    built_in = world.client.get(f"{PATH}/{kind}", headers=world.staff()).json()

    zh, en = previewed(world, kind, built_in)[:2]

    assert "未说明" not in zh
    assert "none given" not in en


def test_a_preview_shows_what_is_said_with_and_without(world: World) -> None:
    built_in = world.client.get(f"{PATH}/slot_changed", headers=world.staff()).json()

    bodies = previewed(world, "slot_changed", built_in)[1::2]

    assert [("It was" in said, "closed" in said, "open again" in said) for said in bodies] == [
        (True, True, False),
        (True, False, False),
        (False, False, True),
    ]


def test_announcements_know_facts_of_their_own(world: World) -> None:
    words = {
        "title": {"zh": "{title}", "en": "{title}"},
        "body": {"zh": "{summary}", "en": "{?hall}{hall}: {/hall}{summary}"},
    }

    assert put(world, words, kind="announcement").json()["facts"] == ["hall", "summary", "title"]
    assert previewed(world, "announcement", words)[1::2] == [
        "天河政务中心: 十月一日至七日各服务厅暂停服务。",
        "十月一日至七日各服务厅暂停服务。",
    ]
    faults = put(world, own(zh="{date}"), kind="announcement").json()["params"]["faults"]
    assert {"field": "body_zh", "reason": "unknown_fact", "said": "date"} in faults


def test_who_comes_second_is_told(world: World) -> None:
    tag = world.client.get(f"{PATH}/booked", headers=world.staff()).headers["ETag"]

    first, second = put(world, OWN, tag=tag), put(world, own(en="Mine"), tag=tag)

    assert (first.status_code, second.status_code) == (200, 412)
    assert put(world, own(en="Mine"), tag=first.headers["ETag"]).status_code == 200


def test_a_hall_admin_changes_the_words_of_their_hall_alone(world: World) -> None:
    hall, other = a_hall_known_to(world), a_hall_known_to(world)
    admin = world.staff(Role.HALL_ADMIN, [hall])

    assert put(world, OWN, who=admin, hall_id=hall).status_code == 200
    assert put(world, OWN, who=admin, hall_id=other).status_code == 404
    assert put(world, OWN, who=admin).json()["code"] == "role_forbids"


def test_nobody_writes_words_for_a_hall_that_there_is_not(world: World) -> None:
    assert put(world, OWN, hall_id=new_id()).status_code == 404


def test_changes_are_in_the_audit_trail(world: World) -> None:
    hall = a_hall_known_to(world)
    put(world, OWN, hall_id=hall)
    put(world, OWN, hall_id=hall)  # nothing new
    put(world, own(en="Mine"), hall_id=hall)
    world.client.delete(f"{PATH}/booked", params={"hall_id": hall}, headers=world.staff())
    world.settle()

    trail = world.client.get("/api/admin/audit", params={"hall_id": hall}, headers=world.staff()).json()["items"]

    assert [entry["action"] for entry in trail] == [
        "notice_template.reset",
        "notice_template.changed",
        "notice_template.created",
    ]
    assert trail[1]["before"]["body_en"] == OWN["body"]["en"]


def test_a_fact_that_a_later_release_drops_is_said_to_be_missing() -> None:
    assert wording.render(wording.parse("{gone}"), {}, "zh") == "未说明"
