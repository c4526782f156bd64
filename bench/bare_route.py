"""The product beside FastAPI itself: refusals, latency at half of the peak, and reading an item."""

import http.client
from collections.abc import Iterator

from bench import crowd, hot_slot
from bench.ground import HERE, Api
from bench.load import Outcome, Plan, send
from bench.report import Row, by_turns, medians
from bench.scene import Scene

CONNECTIONS = 256
ROUNDS = 3
SECONDS = 3.0
STEADY_S = 5.0
WARM_S = 0.5
BARE = "/control/bare"
DAYS = 30


def refusals(scene: Scene) -> Iterator[Row]:
    """Refusals of a full slot ÷ requests to a bare POST route that checks the token."""
    ground = scene.ground
    ground.clear()
    slot_id = crowd.offer(ground, capacity=1).slot_ids[0]
    first, *others = crowd.join_requests(scene.guests, [slot_id])
    send(Plan("once", (ground.booking.port,), 1, requests=[first], wanted=201)).require("201")
    bare = crowd.join_requests(scene.guests, [slot_id], path=BARE)
    found = by_turns(
        ROUNDS,
        refused=lambda: _repeat(ground.booking, others, wanted=409).require("409 slot_full").rate,
        bare=lambda: _repeat(ground.control, bare, wanted=200).require("200").rate,
    )
    yield Row(
        "refusals of a full slot", found["refused"], "refusals/s", "bare POST route", found["bare"], ROUNDS, "≥ 3"
    )


def steady(scene: Scene) -> Iterator[Row]:
    """p99 of joins that arrive at half of the peak rate ÷ p99 of the bare route at the same rate."""
    ground = scene.ground
    hot_slot.run(scene, ground.booking)
    peak = medians({"peak": [hot_slot.run(scene, ground.booking).rate for _ in range(ROUNDS)]})["peak"]
    rate = peak / 2

    def joins() -> float:
        ground.clear()
        requests = crowd.join_requests(scene.guests, crowd.offer(ground).slot_ids)
        return _arriving(ground.booking, requests, rate, wanted=201).require("201").p99_ms

    def bare() -> float:
        requests = crowd.join_requests(scene.guests, crowd.offer(ground).slot_ids, path=BARE)
        return _arriving(ground.control, requests, rate, wanted=200).require("200").p99_ms

    found = by_turns(ROUNDS, joins=joins, bare=bare)
    name = f"p99 of joins at half of the peak, {rate:,.0f}/s"
    yield Row(name, found["joins"], "ms", "p99 of the bare route", found["bare"], ROUNDS, "< 8")


def item(scene: Scene) -> Iterator[Row]:
    """`GET items/{id}` with 30 days of 10 slots ÷ a bare GET of the same bytes; and with what the client has already."""
    ground = scene.ground
    path = f"/api/catalog/items/{crowd.offer(ground, slots=DAYS * crowd.SLOTS_A_DAY, capacity=30).item_id}"
    content, etag = _read(ground.catalog, path)
    _keep(ground.control, content)
    found = by_turns(
        ROUNDS,
        whole=lambda: _repeat(ground.catalog, [crowd.get(path)], wanted=200).require("200").rate,
        same=lambda: (
            _repeat(ground.catalog, [crowd.get(path, more=f"If-None-Match: {etag}\r\n")], wanted=304)
            .require("304")
            .rate
        ),
        bare=lambda: _repeat(ground.control, [crowd.get("/control/bytes")], wanted=200).require("200").rate,
    )
    limit = f"bare GET, {len(content) / 1000:.0f} kB"
    name = f"GET items/{{id}}, {DAYS} days of {crowd.SLOTS_A_DAY} slots"
    yield Row(name, found["whole"], "requests/s", limit, found["bare"], ROUNDS, "≥ 1")
    yield Row(f"{name}, 304", found["same"], "requests/s", limit, found["bare"], ROUNDS, "≥ 1")


def _repeat(api: Api, requests: list[bytes], *, wanted: int) -> Outcome:
    return send(Plan("closed", (api.port,), CONNECTIONS, requests, wanted, seconds=SECONDS, warm_s=WARM_S, repeat=True))


def _arriving(api: Api, requests: list[bytes], rate: float, *, wanted: int) -> Outcome:
    seconds = min(STEADY_S, (len(requests) - 1) / rate)
    return send(Plan("open", (api.port,), CONNECTIONS, requests, wanted, seconds=seconds, warm_s=WARM_S, rate=rate))


def _read(api: Api, path: str) -> tuple[bytes, str]:
    connection = http.client.HTTPConnection(HERE, api.port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"GET {path} was answered with {answer.status}")
    return content, answer.headers["ETag"]


def _keep(api: Api, content: bytes) -> None:
    connection = http.client.HTTPConnection(HERE, api.port, timeout=30)
    connection.request("PUT", "/control/bytes", body=content)
    connection.getresponse().read()
    connection.close()
