"""The first page, the API documentation and the health of the whole."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deploy import front as front_module
from deploy import health as health_of_all
from deploy.front import front
from deploy.health import Found, Health, over_http
from deploy.names import SERVICE_NAMES
from libs.common import health as health_of_one
from tests.common.receiver import nobody
from tests.world import World

OK: Found = {"status": "ok", "parts": {"database": {"status": "ok", "detail": "migrated to 0001"}}}
NO_REDIS: Found = {"status": "degraded", "parts": {"redis": {"status": "degraded", "detail": "no answer"}}}
NO_DATABASE: Found = {"status": "down", "parts": {"database": {"status": "down", "detail": "no answer"}}}


def a_front(**services: Found) -> TestClient:
    """A front over services that say these things of themselves."""

    async def say(found: Found) -> Found:
        return found

    asks = {name: partial(say, found) for name, found in services.items()}
    return TestClient(front(Health(asks)), raise_server_exceptions=False)


# --- pages ---


@pytest.mark.parametrize("path", ["/", "/?lang=en", *(f"/docs/{name}" for name in SERVICE_NAMES)])
def test_a_page_names_no_other_host(path: str) -> None:
    answer = a_front().get(path)

    assert answer.status_code == 200
    assert not re.search(rb"https?:|//[a-z]|@import|url\(", answer.content)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:|\*|//|unsafe-eval", policy)


def test_the_first_page_links_to_the_documentation_of_every_service_and_to_health() -> None:
    page = a_front().get("/").text

    links = set(re.findall(r'href="([^"]+)"', page))

    assert {f"/docs/{name}" for name in SERVICE_NAMES} <= links
    assert {f"/api/{name}/openapi.json" for name in SERVICE_NAMES} <= links
    assert "/healthz" in links


@pytest.mark.parametrize(
    ("path", "asked", "language", "words"),
    [
        ("/", "", "zh-CN", "服务厅"),
        ("/", "en-GB,en;q=0.9", "en", "service halls"),
        ("/?lang=zh", "en", "zh-CN", "服务厅"),
        ("/?lang=en", "zh", "en", "service halls"),
        ("/docs/booking", "en", "en", "API documentation"),
    ],
)
def test_pages_speak_the_readers_language(path: str, asked: str, language: str, words: str) -> None:
    answer = a_front().get(path, headers={"Accept-Language": asked})

    assert answer.headers["content-language"] == language
    assert f'<html lang="{language}">' in answer.text
    assert words in answer.text


def test_the_style_of_the_first_page_is_the_one_its_policy_allows() -> None:
    answer = a_front().get("/")

    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)

    assert style is not None
    assert f"'sha256-{front_module._sha256(style[1])}'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_all_that_a_documentation_page_loads_is_served_here(world: World, service: str) -> None:
    client = a_front()
    page = client.get(f"/docs/{service}").text

    loaded = re.findall(r'(?:src|href)="(/docs/assets/[^"]+)"', page)
    named = re.search(r'data-openapi="([^"]+)"', page)

    assert len(loaded) == 4
    for asset in loaded:
        assert client.get(asset).status_code == 200, asset
    assert named is not None
    assert world.client.get(named[1]).json()["openapi"].startswith("3.")


@pytest.mark.parametrize("name", ["nothing.js", "redoc.standalone.js", "..%2Fcore.py", "%2Fetc%2Fpasswd"])
def test_no_other_file_is_served_as_an_asset(name: str) -> None:
    assert a_front().get(f"/docs/assets/{name}").status_code == 404


def test_the_front_takes_no_other_method() -> None:
    answer = a_front().post("/", headers={"Accept-Language": "en"})

    assert answer.status_code == 405
    assert answer.json()["code"] == "method_not_allowed"


# --- health ---


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services take their time to say how they are."""
    monkeypatch.setattr(health_of_all, "TIMEOUT_S", 60)
    monkeypatch.setattr(health_of_one, "LOOK_WITHIN_S", 60)


@pytest.mark.parametrize(
    ("catalog", "booking", "status", "code"),
    [
        (OK, OK, "ok", 200),
        (OK, NO_REDIS, "degraded", 200),
        (NO_DATABASE, OK, "degraded", 200),
        (NO_REDIS, NO_DATABASE, "degraded", 200),
        (NO_DATABASE, NO_DATABASE, "down", 503),
    ],
)
def test_the_whole_is_down_when_no_service_can_serve(catalog: Found, booking: Found, status: str, code: int) -> None:
    answer = a_front(catalog=catalog, booking=booking).get("/healthz")

    assert answer.status_code == code
    assert answer.json()["status"] == status
    assert answer.json()["parts"]["booking"]["status"] == booking["status"]


def test_health_names_the_part_that_is_lost() -> None:
    found = a_front(booking=NO_REDIS).get("/healthz").json()

    assert found["parts"] == {"booking": {"status": "degraded", "detail": "redis: no answer"}}


def test_the_health_of_a_world_that_runs_is_ok(world: World) -> None:
    from libs.common.health import readiness

    client = TestClient(front(Health({name: partial(readiness, world.runtimes[name]) for name in SERVICE_NAMES})))

    assert client.get("/healthz").json()["status"] == "ok"


def test_health_over_http_believes_a_service_and_reports_one_that_is_away() -> None:
    says = a_service_that_says
    with says(b'{"status": "ok", "parts": {}}') as well, says(b"<html>") as strange, nobody() as port:
        asks = {"catalog": over_http(well), "booking": over_http(strange)}
        asks["notify"] = over_http(f"http://127.0.0.1:{port}")
        client = TestClient(front(Health(asks)))

        found = client.get("/healthz").json()

    assert found["status"] == "degraded"
    assert {name: part["status"] for name, part in found["parts"].items()} == {
        "catalog": "ok",
        "booking": "down",
        "notify": "down",
    }


@contextmanager
def a_service_that_says(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
