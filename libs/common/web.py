"""FastAPI around a service: its app, with what routes ask for."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache, partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common import context, faults, health, storable
from libs.common.clock import utcnow
from libs.common.db import unavailable
from libs.common.edge import BodyTooLarge, Edge
from libs.common.errors import HallpassError, Invalid, Language, NotFound
from libs.common.ids import parse_id
from libs.common.inputs import unfit
from libs.common.lean import Answer, Lean, Refuse
from libs.common.problems import BadForm, BadJson, Broken, MethodNotAllowed, Problem, TooLarge, language_of, problem
from libs.common.service import Runtime, Service

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
        routes=_routes(service),
        # Spans and metrics are the Edge's, which sees the lean routes too; FastAPI's own logs would hold what people sent.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.runtime = runtime
    refuse = partial(_refuse, runtime)
    _handle_errors(app, refuse)
    lean = Lean(app.behind, runtime=runtime, refuse=refuse)
    larger = {service.prefix + path: most for path, most in service.body_limits(runtime.settings).items()}
    app.front = Edge(lean, service=service.name, max_body_bytes=runtime.settings.max_body_bytes, larger=larger)
    return app


@cache
def _routes(service: Service) -> list[BaseRoute]:
    """Make the routes of a service, once a process: they are its code, and find the runtime through the app that is asked."""
    router = APIRouter(responses=_REFUSALS, dependencies=[Depends(_refuse_unknown_query)])
    for of_service in service.routers:
        router.include_router(of_service, prefix=service.prefix)
    router.include_router(health.router)
    return router.routes


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
    if isinstance(error, BodyTooLarge):
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
