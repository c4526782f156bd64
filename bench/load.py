"""What is asked of the load generator, what it answers, and how it is run: as one process of its own."""

import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Plan:
    """Requests, rendered to their last byte, and how they arrive.

    `closed`: each connection asks again as soon as it has its answer. `open`: arrivals at a constant `rate`, whatever
    the server does. `once`: every connection is open before the first one asks, and asks one thing, at `start_at` (Unix
    time) where that is given. Connections are spread over `ports`. Answers of the first `warm_s` seconds don't count,
    and only those with the status `wanted` make the rate.
    """

    mode: Literal["closed", "open", "once"]
    ports: tuple[int, ...]
    connections: int
    requests: list[bytes] = field(repr=False)
    wanted: int
    seconds: float = 0.0
    warm_s: float = 0.0
    rate: float = 0.0
    repeat: bool = False
    start_at: float | None = None
    patience_s: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """Counts of all answers by status and code (`201`, `409 slot_full`, `lost`), and the figures of those that count.

    A latency begins when the request was to be sent: in an open loop at its intended arrival, so that a slow server
    can't slow the measuring down. `wanted_s` is when the last wanted answer came, `all_s` when the last of all did.
    """

    counts: dict[str, int]
    rate: float
    p50_ms: float
    p99_ms: float
    wanted_s: float
    all_s: float

    def require(self, *only: str) -> "Outcome":
        """Return itself, or raise where anything else was answered."""
        if others := {name: count for name, count in self.counts.items() if name not in only}:
            raise RuntimeError(f"the server also answered {others}")
        return self


def send(plan: Plan) -> Outcome:
    """Let another process carry the plan out."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.generator"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as generator:
        try:
            said, _ = generator.communicate(pickle.dumps(plan), timeout=plan.seconds + plan.patience_s + 60)
        except BaseException:
            generator.kill()
            raise
    if generator.returncode:
        raise RuntimeError(f"the load generator ended with {generator.returncode}")
    outcome: Outcome = pickle.loads(said)
    return outcome
