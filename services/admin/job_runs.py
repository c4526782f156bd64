"""What every run of a job needs: the lease that keeps its job, and the token by which it asks the other services."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.logs import logger
from libs.common.service import Runtime
from libs.contracts.principals import STAFF_TOKEN_LIFETIME, Staff, issue_staff_token
from services.admin import jobs
from services.admin.jobs import Run

log = logger(__name__)
TOKEN_IS_FRESH = STAFF_TOKEN_LIFETIME / 2
Who = Callable[[Session, Any, str], Staff]


class LeaseLost(Exception):
    """The job is no longer this run's: it was cancelled, or another run has begun."""


@dataclass
class Progress:
    """How far a run is; it is told to `check`, which raises where the run is over."""

    check: Callable[[], None]
    rows_done: int = 0
    rows_total: int | None = None


class Lease:
    """Keeps the job while the block runs, on a thread of its own: a large file may take minutes to compress."""

    def __init__(self, db: Database, run: Run[Any], lease: timedelta) -> None:
        self._db = db
        self._run = run
        self._lease = lease
        self._over = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._keep, name=f"lease-{run.job_id}", daemon=True)
        self.progress = Progress(check=self._check)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _check(self) -> None:
        if self._lost:
            raise LeaseLost

    def _keep(self) -> None:
        seconds = self._lease.total_seconds()
        kept_at = time.monotonic()
        while not self._over.wait(min(seconds / 4, 2.0)):
            try:
                self._lost = not self._renew()
                kept_at = time.monotonic()
            except (DBAPIError, PoolTimeout) as error:
                log.warning("a lease can't be renewed", job=self._run.job_id, error=type(error).__name__)
                self._lost = time.monotonic() - kept_at > seconds
            if self._lost:
                return

    def _renew(self) -> bool:
        done, total = self.progress.rows_done, self.progress.rows_total
        return self._db.run(
            lambda session: jobs.renew(
                session, self._run, rows_done=done, rows_total=total, lease=self._lease, now=utcnow()
            )
        )


class OwnersToken:
    """A token for the run: its owner's, as they asked for the job, and never longer than they are still that."""

    def __init__(self, runtime: Runtime, run: Run[Any], *, who: Who = jobs.owner, unmasked: bool = False) -> None:
        self._runtime = runtime
        self._run = run
        self._who = who
        self._unmasked = unmasked
        self._token = ""
        self._good_until = utcnow()

    def value(self) -> str:
        if utcnow() >= self._good_until:
            self._renew()
        return self._token

    def forget(self) -> None:
        self._good_until = utcnow()

    def _renew(self) -> None:
        now = utcnow()
        staff = self._runtime.db.run(lambda session: self._who(session, self._run.table, self._run.job_id))
        staff = replace(staff, unmasked=self._unmasked, job=self._run.job_id)
        self._token = issue_staff_token(self._runtime.staff_keys, staff, now=now)
        self._good_until = now + TOKEN_IS_FRESH
