"""The states of exports: which file is published, what is given back, and what is swept."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.admin import jobs, policy
from services.admin.errors import WorkerLost
from services.admin.models import ExportJob
from services.admin.policy import MOST_RUNS, ExportState

FOLDER = "exports"


Run = jobs.Run[ExportJob]


def key_of(run: Run) -> str:
    """Return where the run's file is stored: every run has a place of its own, and overwrites no other's."""
    return f"{FOLDER}/{run.job_id}/{run.number}.xlsx"


def claim(session: Session, *, lease: timedelta, now: datetime) -> Run | None:
    """Begin a run of the export whose turn it is; None where none waits."""
    return jobs.claim(session, ExportJob, may_run=ExportJob.runs < MOST_RUNS, lease=lease, now=now)


def finish(session: Session, run: Run, *, rows: int, size: int, now: datetime) -> bool:
    """Publish the run's file: the job is done, and can be fetched for a day. False where the run has lost the job."""
    job = jobs.locked(session, run)
    if job is None:
        return False
    job.state, job.lease_until, job.ended_at = ExportState.DONE, None, now
    job.rows_done = job.rows_total = rows
    job.file_key, job.file_bytes, job.file_until = key_of(run), size, now + policy.EXPORT_LASTS
    job.wanted = without_search(job.wanted)
    session.flush()
    jobs.note_for_owner(session, job, "export.done", after={"rows": rows, "bytes": size, "runs": run.number})
    return True


def give_back(session: Session, run: Run, failure: str, *, for_good: bool, now: datetime) -> bool:
    """Let another run begin later, or the job fail; False where the run has lost the job."""
    job = jobs.locked(session, run)
    if job is None:
        return False
    _after_failure(session, job, failure, for_good=for_good, now=now)
    return True


def take_from_the_lost(session: Session, *, now: datetime) -> dict[str, int]:
    """Put the jobs of workers that are gone back into the queue, or let them fail; return how many of each."""
    return jobs.take_from_the_lost(
        session, ExportJob, lambda job: _after_failure(session, job, WorkerLost.code, for_good=False, now=now), now=now
    )


def _after_failure(session: Session, job: ExportJob, failure: str, *, for_good: bool, now: datetime) -> None:
    job.state = policy.after_failure(job.runs, for_good=for_good)
    job.lease_until = None
    if job.state == ExportState.FAILED:
        job.failure, job.ended_at = failure, now
        job.wanted = without_search(job.wanted)
        jobs.note_for_owner(session, job, "export.failed", after={"failure": failure, "runs": job.runs})
    session.flush()


def due_to_expire(session: Session, *, now: datetime) -> list[ExportJob]:
    """Return, locked, the jobs whose files have lasted long enough."""
    return list(
        session.scalars(
            select(ExportJob)
            .where(ExportJob.state == ExportState.DONE)
            .where(ExportJob.file_until <= now)
            .order_by(ExportJob.id)
            .limit(100)
            .with_for_update(skip_locked=True)
        )
    )


def expire(session: Session, job: ExportJob) -> None:
    """Note that the file of a job is deleted."""
    job.state, job.file_key = ExportState.EXPIRED, None
    job.link_hash = job.link_until = None
    session.flush()
    jobs.note(session, jobs.SYSTEM, job, "export.expired")


def orphans(session: Session, keys: Iterable[str]) -> list[str]:
    """Return those of the keys whose files nobody will fetch: of runs that were lost, or of jobs that are over.

    The keys were listed before: a file that is stored meanwhile is none of them.
    """
    found = {key: tuple(key.removesuffix(".xlsx").split("/")[1:]) for key in keys}
    ids = {parts[0] for parts in found.values()}
    rows = session.execute(select(ExportJob.id, ExportJob.state, ExportJob.runs).where(ExportJob.id.in_(ids)))
    states = {row.id: (ExportState(row.state), row.runs) for row in rows}
    useless = []
    for key, (job_id, number) in found.items():
        state, runs = states.get(job_id, (None, 0))
        if policy.is_orphan(int(number), state=state, runs=runs):
            useless.append(key)
    return useless


SEARCHES = frozenset({"q", "person"})


def without_search(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what was wanted without what was searched for: names and codes of people are not kept with the job."""
    return wanted | {"filter": {name: value for name, value in wanted["filter"].items() if name not in SEARCHES}}
