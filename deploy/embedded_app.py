"""The one application process of the embedded run: all four services, the front, relays and local queues."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from deploy import ops, registry, runtimes
from deploy.front import front
from deploy.gateway import Gateway
from deploy.health import Health
from deploy.loops import Loop, Loops
from deploy.prepare import prepare
from deploy.serve import BackgroundServer, listen, listen_privately, serve
from libs.common.bus_local import LocalBus, LocalQueue
from libs.common.health import readiness
from libs.common.outbox import Relay
from libs.common.service import Runtime, WakingLoop
from libs.common.web import create_app

FALLBACK_POLL_S = 1.0  # commits of this process wake the relays; those of the worker are found by looking


def run(*, host: str, port: int, trusted_proxies: str | None, ops_socket: Path, password_file: Path) -> int:
    """Prepare the database, then serve until told to stop."""
    serving = {
        runtime.service.name: runtime for runtime in runtimes.build_all(process="app", services=registry.every())
    }
    listening = listen(host, port)
    prepare(password_file=password_file)
    # The bus has connections of its own: a rush of requests must not keep it waiting.
    bus = {name: runtimes.rebuild(runtime.service, runtime.settings) for name, runtime in serving.items()}
    loops = Loops(_loops(serving, bus))
    apps = {name: create_app(runtime) for name, runtime in serving.items()}
    operators = BackgroundServer(ops.OpsOfAll(apps), listen_privately(ops_socket))
    for runtime in serving.values():
        runtime.service.start(runtime)
        ops.watch_connections(runtime)
    loops.start()
    operators.start()
    mounted: dict[str, ASGIApp] = dict(apps)
    gateway = Gateway(mounted, front(_health(serving), lifespan=_lifespans(apps)))
    serve(gateway, listening, trusted_proxies=trusted_proxies, graceful_s=3)
    operators.stop()
    loops.stop(3)
    for runtime in [*serving.values(), *bus.values()]:
        runtime.close()
    return 0


def _loops(serving: dict[str, Runtime], bus: dict[str, Runtime]) -> list[Loop]:
    queues = [
        LocalQueue(consumer, bus[service.name].db, retry_delays_s=bus[service.name].settings.retry_delays_s)
        for service in registry.every()
        for consumer in service.consumers
    ]
    local = LocalBus(queues)
    woken: list[WakingLoop] = []
    for name, runtime in bus.items():
        of_service = [Relay(runtime.db, local, source=name, poll_s=FALLBACK_POLL_S), *runtime.service.loops(runtime)]
        for database in (runtime.db, serving[name].db):
            for loop in dict.fromkeys(of_service):  # one that runs on several threads is there several times
                loop.wake_on_commit(database)
        ops.watch_service(runtime, [queue for queue in queues if queue.consumer in runtime.service.consumers])
        woken += of_service
    return [*woken, *queues]


def _health(serving: dict[str, Runtime]) -> Health:
    return Health({name: partial(readiness, runtime) for name, runtime in serving.items()})


def _lifespans(apps: dict[str, FastAPI]) -> Any:
    """Apps behind the gateway are not told that the process starts and ends: enter and leave them here."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return lifespan
