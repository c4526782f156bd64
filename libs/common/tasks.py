"""Background work on Celery: tasks carry no arguments beyond ids, may be repeated, and are found again by a sweep."""

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import crontab
from kombu.exceptions import OperationalError

from libs.common import context, metrics, traces
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.common.service import USUAL_QUEUE, Runtime, Task

log = logger(__name__)

RESULTS = ("done", "failed")


def celery_app(broker_url: str, runtimes: list[Runtime], *, schedule_url: str | None = None) -> Celery:
    """Return the Celery app with every task of the given services and their schedule.

    `broker_url` is Redis, over TCP or (unix://) a socket. `schedule_url` (Redis) lets several beats share one schedule through a lock; without it the schedule lies
    with the one worker that has `--beat`.
    """
    app = Celery("hallpass", broker=_spelled_for_celery(broker_url), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": 3600},
        task_default_queue=USUAL_QUEUE,
        task_routes={task.name: {"queue": task.queue} for runtime in runtimes for task in runtime.service.tasks},
        timezone="UTC",
        beat_max_loop_interval=15,
    )
    if schedule_url:
        app.conf.update(beat_scheduler="redbeat.RedBeatScheduler", redbeat_redis_url=schedule_url)
    schedule: dict[str, Any] = {}
    for runtime in runtimes:
        for task in runtime.service.tasks:
            _register(app, runtime, task)
            if task.every:
                # A tick that no worker took in time is of no use: the next one does its work.
                expires = min(task.every, timedelta(hours=1)).total_seconds()
                schedule[task.name] = {"task": task.name, "schedule": task.every, "options": {"expires": expires}}
            elif task.daily_at:
                hour, minute = task.daily_at
                schedule[task.name] = {"task": task.name, "schedule": crontab(hour=hour, minute=minute)}
    app.conf.beat_schedule = schedule
    return app


def _spelled_for_celery(url: str) -> str:
    return f"redis+socket://{url.removeprefix('unix://')}" if url.startswith("unix://") else url


def send(app: Celery, task: Task) -> None:
    """Ask the workers of a task's queue to do it soon; with Redis away its schedule alone does."""
    try:
        app.send_task(task.name, kwargs={"request_id": context.request_id()}, queue=task.queue, retry=False)
    except OperationalError as error:
        log.warning("a task waits for its schedule: Redis is away", task=task.name, error=type(error).__name__)


def _register(app: Celery, runtime: Runtime, task: Task) -> None:
    for result in RESULTS:
        metrics.TASKS.labels(runtime.service.name, task.name, result)  # 0 from the start: the first failure is growth

    def work(request_id: str = "") -> None:
        perform(runtime, task, request_id=request_id)

    app.task(name=task.name)(work)


def perform(runtime: Runtime, task: Task, *, request_id: str = "") -> object:
    """Do the task here and now; count and log how it ended."""
    asked_for = traces.span(f"task {task.name}") if request_id else nullcontext()  # by a request, and not by schedule
    with context.working_on(request_id or new_id()):
        try:
            with asked_for:
                done = task.run(runtime)
        except Exception:
            metrics.TASKS.labels(runtime.service.name, task.name, "failed").inc()
            log.exception("task failed", task=task.name)
            raise
        metrics.TASKS.labels(runtime.service.name, task.name, "done").inc()
        log.info("task done", task=task.name, result=done)
        return done
