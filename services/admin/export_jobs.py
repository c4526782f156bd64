"""The states of exports: who runs which, for how long, and what is swept. A run holds its job by a lease and a number.

The number is a fencing token: every change that a run makes names it, so that one which was thought dead, and comes
back when another has begun, changes nothing any more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from libs.contracts import audit
from libs.contracts.principals import Right, Role, Staff
from services.admin import accounts, policy
from services.admin.errors import RightsChanged, WorkerLost
from services.admin.models import ExportJob, StaffAccount
from services.admin.policy import MOST_RUNS, UNFINISHED, ExportState

FOLDER = "exports"
_SYSTEM = Staff(id="system", name="system", role=Role.SUPER_ADMIN, halls=None, session_id="")


@dataclass(frozen=True)
class Run:
    """One run of an export; `number` is its fencing token."""

    job_id: str
    number: int
    owner_id: str
    kind: str
    wanted: dict[str, Any]
    unmasked: bool
    request_id: str

    @property
    def key(self) -> str:
        """Where its file is stored: every run has a place of its own, and overwrites no other's."""
        return f"{FOLDER}/{self.job_id}/{self.number}.xlsx"


def claim(session: Session, *, lease: timedelta, now: datetime) -> Run | None:
    """Begin the run of the export that waits longest, or whose worker was lost; None where there is none."""
    waiting = (
        select(ExportJob.id)
        .where(ExportJob.state.in_(UNFINISHED))
        .where(or_(ExportJob.state == ExportState.QUEUED, ExportJob.lease_until < now))
        .where(ExportJob.runs < MOST_RUNS)
        .order_by(ExportJob.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = session.scalars(
        update(ExportJob)
        .where(ExportJob.id == waiting.scalar_subquery())
        .values(
            state=ExportState.RUNNING,
            runs=ExportJob.runs + 1,
            lease_until=now + lease,
            rows_done=0,
            rows_total=None,
            begun_at=func.coalesce(ExportJob.begun_at, now),
        )
        .returning(ExportJob),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if job is None:
        return None
    return Run(job.id, job.runs, job.owner_id, job.kind, job.wanted, job.unmasked, job.request_id)


def _held_by(run: Run) -> ColumnElement[bool]:
    return and_(ExportJob.id == run.job_id, ExportJob.state == ExportState.RUNNING, ExportJob.runs == run.number)


def renew(
    session: Session, run: Run, *, rows_done: int, rows_total: int | None, lease: timedelta, now: datetime
) -> bool:
    """Keep the job for another lease and tell how far it is; False where the run has lost it."""
    kept = session.scalar(
        update(ExportJob)
        .where(_held_by(run))
        .values(rows_done=rows_done, rows_total=rows_total, lease_until=now + lease)
        .returning(ExportJob.id)
    )
    return kept is not None


def finish(session: Session, run: Run, *, rows: int, size: int, now: datetime) -> bool:
    """Publish the run's file: the job is done, and can be fetched for a day. False where the run has lost the job."""
    job = _locked(session, run)
    if job is None:
        return False
    job.state, job.lease_until, job.ended_at = ExportState.DONE, None, now
    job.rows_done = job.rows_total = rows
    job.file_key, job.file_bytes, job.file_until = run.key, size, now + policy.EXPORT_LASTS
    job.wanted = without_search(job.wanted)
    session.flush()
    _note(session, job, "export.done", after={"rows": rows, "bytes": size, "runs": run.number})
    return True


def _locked(session: Session, run: Run) -> ExportJob | None:
    query = select(ExportJob).where(_held_by(run)).with_for_update()
    return session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def give_back(session: Session, run: Run, failure: str, *, for_good: bool, now: datetime) -> bool:
    """Let another run begin later, or the job fail; False where the run has lost the job."""
    job = _locked(session, run)
    if job is None:
        return False
    _after_failure(session, job, failure, for_good=for_good, now=now)
    return True


def take_from_the_lost(session: Session, *, now: datetime) -> dict[str, int]:
    """Put the jobs of workers that are gone back into the queue, or let them fail; return how many of each."""
    lost = session.scalars(
        select(ExportJob)
        .where(ExportJob.state == ExportState.RUNNING)
        .where(ExportJob.lease_until < now)
        .order_by(ExportJob.id)
        .with_for_update(skip_locked=True)
    ).all()
    for job in lost:
        _after_failure(session, job, WorkerLost.code, for_good=False, now=now)
    failed = sum(job.state == ExportState.FAILED for job in lost)
    return {"queued_again": len(lost) - failed, "failed": failed}


def _after_failure(session: Session, job: ExportJob, failure: str, *, for_good: bool, now: datetime) -> None:
    job.state = policy.after_failure(job.runs, for_good=for_good)
    job.lease_until = None
    if job.state == ExportState.FAILED:
        job.failure, job.ended_at = failure, now
        job.wanted = without_search(job.wanted)
        _note(session, job, "export.failed", after={"failure": failure, "runs": job.runs})
    session.flush()


def owner(session: Session, job_id: str) -> Staff:
    """Return the owner of a job as they are now.

    Raises RightsChanged where they are no longer who asked for it: disabled, of another role, for other halls, or without
    the right to what they asked for.
    """
    job, account = session.execute(
        select(ExportJob, StaffAccount)
        .join(StaffAccount, StaffAccount.id == ExportJob.owner_id)
        .where(ExportJob.id == job_id)
        .execution_options(populate_existing=True)
    ).one()
    return as_asked(session, job, account)


def as_asked(session: Session, job: ExportJob, account: StaffAccount) -> Staff:
    """Return the owner of a job, who is still who asked for it, or raise RightsChanged."""
    staff = accounts.principal(session, account, session_id=job.id)
    halls = None if staff.halls is None else sorted(staff.halls)
    may = not job.unmasked or staff.may(Right.EXPORT_UNMASKED)
    if account.disabled_at is not None or staff.role != job.role or halls != job.halls or not may:
        raise RightsChanged
    return staff


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
    audit.record(session, _SYSTEM, "export.expired", object_type="export", object_id=job.id, hall_id=hall_of(job))


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


def forget(session: Session, *, now: datetime) -> int:
    """Delete jobs that were over long ago; return how many."""
    gone = session.execute(delete(ExportJob).where(ExportJob.ended_at <= now - policy.EXPORT_REMEMBERED))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def hall_of(job: ExportJob) -> str | None:
    """Return the one hall that a job is about, if it is about one."""
    hall_id: str | None = job.wanted["filter"].get("hall_id")
    return hall_id


SEARCHES = frozenset({"q", "person"})


def without_search(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what was wanted without what was searched for: names and codes of people are not kept with the job."""
    return wanted | {"filter": {name: value for name, value in wanted["filter"].items() if name not in SEARCHES}}


def _note(session: Session, job: ExportJob, action: str, *, after: dict[str, Any]) -> None:
    account = session.get_one(StaffAccount, job.owner_id)
    staff = accounts.principal(session, account, session_id=job.id)
    audit.record(session, staff, action, object_type="export", object_id=job.id, hall_id=hall_of(job), after=after)
