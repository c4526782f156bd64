"""What operators ask a process directly, and nobody through the gateway: /livez, /readyz and /metrics."""

import math
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from fastapi import FastAPI
from pika.exceptions import AMQPError
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common import metrics, outbox
from libs.common.errors import NotFound
from libs.common.inbox import Consumer
from libs.common.problems import problem
from libs.common.service import Runtime
from libs.common.web import create_app

PATHS = frozenset({"/livez", "/readyz", "/metrics"})


class Ops:
    """Passes only the operators' paths on to the service's app."""

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PATHS:
            await problem(NotFound(), "", service=self._service).send(send)
            return
        await self._app(scope, receive, send)


class OpsOfAll:
    """The operators' paths of several services under `/<service>/...`."""

    def __init__(self, apps: dict[str, FastAPI]) -> None:
        self._apps = {name: Ops(app, service=name) for name, app in apps.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        name, _, rest = scope["path"].removeprefix("/").partition("/")
        app = self._apps.get(name)
        if app is None:
            await problem(NotFound(), "", service="ops").send(send)
            return
        await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)


def ops_app(runtime: Runtime) -> ASGIApp:
    """The operators' paths of a process that serves nobody else."""
    return Ops(create_app(runtime), service=runtime.service.name)


def process_app(redis_url: str) -> ASGIApp:
    """The operators' paths of a worker or a beat, which live by Redis."""

    def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def readyz(_: Request) -> Response:
        try:
            with Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2) as client:
                client.ping()
        except RedisError as error:
            part = {"status": "down", "detail": f"Redis does not answer ({type(error).__name__}); no tasks come"}
            return JSONResponse({"status": "down", "parts": {"redis": part}}, 503)
        return JSONResponse({"status": "ok", "parts": {"redis": {"status": "ok", "detail": "answers"}}})

    def metrics_page(_: Request) -> Response:
        registry = CollectorRegistry()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client types it not
        else:
            registry = REGISTRY
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics_page)],
    )


class Queue(Protocol):
    """A consumer's queue, on either bus."""

    consumer: Consumer

    def waiting(self) -> int: ...

    def dead(self) -> int: ...


def watch_service(runtime: Runtime, queues: Iterable[Queue]) -> None:
    """Let /metrics tell, at each look, what waits in the service's outbox, in its queues and in its tables."""
    service, db = runtime.service.name, runtime.db
    metrics.OUTBOX_PENDING.labels(service).set_function(_known(lambda: db.run(outbox.pending)))
    metrics.OUTBOX_OLDEST.labels(service).set_function(_known(lambda: db.run(outbox.oldest_s)))
    for queue in queues:
        metrics.QUEUE_MESSAGES.labels(service, queue.consumer.name).set_function(_known(queue.waiting))
        metrics.DEAD_LETTERS.labels(service, queue.consumer.name).set_function(_known(queue.dead))
    REGISTRY.register(_Measures(runtime))


def watch_connections(runtime: Runtime) -> None:
    """Let /metrics tell how many of its connections to PostgreSQL this process uses."""
    pool: Any = runtime.db.engine.pool
    metrics.CONNECTIONS.labels(runtime.service.name).set_function(lambda: float(pool.checkedout()))
    metrics.MOST_CONNECTIONS.labels(runtime.service.name).set(pool.size())


class _Measures(Collector):
    """What a service reads from its tables at each look; nothing while PostgreSQL is away."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> Iterable[Metric]:
        return ()  # without it the registry would read the tables now

    def collect(self) -> Iterable[Metric]:
        service = self._runtime.service
        try:
            found = self._runtime.db.run(lambda session: list(service.measures(session)))
        except (DBAPIError, PoolTimeout):
            return
        by_name: dict[str, GaugeMetricFamily] = {}
        for measure in found:
            names = ["service", *measure.labels]
            family = by_name.setdefault(measure.name, GaugeMetricFamily(measure.name, measure.about, labels=names))
            family.add_metric([service.name, *measure.labels.values()], measure.value)
        yield from by_name.values()


def _known(read: Callable[[], float]) -> Callable[[], float]:
    def value() -> float:
        try:
            return float(read())
        except (DBAPIError, PoolTimeout, AMQPError, OSError):
            return math.nan  # PostgreSQL or the broker is away: nobody knows

    return value
