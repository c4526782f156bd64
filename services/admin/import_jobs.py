"""The states of imports. Once one is to be applied it ends by what its service says, and by nothing else.

A run may die when the service has applied everything and nobody has heard of it. So an import that is to be applied is
asked about again, under its id, until an answer came; after some runs, or when its owner may no longer, it is closed
there, and the answer to that says whether it is done.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from libs.contracts.imports import ImportFaulty
from services.admin import jobs
from services.admin.errors import WorkerLost
from services.admin.models import ImportJob
from services.admin.policy import MOST_RUNS, ImportState

FOLDER = "imports"
Run = jobs.Run[ImportJob]


def key_of(job_id: str) -> str:
    """Return where the file of an import is stored."""
    return f"{FOLDER}/{job_id}.xlsx"


def claim(session: Session, *, lease: timedelta, now: datetime) -> Run | None:
    """Begin a run of the import whose turn it is; None where none waits."""
    may_run = or_(ImportJob.applies, ImportJob.runs < MOST_RUNS)
    return jobs.claim(session, ImportJob, may_run=may_run, lease=lease, now=now)


def checked(session: Session, run: Run, *, rows: int) -> bool:
    """Note that the dry run found no fault; False where the run has lost the job."""
    job = jobs.locked(session, run)
    if job is None:
        return False
    job.state, job.lease_until = ImportState.CHECKED, None
    job.rows_done = job.rows_total = rows
    session.flush()
    return True


def done(session: Session, run: Run, *, rows: int, now: datetime) -> bool:
    """Note that everything is applied; False where the run has lost the job."""
    job = jobs.locked(session, run)
    if job is None:
        return False
    job.rows_done = job.rows_total = rows
    _end(session, job, ImportState.DONE, now=now)
    jobs.note_for_owner(session, job, "import.done", after={"rows": rows, "runs": job.runs})
    return True


def fail(
    session: Session,
    run: Run,
    failure: str,
    *,
    now: datetime,
    faults: Iterable[dict[str, Any]] = (),
    faults_total: int = 0,
    rows: int | None = None,
) -> bool:
    """Note that nothing was applied, and will be; False where the run has lost the job."""
    job = jobs.locked(session, run)
    if job is None:
        return False
    job.faults, job.faults_total, job.rows_total = list(faults), faults_total, rows
    _fail(session, job, failure, now=now)
    return True


def refuse(
    session: Session, run: Run, faults: Iterable[dict[str, Any]], *, total: int, rows: int, now: datetime
) -> bool:
    """Note what is wrong with the file, and how much in all; False where the run has lost the job."""
    return fail(session, run, ImportFaulty.code, faults=faults, faults_total=total, rows=rows, now=now)


def give_back(session: Session, run: Run, failure: str, *, now: datetime) -> bool:
    """Let another run begin later, or the dry run fail; False where the run has lost the job."""
    job = jobs.locked(session, run)
    if job is None:
        return False
    _after_failure(session, job, failure, now=now)
    return True


def take_from_the_lost(session: Session, *, now: datetime) -> dict[str, int]:
    """Put the jobs of workers that are gone back into the queue, or let their dry runs fail; return how many of each."""
    return jobs.take_from_the_lost(
        session, ImportJob, lambda job: _after_failure(session, job, WorkerLost.code, now=now), now=now
    )


def _after_failure(session: Session, job: ImportJob, failure: str, *, now: datetime) -> None:
    if not job.applies and job.runs >= MOST_RUNS:
        _fail(session, job, failure, now=now)
        return
    job.state, job.lease_until = ImportState.QUEUED, None
    session.flush()


def _fail(session: Session, job: ImportJob, failure: str, *, now: datetime) -> None:
    job.failure = failure
    _end(session, job, ImportState.FAILED, now=now)
    jobs.note_for_owner(
        session, job, "import.failed", after={"failure": failure, "faults": job.faults_total, "runs": job.runs}
    )


def _end(session: Session, job: ImportJob, state: ImportState, *, now: datetime) -> None:
    """End a job; its file is swept."""
    job.state, job.lease_until, job.ended_at = state, None, now
    job.file_key = job.file_until = None
    session.flush()


def cancel(session: Session, job: ImportJob, *, now: datetime) -> None:
    _end(session, job, ImportState.CANCELLED, now=now)


def expire(session: Session, *, now: datetime) -> int:
    """End the imports that nobody has said anything about for a day; return how many."""
    due = session.scalars(
        select(ImportJob)
        .where(ImportJob.state == ImportState.CHECKED)
        .where(ImportJob.file_until <= now)
        .order_by(ImportJob.id)
        .limit(100)
        .with_for_update(skip_locked=True)
    ).all()
    for job in due:
        _end(session, job, ImportState.EXPIRED, now=now)
        jobs.note(session, jobs.SYSTEM, job, "import.expired")
    return len(due)


def orphans(session: Session, keys: Iterable[str]) -> list[str]:
    """Return those of the keys whose files no import needs."""
    wanted = set(session.scalars(select(ImportJob.file_key).where(ImportJob.file_key.in_(list(keys)))))
    return [key for key in keys if key not in wanted]
