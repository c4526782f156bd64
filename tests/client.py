"""A client of an app in this process: each request is one task of an event loop, as in a server."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp

Run = Callable[[Coroutine[Any, Any, httpx2.Response]], httpx2.Response]


class Client(httpx2.Client):
    """Asks the app on the loop that `run` leads to. An error nobody caught is the 500 that a caller sees."""

    def __init__(self, app: ASGIApp, run: Run, *, address: str = "testclient") -> None:
        transport = _OnLoop(app, run, address)
        super().__init__(transport=transport, base_url="http://testserver", follow_redirects=True, trust_env=False)


class _OnLoop(httpx2.BaseTransport):
    """Starlette's TestClient goes to the loop and back eight times for each request."""

    def __init__(self, app: ASGIApp, run: Run, address: str) -> None:
        self._asgi = httpx2.ASGITransport(app, raise_app_exceptions=False, client=(address, 50_000))
        self._run = run

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        return self._run(self._answer(request))

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._asgi.handle_async_request(request)
        body = b"".join([part async for part in answer.aiter_raw()])
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=httpx2.ByteStream(body))


@contextmanager
def event_loop() -> Iterator[Run]:
    """Keep an event loop on a thread while the block runs."""
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        yield lambda coroutine: portal.call(_awaited, coroutine)


async def _awaited(coroutine: Coroutine[Any, Any, httpx2.Response]) -> httpx2.Response:
    return await coroutine
