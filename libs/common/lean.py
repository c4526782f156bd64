"""Lean routes: answered ahead of FastAPI's routing and dependencies, for the few that a measurement names.

A lean handler stands beside an ordinary route, which documents it and stays able to answer:

    @router.get("/items/{item_id}")
    @answered_first_by(item_from_memory)
    def get_item(...): ...

The handler answers what it can answer at once, or returns None, and the ordinary route takes the request as if nobody
had looked at it. So checks that only the odd request fails (unknown parameters, malformed ids) need not be written
twice. Dependencies of the app and of routers are not run for a lean handler. `edge.Edge` stands in front of both.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.service import Runtime

_WITHOUT_BODY = frozenset({204, 304})


class Request:
    """What a lean handler may ask of a request."""

    __slots__ = ("_headers", "_read", "_receive", "path", "runtime", "scope")

    def __init__(self, scope: Scope, receive: Receive, runtime: Runtime, path: dict[str, str]) -> None:
        self.scope = scope
        self.runtime = runtime
        self.path = path  # the path's parameters, as text
        self._headers: dict[bytes, bytes] | None = None
        self._receive = receive
        self._read: list[Message] = []

    @property
    def query(self) -> bytes:
        """What stands behind the question mark, undecoded."""
        query: bytes = self.scope["query_string"]
        return query

    def header(self, name: bytes) -> str | None:
        """Return a header by its lower-case name; several lines of it are one list (RFC 9110, 5.3)."""
        if self._headers is None:
            self._headers = _joined(self.scope["headers"])
        found = self._headers.get(name)
        return None if found is None else found.decode("latin-1")

    async def body(self) -> bytes:
        """Read the whole body. The Edge refuses one that is too large; a caller who hangs up ends the request."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._read.append(message)
            more = message.get("more_body", False)
        return b"".join([message.get("body", b"") for message in self._read])

    async def receive(self) -> Message:
        """Hand the request on to somebody else, from its beginning."""
        return self._read.pop(0) if self._read else await self._receive()


class Answer:
    """Status, headers and bytes. It can be kept and sent many times."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        about = {} if status in _WITHOUT_BODY else {"content-length": str(len(body)), "content-type": media_type}
        self.headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (about | dict(headers or {})).items()
        ]

    def response(self) -> Response:
        """Return the same for an ordinary route to return."""
        response = Response(self.body, self.status)
        response.raw_headers = list(self.headers)
        return response

    async def send(self, send: Send) -> None:
        # A new start message each time: what stands in front adds to it.
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


Handler = Callable[[Request], Awaitable[Answer | None]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Refuse = Callable[[Scope, Exception], Answer | None]


def answered_first_by(handler: Handler) -> Callable[[Endpoint], Endpoint]:
    """Let a lean handler see the requests of this endpoint first. It may also raise what an endpoint may raise."""

    def marked(endpoint: Endpoint) -> Endpoint:
        endpoint.__lean__ = handler  # type: ignore[attr-defined]  # functions take attributes
        return endpoint

    return marked


@dataclass(frozen=True)
class _Route:
    path: str  # as the metrics name the ordinary route
    pattern: re.Pattern[str]
    handler: Handler


class Lean:
    """ASGI in front of an app: offers each request to the lean handler of its route, if it has one.

    `refuse` renders what a handler raised, or returns None where it is nothing that a caller can be told.
    """

    def __init__(self, app: ASGIApp, *, runtime: Runtime, refuse: Refuse) -> None:
        self._app = app
        self._runtime = runtime
        self._refuse = refuse
        self._routes = _routes(runtime.service.routers, runtime.service.prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._routes.get(scope["method"], ()):
                if match := route.pattern.match(scope["path"]):
                    request = Request(scope, receive, self._runtime, match.groupdict())
                    if await self._answered(route, request, send):
                        return
                    receive = request.receive
        await self._app(scope, receive, send)

    async def _answered(self, route: _Route, request: Request, send: Send) -> bool:
        request.scope["route"] = route
        try:
            answer = await route.handler(request)
        except ClientDisconnect:
            return True
        except Exception as error:
            refusal = self._refuse(request.scope, error)
            if refusal is None:
                raise
            await refusal.send(send)
            return True
        if answer is not None:
            await answer.send(send)
        return answer is not None


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    lines = list(headers)
    found = dict(lines)
    if len(found) < len(lines):  # several lines of one header
        found = {name: b", ".join(value for key, value in lines if key == name) for name in found}
    return found


def _routes(routers: Iterable[APIRouter], prefix: str) -> dict[str, list[_Route]]:
    found: dict[str, list[_Route]] = {}
    for router in routers:
        for route in router.routes:
            handler = getattr(route.endpoint, "__lean__", None) if isinstance(route, APIRoute) else None
            if isinstance(route, APIRoute) and handler is not None:
                pattern, _, _ = compile_path(prefix + route.path)
                for method in route.methods or ():
                    found.setdefault(method, []).append(_Route(route.path, pattern, handler))
    return found
