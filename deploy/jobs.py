"""Background work: the Celery worker, the beat that keeps its schedule, and any task by hand."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from celery import Celery, signals
from celery.beat import Service as CeleryBeat

from deploy import ops, registry, runtimes
from deploy.loops import Loops
from deploy.names import Refusal
from deploy.serve import BackgroundServer, NoServer, listen
from libs.common import logs, tasks
from libs.common.service import Runtime, Service


def worker(*, queue: str, pool: str, concurrency: int, schedule: Path | None, host: str, ops_port: int | None) -> int:
    """Carry out the tasks of a queue until told to stop. With `schedule` (a file) it also sends all that are due."""
    found = runtimes.build_all(process="worker", services=_services_of(queue))
    url = _redis_url(found[0])
    operators = _operators(host, ops_port, url)
    app = tasks.celery_app(url, found)
    _keep_our_logs()
    if pool == "prefork":
        _build_after_fork(found)
    beats = Loops([_Beat(app, schedule)] if schedule else [])
    beats.start()
    running: Any = app.Worker(
        queues=[queue],
        pool=pool,
        concurrency=concurrency,
        loglevel=found[0].settings.log_level,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        hostname=f"worker-{os.getpid()}@hallpass",
    )
    running.start()
    beats.stop()
    operators.stop()
    for runtime in found:
        runtime.close()
    return int(running.exitcode or 0)


def beat(*, host: str, ops_port: int | None) -> int:
    """Send tasks when they are due. Any number may run: the schedule lies in Redis, behind a lock."""
    url = runtimes.required("HALLPASS_REDIS_URL")
    logs.configure("beat", os.environ.get("HALLPASS_LOG_LEVEL", "INFO"))
    _keep_our_logs()
    # It carries nothing out, so it needs the names of the tasks and none of the services' secrets.
    names: list[Any] = [SimpleNamespace(service=service) for service in registry.every()]
    app = tasks.celery_app(url, names, schedule_url=url)
    operators = _operators(host, ops_port, url)
    app.Beat(loglevel="INFO", quiet=True).run()
    operators.stop()
    return 0


def task(name: str) -> int:
    """Do one task here and now."""
    services = {task.name: (service, task) for service in registry.every() for task in service.tasks}
    if name not in services:
        raise Refusal(f"There is no task {name}; there are: {', '.join(sorted(services)) or 'none'}.")
    service, chosen = services[name]
    runtime = runtimes.build(service.name, process=f"{service.name}-task")
    result = tasks.perform(runtime, chosen)
    print(f"{name}: {result}")
    runtime.close()
    return 0


class _Beat:
    """The schedule on a thread of the worker: Celery's own `-B` forks a process that outlives a killed worker."""

    def __init__(self, app: Celery, schedule: Path) -> None:
        self._app = app
        self._schedule = schedule
        self._service: Any = None

    def run(self) -> None:
        self._service = CeleryBeat(self._app, max_interval=1, schedule_filename=str(self._schedule))
        self._service.start(embedded_process=False)

    def stop(self) -> None:
        if self._service:
            self._service.stop()


def _services_of(queue: str) -> tuple[Service, ...]:
    """Return the services that have tasks in the queue: its worker needs no others, nor their secrets."""
    found = tuple(service for service in registry.every() if any(task.queue == queue for task in service.tasks))
    if not found:
        queues = sorted({task.queue for service in registry.every() for task in service.tasks})
        raise Refusal(f"There is no queue {queue}; there are: {', '.join(queues)}.")
    return found


def _redis_url(runtime: Runtime) -> str:
    if runtime.settings.redis_url is None:
        raise Refusal("HALLPASS_REDIS_URL is missing; `make secrets` writes it")
    url: str = runtime.settings.redis_url.get_secret_value()
    return url


def _build_after_fork(found: list[Runtime]) -> None:
    """Let each process of the pool have connections of its own, never any that it shares with its parent."""

    def build_again(**_: Any) -> None:
        for runtime in found:
            runtime.__dict__.update(runtimes.rebuild(runtime.service, runtime.settings).__dict__)

    signals.worker_process_init.connect(build_again, weak=False)


def _operators(host: str, ops_port: int | None, redis_url: str) -> BackgroundServer | NoServer:
    if not ops_port:
        return NoServer()
    server = BackgroundServer(ops.process_app(redis_url), listen(host, ops_port))
    server.start()
    return server


def _keep_our_logs() -> None:
    """Celery sets logging up by itself unless somebody says that it is done."""
    signals.setup_logging.connect(lambda **_: None, weak=False)
