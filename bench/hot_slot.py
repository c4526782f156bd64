"""Confirmed joins per second over HTTP: one hot slot, and what changes when anything about it does."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import crowd
from bench.crowd import Guest
from bench.ground import Api
from bench.load import Outcome, Plan, send
from bench.report import Row, by_turns, medians
from bench.scene import Scene

CONNECTIONS = 256
SECONDS = 4.0
WARM_S = 0.5
ROUNDS = 3
PGBENCH_S = 3
CLIENTS_OF_ONE_CALL = (1, 8, 16, 64)
CLIENTS_OF_FOLLOWED = 1
FOLLOWING_S = 120.0
OTHER_CONNECTIONS = (1, 16, 64, 1024)
CONTROL_JOINS = "/control/joins"


def run(scene: Scene, *apis: Api, slots: int = 1, connections: int = CONNECTIONS) -> Outcome:
    """Let the guests join once each, on new slots, as fast as the server allows, with nothing stored before."""
    scene.ground.clear()
    offered = crowd.offer(scene.ground, slots=slots)
    return joins(apis, scene.guests, offered.slot_ids, connections=connections)


def joins(
    apis: Sequence[Api],
    guests: list[Guest],
    slot_ids: list[str],
    *,
    connections: int = CONNECTIONS,
    seconds: float = SECONDS,
    path: str = crowd.JOINS,
) -> Outcome:
    """Let every guest join once, the slots taking turns, in a closed loop; nothing but 201 is acceptable."""
    plan = Plan(
        "closed",
        ports=tuple(api.port for api in apis),
        connections=connections,
        requests=crowd.join_requests(guests, slot_ids, path=path),
        wanted=201,
        seconds=seconds,
        warm_s=WARM_S,
    )
    return send(plan).require("201")


def against_the_database(scene: Scene) -> Iterator[Row]:
    """One hot slot ÷ pgbench, interactive and as one call; memory after that peak."""
    ground, limit = scene.ground, scene.limit
    run(scene, ground.booking)  # pools and caches are warm from here on
    found = by_turns(
        ROUNDS,
        joins=lambda: run(scene, ground.booking).rate,
        interactive=lambda: limit.interactive(64, PGBENCH_S),
        **{f"call_{n}": partial(limit.one_call, n, PGBENCH_S) for n in CLIENTS_OF_ONE_CALL},
    )
    best = max(CLIENTS_OF_ONE_CALL, key=lambda clients: found[f"call_{clients}"])
    name = f"joins, hot slot, {CONNECTIONS} connections"
    yield Row(name, found["joins"], "joins/s", "pgbench interactive, 64 clients", found["interactive"], ROUNDS, "≥ 5")
    yield Row(name, found["joins"], "joins/s", f"pgbench one call, best ({best})", found[f"call_{best}"], ROUNDS, "≥ 1")
    yield from _memory(ground.booking)


def by_two_processes(scene: Scene) -> Iterator[Row]:
    """The same by two booking processes."""
    both = (scene.ground.booking, scene.ground.second_booking)
    found = by_turns(
        ROUNDS,
        two=lambda: run(scene, *both).rate,
        one=lambda: run(scene, both[0]).rate,
    )
    yield Row("joins, hot slot, 2 booking processes", found["two"], "joins/s", "1 process", found["one"], ROUNDS)


def followed(scene: Scene) -> Iterator[Row]:
    """The same with relay, RabbitMQ, notify and catalog following live, and how far they are behind when it ends."""
    ground, limit = scene.ground, scene.limit
    behind: dict[str, list[float]] = {"events": [], "seconds": []}

    def joins_followed() -> float:
        ground.clear()
        offered = crowd.offer(ground)
        outcome = joins([ground.booking], scene.guests, offered.slot_ids)
        behind["events"].append(ground.unpublished())
        ended = time.monotonic()
        ground.wait_for_catalog(offered.slot_ids[0], taken=outcome.counts["201"], timeout_s=FOLLOWING_S)
        behind["seconds"].append(time.monotonic() - ended)
        return outcome.rate

    with ExitStack() as stack:
        ground.follow(stack)
        found = by_turns(ROUNDS, joins=joins_followed, call=lambda: limit.one_call(CLIENTS_OF_FOLLOWED, PGBENCH_S))
    name, clients = "joins, hot slot, everything following", CLIENTS_OF_FOLLOWED
    yield Row(name, found["joins"], "joins/s", f"pgbench one call, {clients} client", found["call"], ROUNDS, "≥ 0.6")
    left = medians(behind)
    yield Row(f"{name}: unpublished at the end", left["events"], "events", "joins/s", found["joins"], ROUNDS)
    yield Row(f"{name}: until catalog has all", left["seconds"], "s", "load", SECONDS, ROUNDS)


def spread(scene: Scene) -> Iterator[Row]:
    """One hot slot ÷ 1,000 slots."""
    ground = scene.ground
    found = by_turns(
        ROUNDS,
        hot=lambda: run(scene, ground.booking).rate,
        spread=lambda: run(scene, ground.booking, slots=1000).rate,
    )
    yield Row(
        "joins, hot slot, beside 1,000 slots", found["hot"], "joins/s", "1,000 slots", found["spread"], ROUNDS, "≥ 0.8"
    )


def lone(scene: Scene) -> Iterator[Row]:
    """One join after another on an idle system: how long each takes, beside the plain ORM route."""
    ground = scene.ground

    def p50(api: Api, path: str) -> float:
        ground.clear()
        return joins([api], scene.guests, crowd.offer(ground).slot_ids, connections=1, path=path).p50_ms

    found = by_turns(
        ROUNDS,
        ours=lambda: p50(ground.booking, crowd.JOINS),
        control=lambda: p50(ground.control, CONTROL_JOINS),
    )
    yield Row("lone join, p50", found["ours"], "ms", "plain ORM route", found["control"], ROUNDS, "≤ 1")


def by_connections(scene: Scene) -> Iterator[Row]:
    """One hot slot by ever more connections."""
    ground = scene.ground
    run(scene, ground.booking)
    found = by_turns(
        1, **{str(n): partial(_rate, scene, ground.booking, connections=n) for n in (CONNECTIONS, *OTHER_CONNECTIONS)}
    )
    whole = found[str(CONNECTIONS)]
    for n in OTHER_CONNECTIONS:
        yield Row(f"joins, hot slot, {n} connections", found[str(n)], "joins/s", f"{CONNECTIONS} connections", whole, 1)


def _rate(scene: Scene, api: Api, *, connections: int) -> float:
    return run(scene, api, connections=connections).rate


def _memory(api: Api) -> Iterator[Row]:
    """The most a process has held, and its share now that pages it has in common are divided."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{api.pid}/status").read_text().splitlines())
    rollup = Path(f"/proc/{api.pid}/smaps_rollup").read_text().splitlines()
    pss = next(line for line in rollup if line.startswith("Pss:")).split()[1]
    yield Row(
        "memory of a booking process, peak RSS", int(status["VmHWM"].split()[0]) / 1024, "MB", "MB asked", 250, 1, "< 1"
    )
    yield Row("memory of a booking process, PSS after the peak", int(pss) / 1024, "MB", "MB asked", 250, 1, "< 1")
