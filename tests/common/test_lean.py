"""Lean routes: what they answer is answered, and everything else is left to the ordinary route."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from libs.common import lean
from libs.common.errors import Conflict
from libs.common.web import Schema, create_app
from tests.world import World

JSON = {"Content-Type": "application/json"}
PATH = "/api/catalog/greetings"


class Greeting(Schema):
    text: str


async def greet(request: lean.Request) -> lean.Answer | None:
    """Answer what begins with "lean"; leave the rest."""
    body = await request.body()
    if b"broken" in body:
        raise ValueError("a fault of ours")
    if b"rude" in body:
        raise Conflict(said="rude")
    if not body.startswith(b"lean"):
        return None
    told = f"{request.path['name']} {request.query.decode()} {request.header(b'x-tone')}".encode()
    return lean.Answer(201, told + body[4:], media_type="text/plain", headers={"ETag": '"1"'})


router = APIRouter()


@router.post("/greetings/{name}", status_code=201)
@lean.answered_first_by(greet)
def say(name: str, greeting: Greeting, loud: bool = False) -> dict[str, Any]:
    """Say it the ordinary way."""
    return {"name": name, "text": greeting.text, "loud": loud}


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    runtime = world.runtimes["catalog"]
    runtime = replace(runtime, service=replace(runtime.service, routers=(router,)))
    with TestClient(create_app(runtime), raise_server_exceptions=False) as client:
        yield client


def test_a_lean_handler_sees_path_query_headers_and_the_whole_body(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        yield from (b"le", b"an", b" and", b" whole")

    answer = client.post(f"{PATH}/mei?loud=1", content=body(), headers=[("X-Tone", "soft"), ("X-Tone", "low")])

    assert (answer.status_code, answer.text) == (201, "mei loud=1 soft, low and whole")
    assert (answer.headers["content-type"], answer.headers["etag"]) == ("text/plain", '"1"')
    assert answer.headers["x-request-id"]


def test_what_it_leaves_is_answered_by_the_ordinary_route_from_the_beginning(client: TestClient) -> None:
    answer = client.post(f"{PATH}/mei?loud=1", json={"text": "hello"})

    assert (answer.status_code, answer.json()) == (201, {"name": "mei", "text": "hello", "loud": True})


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (lambda client: client.post(f"{PATH}/mei?aloud=1", json={"text": "hello"}), 422, "invalid"),
        (lambda client: client.post(f"{PATH}/mei", json={"txt": "hello"}), 422, "invalid"),
        (lambda client: client.post(f"{PATH}/mei", content=b"{", headers=JSON), 400, "bad_json"),
        (lambda client: client.post(f"{PATH}/mei", content=b"rude"), 409, "conflict"),
        (lambda client: client.post(f"{PATH}/mei", content=b"broken"), 500, "internal"),
        (lambda client: client.post(f"{PATH}/mei", content=b"lean" * 400_000), 413, "too_large"),
        (lambda client: client.post(f"{PATH}/mei", content=iter([b"lean" * 400_000])), 413, "too_large"),
        (lambda client: client.get(f"{PATH}/mei"), 405, "method_not_allowed"),
        (lambda client: client.head(f"{PATH}/mei"), 405, None),
        (lambda client: client.post(f"{PATH}/mei/li", content=b"lean"), 404, "not_found"),
    ],
)
def test_what_is_refused_is_a_problem_document_as_anywhere(
    client: TestClient, call: Callable[[TestClient], httpx2.Response], status: int, code: str | None
) -> None:
    answer = call(client)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    if code is not None:
        assert (answer.json()["code"], answer.json()["request_id"]) == (code, answer.headers["x-request-id"])


def test_a_refusal_speaks_the_callers_language(client: TestClient) -> None:
    english = client.post(f"{PATH}/mei", content=b"rude", headers={"Accept-Language": "en"})
    chinese = client.post(f"{PATH}/mei", content=b"rude")

    assert english.json()["detail"] == "This does not fit the present state; load it again and retry."
    assert chinese.json()["detail"] == "内容已发生变化，请刷新后重试"


def test_both_ways_count_under_the_same_route(client: TestClient) -> None:
    labels = {"service": "catalog", "method": "POST", "route": "/greetings/{name}", "status": "201"}
    before = REGISTRY.get_sample_value("hallpass_http_requests_total", labels) or 0

    client.post(f"{PATH}/mei", content=b"lean")
    client.post(f"{PATH}/mei", json={"text": "hello"})

    assert REGISTRY.get_sample_value("hallpass_http_requests_total", labels) == before + 2


def test_the_document_describes_the_ordinary_route(client: TestClient) -> None:
    operation = client.get("/api/catalog/openapi.json").json()["paths"]["/api/catalog/greetings/{name}"]["post"]

    assert operation["description"] == "Say it the ordinary way."
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name", "loud"]


def test_a_caller_who_hangs_up_gets_no_answer_and_breaks_nothing(client: TestClient) -> None:
    sent: list[Any] = []
    coming = [{"type": "http.request", "body": b"le", "more_body": True}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "POST", "path": f"{PATH}/mei", "query_string": b"", "headers": []}

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]  # TestClient types its app loosely

    assert sent == []


def test_a_kept_answer_can_be_sent_again_and_again(world: World) -> None:
    kept = lean.Answer(200, b"{}")
    again = APIRouter()

    async def from_memory(request: lean.Request) -> lean.Answer:
        return kept

    @again.get("/greetings")
    @lean.answered_first_by(from_memory)
    def never() -> None: ...

    runtime = world.runtimes["catalog"]
    client = TestClient(create_app(replace(runtime, service=replace(runtime.service, routers=(again,)))))
    answers = [client.get(PATH) for _ in range(3)]

    assert [answer.content for answer in answers] == [b"{}"] * 3
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert [answer.headers.get_list("x-request-id") for answer in answers] == [
        [answer.headers["x-request-id"]] for answer in answers
    ]
