"""What clients may write for a number, a switch, a date or an instant."""

from typing import Any

import pytest

from tests.booking.builders import a_slot
from tests.catalog.builders import STAFF, a_category, a_day, a_hall, an_item, day_url, in_days
from tests.world import World

PERIOD = {"start": "09:00", "end": "12:00"}
FIELD = {"key": "name", "type": "text", "label": "姓名"}


@pytest.mark.usefixtures("noon")
def test_what_only_looks_like_a_number_or_a_switch_is_refused(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    day = a_day(world, item, in_days(1))
    staff = world.staff() | {"If-Match": day["etag"]}
    of_item, of_hall = f"{STAFF}/items/{item['id']}", f"{STAFF}/halls/{hall['id']}"
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", day_url(item, in_days(1)), {"slots": [PERIOD | {"capacity": capacity}]})
        for capacity in (True, "5", 5.5)
    ]
    refused += [("PUT", day_url(item, in_days(1)), {"slots": [PERIOD | {"start": 32_400}]})]
    refused += [("PATCH", of_item, {"recommended": said}) for said in ("yes", 1, "true")]
    refused += [("PATCH", of_item, {"order": said}) for said in ("7", True)]
    refused += [
        ("PATCH", of_item, {"form": [FIELD | said]}) for said in ({"required": "yes"}, {"min": "2"}, {"min": True})
    ]
    refused += [("PATCH", of_item, {"rules": said}) for said in ({"party_max": "5"}, {"party_max": True})]
    refused += [("PATCH", of_item, {"rules": {"opens_days_before": 1, "opens_at": 28_800}})]
    refused += [("PATCH", of_hall, {"position": {"lat": "1", "lng": 2}}), ("PATCH", of_hall, {"status": 1})]
    refused += [("POST", f"{STAFF}/items/{item['id']}/days/fill", {"periods": [PERIOD], "from": 0, "to": 1})]

    answers = [world.client.request(method, url, json=body, headers=staff) for method, url, body in refused]

    assert {answer.json()["code"] for answer in answers} == {"invalid"}
    assert a_category(world, order=7)["order"] == 7


@pytest.mark.parametrize("text", ["坏\ufffe标题", "a\nb", "a\x07b", "a\u202eb", "a\u2028b", "a\U0001ffffb", "a\u2066b"])
def test_what_breaks_or_turns_a_line_is_in_no_name(world: World, text: str) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    boss = world.staff()
    of_item, of_hall = f"{STAFF}/items/{item['id']}", f"{STAFF}/halls/{hall['id']}"
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("PATCH", of_item, {"title": text}),
        ("PATCH", of_hall, {"name": text}),
        ("POST", f"{STAFF}/categories", {"name": text}),
        ("PATCH", of_item, {"form": [FIELD | {"label": text}]}),
    ]

    answers = [world.client.request(method, url, json=body, headers=boss) for method, url, body in refused]

    assert [answer.json()["code"] for answer in answers] == ["invalid"] * 3 + ["form_unfit"]
    assert an_item(world, hall, title="办证👨‍👩‍👧")["title"] == "办证👨‍👩‍👧"


@pytest.mark.parametrize("people", [True, "1", 1.5])
def test_a_number_of_people_is_a_number(world: World, people: Any) -> None:
    place = a_slot(world)

    answer = world.client.post(
        f"/api/booking/slots/{place.slot_id}/check", json={"people": people}, headers=world.user("wang")
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("day", ["0", "1767225600", "2026-01-01T00:00:00", "20260101", "2026-1-1", ""])
def test_a_date_is_a_date_in_every_query(world: World, day: str) -> None:
    user, boss = world.user("wang"), world.staff()
    asked = [
        ("/api/booking/joins", "day", user),
        ("/api/booking/staff/joins", "from", boss),
        ("/api/booking/staff/joins", "to", boss),
        ("/api/notify/staff/stats", "from", boss),
        ("/api/notify/staff/stats", "to", boss),
    ]

    answers = [world.client.get(path, params={name: day}, headers=who) for path, name, who in asked]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(422, "invalid")] * len(asked)


@pytest.mark.parametrize("instant", ["0", "1767225600", "2026-01-01", "2026-01-01T00:00:00", ""])
def test_an_instant_is_written_out(world: World, instant: str) -> None:
    answers = [
        world.client.get("/api/admin/audit", params={name: instant}, headers=world.staff()) for name in ("from", "to")
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    fine = world.client.get("/api/admin/audit", params={"from": "2026-01-01T00:00:00+08:00"}, headers=world.staff())
    assert fine.status_code == 200
