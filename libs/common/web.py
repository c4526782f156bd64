"""The HTTP edge: one app a service, problem documents (RFC 9457), request ids, body limits, deadlines and metrics."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import Counter, Histogram
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import context, errors, faults, health, metrics, storable, traces
from libs.common.clock import utcnow
from libs.common.db import unavailable
from libs.common.errors import HallpassError, Invalid, Language, NotFound, Texts, Unavailable
from libs.common.ids import new_id, parse_id
from libs.common.inputs import unfit
from libs.common.lean import Answer, Lean, Refuse
from libs.common.logs import logger
from libs.common.moulds import Hole, Mould
from libs.common.service import Runtime

log = logger(__name__)

STATUS_OF_KIND: dict[type[HallpassError], int] = {
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.Invalid: 422,
    errors.Unversioned: 428,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
RETRY_AFTER_S = 1
HUNG_UP = 499  # in metrics: the caller left before there was an answer
PATIENCE_S = 5.0  # from the last byte of a request until its answer begins


# Text from a query string. What comes in a body is checked by Schema.
Text = Annotated[str, AfterValidator(storable.text)]


class Schema(BaseModel):
    """The base of what clients send: unknown fields are refused, text is trimmed and can be stored.

    A number is a number and a bool a bool: "5" and "yes" are neither. `inputs` has what JSON spells as text.
    """

    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _holds_storable_text(cls, data: Any) -> Any:
        storable.every_text(data)  # as an error of the database it would be a 500
        return data


class Problem(BaseModel):
    """A problem document (RFC 9457). Branch on `code`; `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    params: dict[str, Any]
    request_id: str


class BadJson(Invalid):
    code = "bad_json"
    texts = Texts(en="The body is not valid JSON.", zh="请求内容不是有效的 JSON")


class BadForm(Invalid):
    code = "bad_form"
    texts = Texts(en="The body is not valid multipart/form-data.", zh="请求内容不是有效的 multipart/form-data")


class TooLarge(Invalid):
    code = "too_large"
    texts = Texts(en="The body is larger than {max_bytes} bytes.", zh="提交的内容过大，最多 {max_bytes} 字节")


class MethodNotAllowed(HallpassError):
    code = "method_not_allowed"
    texts = Texts(en="This address does not take this method.", zh="不支持的请求方法")


class Broken(HallpassError):
    code = "internal"
    texts = Texts(en="Something broke on our side. Quote request {request_id}.", zh="系统出错，请提供编号 {request_id}")


_STATUS_OF_CODE = {BadJson: 400, BadForm: 400, TooLarge: 413, MethodNotAllowed: 405, Broken: 500}


def status_of(error: HallpassError) -> int:
    """Return the HTTP status of a kind of error."""
    if type(error) in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[type(error)]
    return next((status for kind, status in STATUS_OF_KIND.items() if isinstance(error, kind)), 400)


@lru_cache(maxsize=256)
def language_of(header: str) -> Language:
    """Choose zh or en by an Accept-Language header (RFC 9110, 12.5.4); Chinese where it names neither."""
    best: tuple[float, Language] = (0.0, "zh")
    for part in header.split(","):
        tag, _, parameter = part.strip().partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        primary = tag.strip().lower().split("-")[0]
        if primary == "zh" and quality > best[0]:
            best = (quality, "zh")
        elif primary == "en" and quality > best[0]:
            best = (quality, "en")
    return best[1]


def problem(error: HallpassError, accept_language: str, *, service: str) -> Answer:
    """Render an error as a problem document in the caller's language."""
    language = language_of(accept_language)
    _problems_counted(service, error.code).inc()
    try:
        kind: Any = type(error)  # mypy takes a class with its instances' __hash__ for unhashable
        document = _kept_document(kind, tuple(error.params.items()), language)
    except TypeError:  # params that hold lists
        document = _document(error, language)
    headers = {"Content-Language": "zh-CN" if language == "zh" else "en"}
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(error.params.get("retry_after_s", RETRY_AFTER_S))
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    body = document.filled(request_id=to_json(context.request_id()))
    return Answer(status_of(error), body, media_type="application/problem+json", headers=headers)


def _document(error: HallpassError, language: Language) -> Mould:
    return Mould(
        {
            "type": f"urn:hallpass:problem:{error.code}",
            "title": error.code.replace("_", " "),
            "status": status_of(error),
            "detail": error.sentence(language),
            "code": error.code,
            "params": error.params,
            "request_id": Hole("request_id"),
        }
    )


@lru_cache(maxsize=1024)
def _kept_document(kind: type[HallpassError], params: tuple[tuple[str, Any], ...], language: Language) -> Mould:
    """Make the document once for the crowd that is told the same."""
    return _document(kind(**dict(params)), language)


@cache
def _problems_counted(service: str, code: str) -> Counter:
    return metrics.PROBLEMS.labels(service, code)


# --- what routes ask for --------------------------------------------------------------------------------------------


def _runtime(request: Request) -> Runtime:
    found: Runtime = request.app.state.runtime
    return found


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


def _transaction(runtime: RuntimeDep) -> Iterator[Session]:
    with runtime.db.transaction() as session:
        yield session


# Function scope: the commit happens before the answer is sent, so that a failed commit is never answered with 200.
Tx = Annotated[Session, Depends(_transaction, scope="function")]

Now = Annotated[datetime, Depends(utcnow)]


def _language(request: Request) -> Language:
    return language_of(request.headers.get("accept-language", ""))


ReadersLanguage = Annotated[Language, Depends(_language)]


def client_address(request: Request) -> str:
    """Return the caller's address, as the gateway passed it on."""
    return request.client.host if request.client else "unknown"


def _canonical(text: str) -> str:
    found = parse_id(text)
    if found is None:
        raise unfit("not_an_id")
    return found


# An id from path, query or body. What is no id names nothing: in a path it is answered with 404, elsewhere with 422.
Id = Annotated[str, AfterValidator(_canonical)]


async def _refuse_unknown_query(request: Request) -> None:
    # A misspelled filter that is passed over would list everything. Not in a thread: it only compares names.
    if not request.query_params:
        return
    route: APIRoute = request.scope["route"]
    known = {param.alias for param in get_flat_params(route.dependant) if isinstance(param.field_info, params.Query)}
    if unknown := request.query_params.keys() - known:
        language = language_of(request.headers.get("accept-language", ""))
        names = sorted(unknown)[: faults.MOST]
        raise Invalid(faults=[faults.fault(f"query.{name}", "unknown_parameter", language) for name in names])


# --- the app --------------------------------------------------------------------------------------------------------


class _App(FastAPI):
    """FastAPI behind the Edge and the lean routes.

    Its own document describes every answer of a route as the route's own media type; problems have theirs.
    """

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take what the lean routes leave."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            for refusal in _REFUSALS:
                content = operation["responses"][refusal]["content"]
                content["application/problem+json"] = content.pop(next(iter(content)))
        return document


_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "Refused"},
    "503": {"model": Problem, "description": "Busy"},
}


def create_app(runtime: Runtime) -> FastAPI:
    """Build the app of one service around its runtime."""
    service = runtime.service
    app = _App(
        title=f"Hallpass {service.title}",
        version="1",
        openapi_url=f"{service.prefix}/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=_REFUSALS,
        dependencies=[Depends(_refuse_unknown_query)],
        # Spans and metrics are the Edge's, which sees the lean routes too; FastAPI's own logs would hold what people sent.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.runtime = runtime
    for router in service.routers:
        app.include_router(router, prefix=service.prefix)
    app.include_router(health.router)
    refuse = partial(_refuse, runtime)
    _handle_errors(app, refuse)
    lean = Lean(app.behind, runtime=runtime, refuse=refuse)
    larger = {service.prefix + path: most for path, most in service.body_limits(runtime.settings).items()}
    app.front = Edge(lean, service=service.name, max_body_bytes=runtime.settings.max_body_bytes, larger=larger)
    return app


def _handle_errors(app: FastAPI, refuse: Refuse) -> None:
    def answer(request: Request, error: Exception) -> Response:
        refusal = refuse(request.scope, error)
        if refusal is None:
            raise error
        return refusal.response()

    async def tell(request: Request, error: Exception) -> Response:
        """Answer what nobody caught; Starlette raises it again, for the Edge to log."""
        return answer(request, Broken(request_id=context.request_id()))

    for kind in (HallpassError, RequestValidationError, HTTPException, DBAPIError, PoolTimeout):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, tell)


def _refuse(runtime: Runtime, scope: Scope, error: Exception) -> Answer | None:
    """Render what was raised, or return None where it is nothing that a caller can be told."""
    known = _known(error, scope)
    if known is None:
        return None
    return problem(known, _header(scope, b"accept-language"), service=runtime.service.name)


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _known(error: Exception, scope: Scope) -> HallpassError | None:
    match error:
        case HallpassError():
            return error
        case RequestValidationError():
            return _from_validation(error, scope)
        case HTTPException():
            return _from_http(error, scope)
        case PoolTimeout() | DBAPIError():
            return unavailable(error)
    return None


def _from_http(error: HTTPException, scope: Scope) -> HallpassError:
    if error.status_code == 405:
        return MethodNotAllowed()
    if isinstance(error, _BodyTooLarge):
        return TooLarge(max_bytes=error.most)
    if error.status_code == 400:
        is_form = _header(scope, b"content-type").lower().startswith("multipart/")
        return BadForm() if is_form else BadJson()
    return NotFound()


def _from_validation(error: RequestValidationError, scope: Scope) -> HallpassError:
    found = error.errors()
    if any(fault["type"] == "json_invalid" for fault in found):
        return BadJson()
    if any(fault["loc"][:1] == ("path",) for fault in found):
        return NotFound()
    language = language_of(_header(scope, b"accept-language"))
    return Invalid(faults=[faults.of_validation(fault, language) for fault in found[: faults.MOST]])


class _BodyTooLarge(HTTPException):
    """An HTTPException, because FastAPI turns anything else raised while it reads a body into a 400."""

    def __init__(self, most: int) -> None:
        super().__init__(413)
        self.most = most


_NOT_STORED = (b"cache-control", b"private, no-store")


def _span_name(service: str, scope: Scope) -> str:
    return f"{scope['method']} {service} {getattr(scope.get('route'), 'path', 'unknown')}"


def _as_get(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Turn HEAD into GET whose content is not sent (RFC 9110, 9.3.2). Metrics count it as what it is answered by."""

    async def without_content(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    # A copy: the server goes by the method of its own scope when it looks at the length of what is sent.
    return {**scope, "method": "GET"}, without_content


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
                raise _BodyTooLarge(self._most)
            await app(self._scope, self._hear, self._say)
        except _BodyTooLarge:
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
            raise _BodyTooLarge(self._most)
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
