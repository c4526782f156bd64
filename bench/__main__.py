"""`make bench`: starts its own installations on free ports, measures, prints, and writes bench/out/latest.json.

It never touches other data: every installation lives in a temporary folder and ends with the run.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from bench import propagation
from bench.propagation import Spread
from deploy.servers import install
from deploy.servers.process import ServerError, free_port

OUT = Path(__file__).parent / "out" / "latest.json"
START_TIMEOUT_S = 180


@contextmanager
def embedded(folder: Path) -> Iterator[tuple[str, str]]:
    """An embedded installation of its own; yield its address and the password of `admin`."""
    port = free_port()
    environment = os.environ | {"HALLPASS_PORT": str(port), "HALLPASS_DATA": str(folder), "HALLPASS_DEMO": "no"}
    command = [sys.executable, "-m", "deploy", "run"]
    with (folder.parent / "run.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, process)
        yield address, (folder / "first-password").read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{address}/healthz", timeout=2).json()["status"] == "ok":
                return
        except (httpx2.TransportError, ValueError):
            pass
        time.sleep(0.1)
    raise RuntimeError("the embedded installation did not start")


@contextmanager
def distributed(folder: Path) -> Iterator[tuple[str, str]]:
    """A distributed installation of its own, over RabbitMQ; yield as above."""
    from deploy.native import Native

    with Native(folder, port=free_port(), dev_sign_in=True) as native:
        yield native.address, native.first_password


def _row(name: str, spread: Spread, limit: float) -> dict[str, Any]:
    print(
        f"{name:45} median {spread.median:7.1f} ms   p95 {spread.p95:7.1f} ms   worst {spread.worst:7.1f} ms"
        f"   (asked: p95 under {limit:.0f} ms; {spread.rounds} rounds)"
    )
    return {
        "name": name,
        "value": spread.p95,
        "unit": "ms",
        "limit": "p95 asked for",
        "limit_value": limit,
        "ratio": spread.p95 / limit,
        "rounds": spread.rounds,
    }


def main() -> None:
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="hp-bench-") as folder:
        with embedded(Path(folder) / "embedded") as (address, password):
            spread = propagation.measure(address, username="admin", password=password)
        rows.append(_row("join to remaining, embedded", spread, 300))
        try:
            install.ensure("rabbitmq", "nginx")
        except ServerError as error:
            print(f"not measured, distributed: {error}")
        else:
            with distributed(Path(folder) / "distributed") as (address, password):
                spread = propagation.measure(address, username="admin", password=password)
            rows.append(_row("join to remaining, over RabbitMQ", spread, 500))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written to {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")


if __name__ == "__main__":
    main()
