"""Whole installations for a measure, embedded or distributed, and how long a booking takes to travel through each."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from bench import propagation
from bench.report import Row
from deploy.native import Native
from deploy.servers import install
from deploy.servers.process import free_port

START_TIMEOUT_S = 180


def through_embedded(folder: Path) -> Iterator[Row]:
    """From a booking's commit until catalog shows one place less, in one small process tree."""
    with _embedded(folder / "embedded") as (address, password):
        yield _row("join to remaining, embedded", address, password, limit_ms=300)


def through_distributed(folder: Path) -> Iterator[Row]:
    """The same through RabbitMQ, each process on its own."""
    install.ensure("rabbitmq", "nginx")
    with Native(folder / "distributed", port=free_port(), dev_sign_in=True) as native:
        yield _row("join to remaining, over RabbitMQ", native.address, native.first_password, limit_ms=500)


def _row(name: str, address: str, password: str, *, limit_ms: float) -> Row:
    spread = propagation.measure(address, username="admin", password=password)
    return Row(f"{name}, p95", spread.p95, "ms", "ms asked", limit_ms, spread.rounds, "< 1")


@contextmanager
def _embedded(folder: Path) -> Iterator[tuple[str, str]]:
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
