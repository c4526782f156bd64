"""The edge of a service: what holds for every request, whatever answers it."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import context, metrics, traces
from libs.common.errors import HallpassError, Unavailable
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.common.problems import Broken, TooLarge, problem

log = logger(__name__)

HUNG_UP = 499  # in metrics: the caller left before there was an answer
PATIENCE_S = 5.0  # from the last byte of a request until its answer begins
_NOT_STORED = (b"cache-control", b"private, no-store")


class BodyTooLarge(HTTPException):
    """An HTTPException, because FastAPI turns anything else raised while it reads a body into a 400."""

    def __init__(self, most: int) -> None:
        super().__init__(413)
        self.most = most


class Edge:
    """Pure ASGI around a service: request id, body limit, deadline, metrics, and the last resort for what nobody caught.

    Past the deadline the caller is told to come back. The work, on a thread that may hang in another server's silence,
    is left to itself; its transaction is not committed any more (Database.transaction).

    It answers HEAD wherever there is GET, and lets no cache keep what somebody asked with a token, unless the route
    says otherwise.
    """

    def __init__(
        self, app: ASGIApp, *, service: str, max_body_bytes: int, larger: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._service = service
        self._max = max_body_bytes
        self._larger = larger or {}  # by path
        # `labels()` takes a lock and builds a key of strings each time: a fifth of what the Edge cost.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._clocks: dict[tuple[str, str], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope, send = _as_get(scope, send)
        most = self._larger.get(scope["path"], self._max)
        exchange = _Exchange(scope, receive, send, service=self._service, most=most)
        tokens = context.begin(exchange.request_id, exchange.caller)
        traced = exchange.begin_trace() if traces.is_on() else None
        try:
            await exchange.over(self._app)
        finally:
            context.end(tokens)
            if traced is not None:
                traces.end_request(traced, _span_name(self._service, scope), exchange.status or HUNG_UP)
            self._measure(scope, exchange.status, time.monotonic() - exchange.started)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], getattr(scope.get("route"), "path", "unknown")
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = metrics.REQUESTS.labels(self._service, method, route, str(status or HUNG_UP))
            self._counters[method, route, status] = counter
        clock = self._clocks.get((method, route))
        if clock is None:
            clock = self._clocks[method, route] = metrics.REQUEST_SECONDS.labels(self._service, method, route)
        counter.inc()
        clock.observe(seconds)


class _Exchange:
    """One request and its answer on their way through the Edge.

    Not closures: those that name each other are garbage that only the collector finds, at each request.
    """

    __slots__ = (
        "_deadline",
        "_giving_up",
        "_headers",
        "_heard_at",
        "_is_whole",
        "_loop",
        "_most",
        "_read",
        "_receive",
        "_scope",
        "_send",
        "_service",
        "caller",
        "request_id",
        "started",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, service: str, most: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._service = service
        self._most = most
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self._headers.get(b"x-request-id")
        self.request_id = new_id() if given is None else context.acceptable(given.decode("latin-1"))
        self.caller = context.Caller()
        self.status = 0  # of the answer, as soon as it begins
        self.started = self._heard_at = time.monotonic()
        self._is_whole = False  # the answer, to its last byte
        self._read = 0
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.Task[None] | None = None

    def begin_trace(self) -> Any:
        """Begin the span of this request; None where it is not among those that are traced."""
        return traces.begin_request(self.request_id, self._scope["method"], self._headers.get(b"traceparent"))

    async def over(self, app: ASGIApp) -> None:
        """Let the app answer, or answer in its place."""
        self._deadline = self._loop.call_later(PATIENCE_S, self._look)  # here, where the request's id is known to it
        try:
            length = self._headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > self._most:
                raise BodyTooLarge(self._most)
            await app(self._scope, self._hear, self._say)
        except BodyTooLarge:
            if self.status:
                raise
            await self._refuse(TooLarge(max_bytes=self._most), self._say)
        except Exception:
            log.exception("unhandled", path=self._scope["path"])
            if self._is_whole or not self.caller.waits:
                return
            if self.status:
                raise
            await self._refuse(Broken(request_id=self.request_id), self._say)
        finally:
            self._forget_deadline()
            if self._giving_up is not None:
                await self._giving_up

    async def _hear(self) -> Message:
        message = await self._receive()
        if not self.status:
            self._heard_at = time.monotonic()
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise BodyTooLarge(self._most)
        return message

    async def _say(self, message: Message) -> None:
        if self.caller.waits:
            self._forget_deadline()
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = message.get("headers", ())
            message["headers"] = [*own, (b"x-request-id", self.request_id.encode())]
            if b"authorization" in self._headers and all(name != b"cache-control" for name, _ in own):
                message["headers"].append(_NOT_STORED)
        await self._send(message)
        self._is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def _refuse(self, error: HallpassError, send: Send) -> None:
        language = self._headers.get(b"accept-language", b"").decode("latin-1")
        await problem(error, language, service=self._service).send(send)

    def _look(self) -> None:
        """Give up at the deadline, unless more of the request has come since it was set."""
        left = self._heard_at + PATIENCE_S - time.monotonic()
        if left > 0:
            self._deadline = self._loop.call_later(left, self._look)
            return
        self.caller.waits = False
        log.warning("given up", path=self._scope["path"])
        self._giving_up = self._loop.create_task(self._refuse(Unavailable(), self._pass_on))

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _span_name(service: str, scope: Scope) -> str:
    return f"{scope['method']} {service} {getattr(scope.get('route'), 'path', 'unknown')}"


def _as_get(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Turn HEAD into GET whose content is not sent (RFC 9110, 9.3.2). Metrics count it as what it is answered by."""

    async def without_content(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    # A copy: the server goes by the method of its own scope when it looks at the length of what is sent.
    return {**scope, "method": "GET"}, without_content
