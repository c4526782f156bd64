"""Jobs of every kind: who runs which, for how long, and for whom. A run holds its job by a lease and a number.

The number is a fencing token: every change that a run makes names it, so that one which was thought dead, and comes
back when another has begun, changes nothing any more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.contracts import audit
from libs.contracts.principals import Right, Role, Staff
from services.admin import accounts, policy
from services.admin.errors import RightsChanged
from services.admin.models import ExportJob, ImportJob, Job, StaffAccount
from services.admin.policy import UNDER_WAY, UNFINISHED, JobState

J = TypeVar("J", ExportJob, ImportJob)
# Of what the trail keeps about a job for several halls, what tells none of them of the others.
_SAME_FOR_EACH_HALL = frozenset({"kind", "unmasked", "address", "failure"})
SYSTEM = Staff(id="system", name="system", role=Role.SUPER_ADMIN, halls=None, session_id="")


@dataclass(frozen=True)
class Run(Generic[J]):
    """One run of a job; `number` is its fencing token, `job` what was asked for."""

    job: J
    number: int

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def table(self) -> type[J]:
        return type(self.job)


def claim(
    session: Session, table: type[J], *, may_run: ColumnElement[bool], lease: timedelta, now: datetime
) -> Run[J] | None:
    """Begin a run of a job that waits, or whose worker was lost, among those that may; None: there is none.

    Who has had fewer runs goes first, then who waits longest: one that fails again and again stops no other.
    """
    waiting = (
        select(table.id)
        .where(table.state.in_(UNFINISHED))
        .where(or_(table.state == JobState.QUEUED, table.lease_until < now))
        .where(may_run)
        .order_by(table.runs, table.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = session.scalars(
        update(table)
        .where(table.id == waiting.scalar_subquery())
        .values(
            state=JobState.RUNNING,
            runs=table.runs + 1,
            lease_until=now + lease,
            rows_done=0,
            rows_total=None,
            begun_at=func.coalesce(table.begun_at, now),
        )
        .returning(table),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return None if job is None else Run(job, job.runs)


def _held_by(run: Run[J]) -> ColumnElement[bool]:
    table = run.table
    return and_(table.id == run.job_id, table.state == JobState.RUNNING, table.runs == run.number)


def renew(
    session: Session, run: Run[J], *, rows_done: int, rows_total: int | None, lease: timedelta, now: datetime
) -> bool:
    """Keep the job for another lease and tell how far it is; False where the run has lost it."""
    kept = session.scalar(
        update(run.table)
        .where(_held_by(run))
        .values(rows_done=rows_done, rows_total=rows_total, lease_until=now + lease)
        .returning(run.table.id)
    )
    return kept is not None


def locked(session: Session, run: Run[J]) -> J | None:
    """Return the job, locked, as it is now; None where the run has lost it."""
    query = select(run.table).where(_held_by(run)).with_for_update()
    return session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def take_from_the_lost(
    session: Session, table: type[J], after_failure: Callable[[J], None], *, now: datetime
) -> dict[str, int]:
    """Do what comes `after_failure` to the jobs of workers that are gone; return how many wait again, and how many failed."""
    lost = session.scalars(
        select(table)
        .where(table.state == JobState.RUNNING)
        .where(table.lease_until < now)
        .order_by(table.id)
        .with_for_update(skip_locked=True)
    ).all()
    for job in lost:
        after_failure(job)
    failed = sum(job.state == JobState.FAILED for job in lost)
    return {"queued_again": len(lost) - failed, "failed": failed}


def forget(session: Session, table: type[J], *, now: datetime) -> int:
    """Delete jobs that were over long ago; return how many."""
    gone = session.execute(delete(table).where(table.ended_at <= now - policy.JOB_REMEMBERED))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def under_way(session: Session, table: type[J], staff: Staff) -> int:
    """Count one's own jobs that are not over. Lock the account before, or two requests at once count the same."""
    query = select(func.count()).where(table.owner_id == staff.id, table.state.in_(UNDER_WAY))
    return session.scalar(query) or 0


def mine(table: type[J], staff: Staff) -> Select[J]:
    """Return the query for one's own jobs: nobody sees another's."""
    return select(table).where(table.owner_id == staff.id)


def one(session: Session, table: type[J], staff: Staff, job_id: str, *, locking: bool = False) -> J:
    """Return a job of one's own as it is now, locked where that is asked for, or raise NotFound."""
    query = mine(table, staff).where(table.id == job_id)
    if locking:
        query = query.with_for_update().execution_options(populate_existing=True)
    job = session.scalars(query).one_or_none()
    if job is None:
        raise NotFound
    return job


def owner(session: Session, table: type[J], job_id: str) -> Staff:
    """Return the owner of a job as they are now.

    Raises RightsChanged where they are no longer who asked for it.
    """
    job, account = session.execute(
        select(table, StaffAccount)
        .join(StaffAccount, StaffAccount.id == table.owner_id)
        .where(table.id == job_id)
        .execution_options(populate_existing=True)
    ).one()
    return as_asked(session, job, account)


def former_owner(session: Session, table: type[J], job_id: str) -> Staff:
    """Return the owner of a job as they were when they asked for it: to learn what became of it, and no more."""
    job, account = session.execute(
        select(table, StaffAccount).join(StaffAccount, StaffAccount.id == table.owner_id).where(table.id == job_id)
    ).one()
    halls = None if job.halls is None else frozenset(job.halls)
    return Staff(
        id=account.id,
        name=account.name,
        role=Role(job.role),
        halls=halls,
        session_id=job.id,
        version=account.token_version,
    )


def as_asked(session: Session, job: Job, account: StaffAccount) -> Staff:
    """Return the owner of a job, who is still who asked for it, or raise RightsChanged.

    They are not when they are disabled, of another role, for other halls, or without the right to what they asked for.
    """
    staff = accounts.principal(session, account, session_id=job.id)
    halls = None if staff.halls is None else sorted(staff.halls)
    if account.disabled_at is not None or staff.role != job.role or halls != job.halls or not _may(job, staff):
        raise RightsChanged
    return staff


def hall_of(job: Job) -> str | None:
    """Return the one hall that a job is about: which its filter names, or the only one that its owner is for."""
    named: str | None = job.wanted["filter"].get("hall_id") if isinstance(job, ExportJob) else None
    return named or audit.only_hall(job.halls)


def note(
    session: Session,
    staff: Staff,
    job: Job,
    action: str,
    *,
    reason: str = "",
    after: dict[str, Any] | None = None,
) -> None:
    """Record what somebody did about a job, or the system: whole, and in the trail of each hall where it is for several."""
    kind = "export" if isinstance(job, ExportJob) else "import"
    hall_id = hall_of(job)
    told = [(hall_id, after)]
    if hall_id is None:
        shared = after and {name: value for name, value in after.items() if name in _SAME_FOR_EACH_HALL}
        told += [(each, shared) for each in job.halls or ()]
    for of_hall, known in told:
        audit.record(
            session, staff, action, object_type=kind, object_id=job.id, hall_id=of_hall, reason=reason, after=known
        )


def note_for_owner(session: Session, job: Job, action: str, *, after: dict[str, Any]) -> None:
    """Record what a run did about a job, as its owner's doing."""
    account = session.get_one(StaffAccount, job.owner_id)
    note(session, accounts.principal(session, account, session_id=job.id), job, action, after=after)


def _may(job: Job, staff: Staff) -> bool:
    unmasked = isinstance(job, ExportJob) and job.unmasked
    return not unmasked or staff.may(Right.EXPORT_UNMASKED)
