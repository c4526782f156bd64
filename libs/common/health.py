"""What operators ask of every process that serves: is it up, is it ready, and its metrics."""

import asyncio
from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.responses import Response

from libs.common import migrations
from libs.common.service import Runtime

LOOK_WITHIN_S = 1.5  # at each part

router = APIRouter(include_in_schema=False)


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process is up; nothing else is asked."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Ready to serve: 200 when ok or degraded, 503 when down."""
    found = await readiness(request.app.state.runtime)
    return JSONResponse(found, 503 if found["status"] == "down" else 200)


@router.get("/metrics")
def metrics_page() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def readiness(runtime: Runtime) -> dict[str, Any]:
    """Look at the parts a service needs: {status: ok | degraded | down, parts: {name: {status, detail}}}.

    A database that is away or not migrated means down; a lost Redis or broker is degraded.
    """
    looks = {
        "database": _look(_database_part, runtime, late={"status": "down", "detail": "PostgreSQL hangs"}),
        "redis": _look(_redis_part, runtime, late={"status": "degraded", "detail": "Redis hangs; no rate limits"}),
    }
    if runtime.settings.broker_url is not None:
        late = {"status": "degraded", "detail": "RabbitMQ hangs; events wait in the outbox"}
        looks["broker"] = _look(_broker_part, runtime, late=late)
    parts = dict(zip(looks, await asyncio.gather(*looks.values()), strict=True))
    if parts["database"]["status"] != "ok":
        status = "down"
    else:
        status = "ok" if all(part["status"] == "ok" for part in parts.values()) else "degraded"
    return {"status": status, "parts": parts}


async def _look(part: Callable[[Runtime], dict[str, str]], runtime: Runtime, *, late: dict[str, str]) -> dict[str, str]:
    """Look on a thread that no request waits for or keeps from us; one that hangs is left to itself."""
    looking = to_thread.run_sync(part, runtime, abandon_on_cancel=True, limiter=CapacityLimiter(1))
    try:
        return await asyncio.wait_for(looking, LOOK_WITHIN_S)
    except TimeoutError:
        return late


def _database_part(runtime: Runtime) -> dict[str, str]:
    try:
        at, wanted = runtime.db.revision(), migrations.head(runtime.service.migrations)
    except (DBAPIError, PoolTimeout) as error:
        return {"status": "down", "detail": f"PostgreSQL does not answer ({type(error).__name__})"}
    if at != wanted:
        return {"status": "down", "detail": f"migrations are at {at}, this release needs {wanted}: run `make migrate`"}
    return {"status": "ok", "detail": f"migrated to {at}"}


def _redis_part(runtime: Runtime) -> dict[str, str]:
    try:
        runtime.limiter.ping()
    except RedisError as error:
        return {"status": "degraded", "detail": f"Redis does not answer ({type(error).__name__}); no rate limits"}
    return {"status": "ok", "detail": "answers"}


def _broker_part(runtime: Runtime) -> dict[str, str]:
    from libs.common import bus_rabbit

    if bus_rabbit.answers(runtime.settings.broker_url.get_secret_value()):
        return {"status": "ok", "detail": "answers"}
    return {"status": "degraded", "detail": "RabbitMQ does not answer; events wait in the outbox"}
