"""What a service is, and what one process needs to run a part of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from fastapi import APIRouter
from sqlalchemy.orm import Session

from libs.common.db import Database
from libs.common.inbox import Consumer
from libs.common.messages import Fact
from libs.common.metrics import Measure
from libs.common.ratelimit import RateLimiter
from libs.common.settings import Settings
from libs.common.tally import Tally
from libs.common.tokens import TokenKeys

USUAL_QUEUE = "hallpass"


@dataclass(frozen=True)
class Task:
    """Work inside a service that Celery repeats. `run` takes the runtime, owns its transactions, may be repeated.

    What takes long has a `queue` of its own, with workers of its own, so that nothing else waits for it.
    """

    name: str
    run: "Callable[[Runtime], object]"
    every: timedelta | None = None
    daily_at: tuple[int, int] | None = None  # hour, minute in UTC
    queue: str = USUAL_QUEUE


class WakingLoop(Protocol):
    """Work that goes on for as long as a process lives, on a thread of its own: `run` returns after `stop`.

    It finds by looking what there is to do, and looks at once after a commit, if it is told of it.
    """

    def run(self) -> None: ...

    def stop(self) -> None: ...

    def wake_on_commit(self, db: Database) -> None: ...


@dataclass(frozen=True, eq=False)
class Service:
    """A whole service: what it serves, hears, runs in the background, owns and needs.

    `resources` builds what its routes need beside the common parts (available as `runtime.resources`), `attach` ties
    that to the other parts of a runtime (it may start no thread: a worker forks), `start` starts what runs beside a
    process that serves, and `detach` ends it; `loops` returns what runs on threads in a process of its own; `republish`
    yields its present state as facts,
    `body_limits` tells which routes take larger bodies than the others, by their paths; `measures` reads from the
    tables what /metrics of the process with the service's events tells, at each look: it has to be quick.
    """

    name: str
    title: str
    package: Path
    settings: type[Settings]
    routers: tuple[APIRouter, ...]
    consumers: tuple[Consumer, ...] = ()
    tasks: tuple[Task, ...] = ()
    resources: Callable[[Any], Any] = lambda settings: None
    attach: "Callable[[Runtime], None]" = lambda runtime: None
    start: "Callable[[Runtime], None]" = lambda runtime: None
    detach: "Callable[[Runtime], None]" = lambda runtime: None
    loops: "Callable[[Runtime], Sequence[WakingLoop]]" = lambda runtime: ()
    republish: Callable[[Session], Iterable[Fact]] | None = None
    body_limits: Callable[[Any], Mapping[str, int]] = lambda settings: {}
    measures: Callable[[Session], Iterable[Measure]] = lambda session: ()

    @property
    def prefix(self) -> str:
        """Where the gateway shows the service."""
        return f"/api/{self.name}"

    @property
    def migrations(self) -> Path:
        return self.package / "migrations"


@dataclass
class Runtime:
    """One process's view of one service: settings, database, limiter, keys and the service's own resources."""

    service: Service
    settings: Any
    db: Database
    limiter: RateLimiter
    tally: Tally
    staff_keys: TokenKeys
    user_keys: TokenKeys
    resources: Any = field(default=None)

    @classmethod
    def build(cls, service: Service, settings: Settings, *, db: Database | None = None) -> "Runtime":
        """Return the runtime over the database that the settings name, or over this one; it closes either."""
        redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
        runtime = cls(
            service=service,
            settings=settings,
            db=db
            or Database(
                settings.database_url.get_secret_value(), name=service.name, pool_size=settings.database_pool_size
            ),
            limiter=RateLimiter(redis_url, service=service.name),
            tally=Tally(redis_url, service=service.name),
            staff_keys=TokenKeys(settings.staff_token_keys, algorithm="Ed25519", audience="staff"),
            user_keys=TokenKeys(settings.user_token_keys, algorithm="HS256", audience="user"),
            resources=service.resources(settings),
        )
        service.attach(runtime)
        return runtime

    def close(self) -> None:
        self.service.detach(self)
        self.tally.close()
        self.db.close()
