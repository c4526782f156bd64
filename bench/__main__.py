"""`make bench`: starts its own servers on free ports, measures, prints, and writes bench/out/latest.json.

`BENCH_ONLY=hot,rush` chooses measures. Nothing it starts outlives it, and it never touches other data: everything lies
in a temporary folder.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import (
    bare_route,
    dashboard,
    deliveries,
    events,
    export,
    filling,
    hot_slot,
    installations,
    missed,
    release,
    stored,
    traced,
    waiting,
)
from bench.generator import allow_many_files
from bench.ground import Ground
from bench.report import Row
from bench.scene import Scene
from deploy.servers.postgres import find_binaries
from deploy.servers.process import ServerError

OUT = Path(__file__).parent / "out" / "latest.json"

# On one ground, in this order.
ON_GROUND: dict[str, Callable[[Scene], Iterator[Row]]] = {
    "hot": hot_slot.against_the_database,
    "two": hot_slot.by_two_processes,
    "followed": hot_slot.followed,
    "spread": hot_slot.spread,
    "lone": hot_slot.lone,
    "connections": hot_slot.by_connections,
    "release": release.measure,
    "missed": missed.measure,
    "refusals": bare_route.refusals,
    "steady": bare_route.steady,
    "item": bare_route.item,
    "filling": filling.measure,
    "users": stored.users,
    "stored": stored.measure,
    "export": export.measure,
    "events": events.measure,
    "dashboard": dashboard.measure,
    "traces": traced.measure,
    "deliveries": deliveries.measure,
    "waiting": waiting.measure,
}
# Each starts a whole installation.
WHOLE: dict[str, Callable[[Path], Iterator[Row]]] = {
    "embedded": installations.through_embedded,
    "distributed": installations.through_distributed,
}


class Bench:
    """The rows so far, and what could not be measured."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.failed: list[str] = []

    def take(self, name: str, rows: Iterator[Row]) -> None:
        """Print each row as it comes; what fails is told and does not stop the others."""
        started = time.monotonic()
        try:
            for row in rows:
                self.rows.append(row)
                print(row, flush=True)
        except ServerError as error:  # a program that can't be had here
            print(f"{name}: not measured: {error}", flush=True)
        except Exception:  # noqa: BLE001  # the other measures can still be had
            self.failed.append(name)
            print(f"{name}: not measured\n{traceback.format_exc()}", flush=True)
        print(f"    {name}: {time.monotonic() - started:.0f} s, {_load()}", flush=True)

    def write(self) -> None:
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps([row.as_json() for row in self.rows], indent=2, ensure_ascii=False) + "\n")
        print(f"written to {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped and removed
    allow_many_files()
    chosen = _chosen(os.environ.get("BENCH_ONLY", ""))
    print(f"{os.cpu_count()} cores, {_load()}, PostgreSQL {find_binaries().version} with fsync on", flush=True)
    bench = Bench()
    with tempfile.TemporaryDirectory(prefix="hp-bench-") as name:
        folder = Path(name)
        _measure(bench, chosen, folder)
    bench.write()
    return 1 if bench.failed else 0


def _measure(bench: Bench, chosen: list[str], folder: Path) -> None:
    if on_ground := [name for name in ON_GROUND if name in chosen]:
        (folder / "ground").mkdir()
        with Ground(folder / "ground") as ground:
            scene = Scene(ground)
            for name in on_ground:
                bench.take(name, ON_GROUND[name](scene))
    for name in WHOLE:
        if name in chosen:
            bench.take(name, WHOLE[name](folder))


def _chosen(text: str) -> list[str]:
    """The names of the measures asked for; all where none is."""
    known = [*ON_GROUND, *WHOLE]
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(asked) - set(known)):
        sys.exit(f"BENCH_ONLY names {', '.join(unknown)}; there are {', '.join(known)}")
    return asked or known


def _load() -> str:
    return f"load {', '.join(f'{one:.1f}' for one in os.getloadavg())}"


if __name__ == "__main__":
    sys.exit(main())
