"""Server-sent events (the WHATWG HTML standard, 9.2): answers that go on until the caller leaves or is left."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libs.common.logs import logger

log = logger(__name__)

SLOW_S = 10.0  # who takes nothing for so long is left
BEAT = b":\n\n"  # keeps proxies from giving up

_open: "set[asyncio.Event]" = set()


def event(name: str, data: Any, *, id: str | None = None) -> bytes:
    """Render an event. `id` is what a client sends back as Last-Event-ID when it comes again."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {name}\ndata: {to_json(data).decode()}\n\n".encode()


def end_all() -> None:
    """End every stream of this process, which is about to end itself. Called on the loop that serves them."""
    for leaving in _open:
        leaving.set()


class EventStream(Response):
    """Sends what a generator yields until it ends, the caller hangs up or stops reading, or the process ends.

    The answer begins with the first event: what the generator raises before is answered like any error. However it ends,
    the generator is closed before the response is done. It runs on one task and has no thread.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], status_code: int = 200) -> None:
        super().__init__(status_code=status_code)  # FastAPI reads from the signature what it documents
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.Event()
        _open.add(leaving)
        streaming = asyncio.create_task(self._stream(send))
        until = {streaming, asyncio.create_task(_hung_up(receive)), asyncio.create_task(leaving.wait())}
        try:
            await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        finally:
            _open.discard(leaving)
            for task in until - {streaming} if streaming.done() else until:
                task.cancel()
            await asyncio.wait(until)
            await self._events.aclose()
        if not streaming.cancelled():
            streaming.result()  # raise what it failed with
        elif leaving.is_set():
            await send({"type": "http.response.body", "body": b""})

    async def _stream(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"private, no-store"),
            (b"x-accel-buffering", b"no"),  # nginx hands on at once what it would gather otherwise
        ]
        chunk = await anext(self._events, None)
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        while chunk is not None:
            try:
                # Not `wait_for`, which in Python 3.11 forgets that it was cancelled where the send is done by then.
                async with asyncio.timeout(SLOW_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                log.info("a stream ends: nobody reads it")
                return
            chunk = await anext(self._events, None)
        await send({"type": "http.response.body", "body": b""})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
