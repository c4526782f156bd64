"""Imports as people ask for them: a workbook is sent and looked at, then applied or cancelled."""

from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.orm import Session

from libs.common import context
from libs.common.errors import Language
from libs.common.pages import Key
from libs.contracts.imports import Kind
from libs.contracts.principals import Role, RoleForbids, Staff
from services.admin import import_jobs, jobs, policy, sessions
from services.admin.errors import ImportNotChecked, ImportOver, TooManyImports
from services.admin.models import ImportJob
from services.admin.policy import UNDER_WAY, ImportState

ASKED = "asked_for_import"  # in a session's info: this transaction asked for a run of an import
NEWEST_FIRST = (Key(ImportJob.id, "id", descending=True),)


def ask(
    session: Session,
    staff: Staff,
    job_id: str,
    *,
    kind: Kind,
    file_name: str,
    size: int,
    language: Language,
    now: datetime,
) -> ImportJob:
    """Put the dry run of an import into the queue and return it; its file is stored already. Halls are for super admins."""
    if kind == "halls" and staff.role != Role.SUPER_ADMIN:
        raise RoleForbids(role=staff.role)
    sessions.owner(session, staff, now=now)
    _check_not_too_many(session, staff)
    job = session.scalars(
        insert(ImportJob)
        .values(
            id=job_id,
            owner_id=staff.id,
            role=staff.role,
            halls=None if staff.halls is None else sorted(staff.halls),
            kind=kind,
            request_id=context.request_id(),
            state=ImportState.QUEUED,
            asked_at=now,
            file_key=import_jobs.key_of(job_id),
            file_bytes=size,
            file_until=now + policy.IMPORT_LASTS,
            file_name=file_name,
            language=language,
        )
        .returning(ImportJob)
    ).one()
    session.info[ASKED] = True
    jobs.note(session, staff, job, "import.asked", after={"kind": kind, "bytes": size})
    return job


def _check_not_too_many(session: Session, staff: Staff) -> None:
    """Raise TooManyImports; the account is locked, so that two requests at once are counted one after the other."""
    if jobs.under_way(session, ImportJob, staff) >= policy.MOST_IMPORTS:
        raise TooManyImports(most=policy.MOST_IMPORTS)


def apply(session: Session, staff: Staff, job_id: str, *, now: datetime) -> ImportJob:
    """Have an import applied whose dry run found no fault, or raise ImportNotChecked; said twice it is the same word."""
    job = jobs.one(session, ImportJob, staff, job_id, locking=True)
    if job.applies:
        return job
    if job.state != ImportState.CHECKED or job.file_until is None or job.file_until <= now:
        raise ImportNotChecked(state=job.state)
    job.applies, job.state = True, ImportState.QUEUED
    session.flush()
    session.info[ASKED] = True
    jobs.note(session, staff, job, "import.confirmed", after={"rows": job.rows_total})
    return job


def cancel(session: Session, staff: Staff, job_id: str, *, now: datetime) -> ImportJob:
    """Cancel an import that nobody has said is to be applied, or raise ImportOver."""
    job = jobs.one(session, ImportJob, staff, job_id, locking=True)
    if job.applies or job.state not in UNDER_WAY:
        raise ImportOver(state=job.state)
    import_jobs.cancel(session, job, now=now)
    jobs.note(session, staff, job, "import.cancelled")
    return job
