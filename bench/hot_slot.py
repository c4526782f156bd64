"""Confirmed joins per second over HTTP: one hot slot, and what changes when anything about it does."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import crowd
from bench.crowd import Guest
from bench.ground import Api
from bench.load import Outcome, Plan, send
from bench.report import Row, by_turns
from bench.scene import Scene

CONNECTIONS = 256
SECONDS = 4.0
WARM_S = 0.5
ROUNDS = 3
PGBENCH_S = 3
CLIENTS_OF_ONE_CALL = (1, 8, 16, 64)


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
    path: str = "",
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
    yield Row(name, found["joins"], "joins/s", "pgbench interactive, 64 clients", found["interactive"], ROUNDS)
    yield Row(name, found["joins"], "joins/s", f"pgbench one call, best ({best})", found[f"call_{best}"], ROUNDS)
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
    """The same with relay, RabbitMQ, notify and catalog following live."""
    ground, limit = scene.ground, scene.limit
    with ExitStack() as stack:
        ground.follow(stack)
        found = by_turns(
            ROUNDS,
            joins=lambda: run(scene, ground.booking).rate,
            call=lambda: limit.one_call(1, PGBENCH_S),
        )
        yield Row("joins, hot slot, everything following", found["joins"], "joins/s", "pgbench", found["call"], ROUNDS)


def spread(scene: Scene) -> Iterator[Row]:
    """One hot slot ÷ 1,000 slots."""
    ground = scene.ground
    found = by_turns(
        ROUNDS,
        hot=lambda: run(scene, ground.booking).rate,
        spread=lambda: run(scene, ground.booking, slots=1000).rate,
    )
    yield Row("joins, hot slot, beside 1,000 slots", found["hot"], "joins/s", "1,000 slots", found["spread"], ROUNDS)


def _memory(api: Api) -> Iterator[Row]:
    """The most a process has held, and its share now that pages it has in common are divided."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{api.pid}/status").read_text().splitlines())
    rollup = Path(f"/proc/{api.pid}/smaps_rollup").read_text().splitlines()
    pss = next(line for line in rollup if line.startswith("Pss:")).split()[1]
    yield Row("memory of a booking process, peak RSS", int(status["VmHWM"].split()[0]) / 1024, "MB", "asked", 250, 1)
    yield Row("memory of a booking process, PSS after the peak", int(pss) / 1024, "MB", "asked", 250, 1)
