"""What traces cost: joins while they are off, beside joins of which a hundredth and all are traced."""

import os
import threading
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench import hot_slot
from bench.ground import HERE, Api
from bench.report import Row, by_turns
from bench.scene import Scene
from libs.common import traces
from services.booking import metrics

ROUNDS = 3
LOOKS = 3  # of a join whether traces are on: at the Edge, and a share of its group's
TIMES = 200_000


def measure(scene: Scene) -> Iterator[Row]:
    """Joins per second by the share that is traced; and what being off, and being counted, takes of a join's time."""
    ground = scene.ground
    with _collector() as endpoint:
        some, all_ = (
            ground.booking_with({"HALLPASS_OTLP_ENDPOINT": endpoint, "HALLPASS_OTLP_SHARE": share})
            for share in ("0.01", "1.0")
        )
        spent = {"s": 0.0, "joins": 0.0}

        def off() -> float:
            before = _cpu_s(ground.booking)
            outcome = hot_slot.run(scene, ground.booking)
            spent["s"] += _cpu_s(ground.booking) - before
            spent["joins"] += outcome.counts["201"]
            return outcome.rate

        hot_slot.run(scene, ground.booking)
        found = by_turns(
            ROUNDS,
            off=off,
            some=lambda: hot_slot.run(scene, some).rate,
            all=lambda: hot_slot.run(scene, all_).rate,
        )
    yield Row("joins, 1 % traced", found["some"], "joins/s", "traces off", found["off"], ROUNDS, "≥ 0.9")
    yield Row("joins, all traced", found["all"], "joins/s", "traces off", found["off"], ROUNDS)
    a_join_us = spent["s"] / spent["joins"] * 1e6
    off_us = timeit.timeit(traces.is_on, number=TIMES) / TIMES * 1e6 * LOOKS
    yield Row("traces off, a join", off_us, "µs", "CPU of a join", a_join_us, 1, "< 0.01")
    counted_us = timeit.timeit(lambda: metrics.joins("booked", "").inc(1), number=TIMES) / TIMES * 1e6
    yield Row("counting joins, a group", counted_us, "µs", "CPU of a join", a_join_us, 1, "< 0.05")


def _cpu_s(api: Api) -> float:
    fields = Path(f"/proc/{api.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _collector() -> Iterator[str]:
    """Take traces and forget them, while the block runs; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HERE, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HERE}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
