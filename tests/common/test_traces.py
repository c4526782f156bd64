"""Traces follow one request through its group, its events and their effects; off, they are not even loaded."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx2
import pytest

from deploy import runtimes
from libs.common import context, traces
from libs.common.ids import new_id
from libs.common.tasks import perform
from tests.booking.builders import a_slot
from tests.common.collector import Collector, Seen
from tests.notify.builders import a_join, message
from tests.notify.reaching import a_town
from tests.world import KEYS, World, eventually, simultaneously

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let spans take their time to the collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector to which this process sends its traces."""
    with Collector() as collector:
        traces.configure("test", collector.endpoint, share=1.0)
        yield collector
        traces.close()


def seen(collector: Collector) -> list[Seen]:
    """Return all spans, when what waited has been sent."""
    traces.close()
    return collector.spans


def one(spans: list[Seen], name: str) -> Seen:
    [found] = [span for span in spans if span.name == name]
    return found


def book(world: World, slot_id: str, request_id: str = "", user: str = "", **headers: str) -> None:
    who = world.user(user or new_id()) | {"Idempotency-Key": new_id(), **headers}
    body = {"slot_id": slot_id, "attendees": [{"answers": {"name": "林小满"}}]}
    answer = world.client.post(
        "/api/booking/joins", json=body, headers=who | ({"X-Request-ID": request_id} if request_id else {})
    )
    assert answer.status_code == 201, answer.text


def test_one_trace_follows_a_join_from_its_request_to_the_sent_notice(
    make_world: Callable[..., World], collector: Collector
) -> None:
    with a_town(make_world) as town:
        place, request_id = a_slot(town.world), new_id()
        town.confirm_email(town.world.client.get("/api/booking/me", headers=town.world.user("lin")).json()["id"])
        town.mail.next = ["451"]

        book(town.world, place.slot_id, request_id, user="lin")
        town.world.settle()
        town.carry("email")
        town.carry("email", later=timedelta(minutes=5))

    assert len(town.mail.received) == 1
    spans = [span for span in seen(collector) if span.attributes[traces.REQUEST_ID] == request_id]
    request, group = one(spans, "POST booking /joins"), one(spans, "settle")
    publish, consume = one(spans, "publish join.booked"), one(spans, "consume join.booked")
    assert {span.trace_id for span in spans} == {request.trace_id}
    assert (request.parent, request.attributes["http.response.status_code"]) == (b"", 201)
    assert (group.parent, group.links, group.attributes["hallpass.group"]) == (request.span_id, (request.span_id,), 1)
    assert publish.parent == request.span_id
    assert (consume.parent, consume.attributes["messaging.consumer.group.name"]) == (publish.span_id, "notify.events")
    delivered = [span for span in spans if span.name == "deliver email"]
    assert [span.parent for span in delivered] == [request.span_id] * 2
    assert [(span.attributes["hallpass.attempt"], span.attributes["hallpass.outcome"]) for span in delivered] == [
        (1, "Later"),
        (2, "Sent"),
    ]
    assert request.process == "hallpass-test"
    assert all(secret not in str(span) for span in spans for secret in ("林小满", "lin@example.com", "451 no"))


def test_a_group_is_linked_to_every_request_that_it_settles(world: World, collector: Collector) -> None:
    place = a_slot(world)
    with world.serve() as url:
        users = [world.user(new_id()) | {"Idempotency-Key": new_id()} for _ in range(12)]
        body = {"slot_id": place.slot_id, "attendees": [{"answers": {"name": "林小满"}}]}
        with httpx2.Client(base_url=url, timeout=60) as http:
            asking: list[Callable[[], httpx2.Response]] = [
                partial(http.post, "/api/booking/joins", json=body, headers=user) for user in users
            ]
            answers = simultaneously(asking)

    assert {answer.status_code for answer in answers} == {201}
    spans = seen(collector)
    requests = {span.span_id for span in spans if span.name == "POST booking /joins"}
    linked = [link for span in spans if span.name == "settle" for link in span.links]
    assert sorted(linked) == sorted(requests)
    assert len(requests) == 12


def test_a_consumer_that_fails_says_so_each_time(world: World, collector: Collector) -> None:
    [queue] = [queue for queue in world.queues if queue.consumer.name == "notify.events"]
    good = message(a_join().booked())
    queue.put([good.model_copy(update={"data": {}, "request_id": new_id()})])

    eventually(lambda: not queue.consume_once() and queue.parked())

    assert [span.failed for span in seen(collector) if span.name == "consume join.booked"] == [True] * 3


def test_what_is_done_for_a_request_elsewhere_is_a_part_of_it(world: World, collector: Collector) -> None:
    request_id = new_id()

    with context.working_on(request_id), traces.span("deliver", channel="wechat"), traces.span("token"):
        pass
    [task] = [task for task in world.runtimes["booking"].service.tasks if task.name == "booking.find"]
    perform(world.runtimes["booking"], task, request_id=request_id)
    perform(world.runtimes["booking"], task)  # by its schedule: a part of no request

    spans = seen(collector)
    deliver, token = one(spans, "deliver"), one(spans, "token")
    assert {span.trace_id for span in spans} == {deliver.trace_id}
    assert one(spans, "task booking.find").parent == deliver.parent
    assert (token.parent, deliver.attributes["channel"]) == (deliver.span_id, "wechat")


def test_a_callers_own_trace_is_linked_and_decides_nothing(world: World, collector: Collector) -> None:
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    for traceparent in (theirs, "nonsense"):
        world.client.get("/api/catalog/halls", headers={"traceparent": traceparent})

    first, second = seen(collector)
    assert (first.parent, first.links) == (b"", (bytes.fromhex("b7ad6b7169203331"),))
    assert first.trace_id != bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
    assert second.links == ()


def test_a_share_of_requests_is_traced_and_every_process_takes_the_same(world: World) -> None:
    request_ids = [new_id() for _ in range(60)]

    def traced() -> set[str]:
        with Collector() as collector:
            traces.configure("test", collector.endpoint, share=0.3)
            for request_id in request_ids:
                world.client.get("/api/catalog/halls", headers={"X-Request-ID": request_id})
            return {span.attributes[traces.REQUEST_ID] for span in seen(collector)}

    first = traced()

    assert 3 < len(first) < 40
    assert traced() == first


def test_a_process_turns_traces_on_by_its_settings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALLPASS_MODE", "embedded")
    monkeypatch.setenv("HALLPASS_NOTIFY_DATA_KEYS", json.dumps(KEYS["data_keys"]))
    monkeypatch.setenv("HALLPASS_DATABASE_URL", world.runtimes["notify"].settings.database_url.get_secret_value())

    runtimes.build("notify", process="notify-api").close()
    without = traces.is_on()
    with Collector() as collector:
        monkeypatch.setenv("HALLPASS_NOTIFY_OTLP_ENDPOINT", collector.endpoint)
        runtimes.build("notify", process="notify-api").close()
        with context.working_on(new_id()), traces.span("deliver"):
            pass
        [span] = seen(collector)

    assert not without
    assert span.process == "hallpass-notify-api"


def test_while_traces_are_off_nothing_of_them_is_loaded() -> None:
    # FastAPI brings the empty interface itself; what makes and sends spans is not loaded.
    ours = "('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'google.protobuf')"
    look = (
        "import sys, deploy.processes, deploy.embedded_app, deploy.jobs; "
        f"print([name for name in sys.modules if name.startswith({ours})])"
    )

    said = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert said.stdout.strip() == "[]", said.stderr
