"""Server-sent events over real sockets: whoever does not read is left, and a process that ends leaves everybody."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from deploy import serve
from libs.common import streams
from libs.common.streams import EventStream, event
from tests.world import eventually


class Stage:
    """An app whose every answer is a stream of large events, and what became of the streams."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await EventStream(self._events())(scope, receive, send)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        self.opened += 1
        try:
            while True:
                yield event("noise", "x" * 100_000)
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    @contextmanager
    def served(self) -> Iterator[tuple[str, int]]:
        listening = serve.listen("127.0.0.1", 0)
        address: tuple[str, int] = listening.getsockname()
        server = serve._Server(uvicorn.Config(self, log_level="critical", lifespan="off", timeout_graceful_shutdown=30))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        yield address
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SLOW_S", 0.2)
    stage = Stage()
    with stage.served() as address, socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")

        eventually(lambda: (stage.opened, stage.closed) == (1, 1))


def test_who_hangs_up_leaves_nothing() -> None:
    stage = Stage()
    with stage.served() as (host, port):
        with httpx2.stream("GET", f"http://{host}:{port}/", timeout=60, trust_env=False) as answer:
            next(answer.iter_lines())

        eventually(lambda: (stage.opened, stage.closed) == (1, 1))


def test_a_process_that_ends_waits_for_no_stream() -> None:
    stage = Stage()
    reading = threading.Event()

    def read(host: str, port: int) -> None:
        with httpx2.stream("GET", f"http://{host}:{port}/", timeout=60, trust_env=False) as answer:
            for _ in answer.iter_lines():
                reading.set()

    with stage.served() as address:
        reader = threading.Thread(target=read, args=address, daemon=True)
        reader.start()
        assert reading.wait(60)
    reader.join(60)

    assert not reader.is_alive()
    assert (stage.opened, stage.closed) == (1, 1)
