"""The HTTP edge that every service shares."""

import asyncio

import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from libs.common import edge
from libs.common.ids import new_id
from tests.booking.builders import a_slot, booked
from tests.catalog.builders import a_hall
from tests.world import World


def test_an_unknown_address_is_a_problem_document_in_the_callers_language(world: World) -> None:
    answer = world.client.get("/api/catalog/nothing", headers={"Accept-Language": "en"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_the_default_language_is_chinese(world: World) -> None:
    answer = world.client.get("/api/catalog/nothing")

    assert answer.json()["detail"] == "没有找到相关内容"


def test_head_is_answered_as_get_without_its_content(world: World) -> None:
    a_hall(world)
    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        for path, headers in (
            ("/api/catalog/halls", {}),
            ("/api/booking/me", world.user("wang")),
            ("/api/catalog/nothing", {}),
        ):
            whole, head = client.get(path, headers=headers), client.head(path, headers=headers)

            told = [
                {name: answer.headers[name] for name in ("content-type", "content-length")} for answer in (whole, head)
            ]
            assert head.status_code == whole.status_code
            assert told[0] == told[1]
            assert (head.content, bool(whole.content)) == (b"", True)
        assert client.head("/api/booking/sessions").status_code == 405


def test_no_cache_keeps_what_is_asked_with_a_token(world: World) -> None:
    user = world.user("wang")
    [join] = booked(world, user, a_slot(world).slot_id)
    mine = [
        "/me",
        "/joins",
        f"/joins/{join['id']}",
        f"/joins/{join['id']}.ics",
        f"/joins/{join['id']}/qr.svg",
        "/nothing",
    ]
    asked = [(f"/api/booking{path}", user) for path in mine] + [("/api/notify/notices", user)]
    asked += [("/api/booking/staff/joins", world.staff()), ("/api/admin/audit", world.staff())]

    kept = {path: world.client.get(path, headers=who).headers.get_list("cache-control") for path, who in asked}

    assert kept == {path: ["private, no-store"] for path, _ in asked}
    assert "cache-control" not in world.client.get("/api/catalog/halls").headers


def test_a_misspelled_parameter_is_refused_and_named_rather_than_passed_over(world: World) -> None:
    answer = world.client.get("/api/catalog/items?hall=1&q=x", headers={"Accept-Language": "en"})

    assert answer.status_code == 422
    assert answer.json()["params"]["faults"] == [
        {"field": "query.hall", "reason": "unknown_parameter", "detail": "there is no such parameter"}
    ]


def test_each_fault_has_a_reason_that_stays_and_a_sentence_in_the_callers_language(world: World) -> None:
    body = {"title": "", "order": "7", "status": "on", "hall_id": "x", "form": [{"label": 5}], "more": 1}

    def faults(language: str) -> dict[str, tuple[str, str]]:
        headers = world.staff() | {"Accept-Language": language}
        answer = world.client.post("/api/catalog/staff/items", json=body, headers=headers)
        assert answer.json()["code"] == "invalid"
        return {
            fault["field"].removeprefix("body."): (fault["reason"], fault["detail"])
            for fault in answer.json()["params"]["faults"]
        }

    statuses = "'draft', 'open', 'stopped' or 'closed'"
    assert faults("en") == {
        "title": ("string_too_short", "has to have at least 1 characters"),
        "order": ("int_type", "has to be a whole number"),
        "status": ("enum", f"has to be {statuses}"),
        "hall_id": ("not_an_id", "is no id"),
        "form.0.key": ("missing", "is missing"),
        "form.0.type": ("missing", "is missing"),
        "form.0.label": ("string_type", "has to be text"),
        "more": ("extra_forbidden", "is not asked for"),
    }
    assert faults("zh")["status"] == ("enum", "只能是 'draft'、'open'、'stopped'、'closed'")
    assert faults("zh")["title"] == ("string_too_short", "至少需要1个字符")
    assert {field: reason for field, (reason, _) in faults("zh").items()} == {
        field: reason for field, (reason, _) in faults("en").items()
    }


def test_the_sentence_of_a_rarer_fault_is_there_too(world: World) -> None:
    body = {"periods": [], "from": "2026-02-30", "to": "0"}
    path = f"/api/catalog/staff/items/{new_id()}/days/fill"

    faults = world.client.post(path, json=body, headers=world.staff()).json()["params"]["faults"]

    assert {fault["field"]: fault["reason"] for fault in faults} == {
        "body.periods": "too_short",
        "body.from": "date_from_datetime_parsing",
        "body.to": "not_a_date",
    }
    assert all(fault["detail"] for fault in faults)


async def _never_in_time(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_who_is_told_to_come_back_at_the_deadline_can_quote_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "PATIENCE_S", 0.05)

    answer = TestClient(edge.Edge(_never_in_time, service="test", max_body_bytes=1000)).get("/late")

    assert answer.status_code == 503
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
