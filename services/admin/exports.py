"""Exports as people ask for them: asked for, looked at, cancelled, and their files fetched through links that expire."""

import hashlib
import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from libs.common import context
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError
from libs.common.ids import new_id
from libs.common.pages import Key
from libs.contracts.principals import Right, Staff
from services.admin import accounts, export_jobs, jobs, policy, proofs, sessions
from services.admin.errors import ExportNotDone, ExportOver, LinkExpired, TooManyExports
from services.admin.models import ExportJob, StaffAccount
from services.admin.policy import UNFINISHED, ExportState

ASKED = "asked_for_export"  # in a session's info: this transaction asked for an export
NEWEST_FIRST = (Key(ExportJob.id, "id", descending=True),)


def ask(
    session: Session,
    sealer: Sealer,
    staff: Staff,
    *,
    kind: str,
    wanted: dict[str, Any],
    unmasked: bool,
    reason: str,
    password: str | None,
    code: str | None,
    address: str,
    now: datetime,
) -> ExportJob | HallpassError:
    """Put an export into the queue and return it; or return the refusal of a wrong password or code, to be committed.

    `wanted` holds the filter and how to lay it out. Values in clear take the right, and what signing in takes.
    """
    if hall_id := wanted["filter"].get("hall_id"):
        staff.require_hall(hall_id)
    account = sessions.owner(session, staff, now=now)
    if unmasked:
        accounts.principal(session, account, session_id=staff.session_id).require(Right.EXPORT_UNMASKED)
        refusal = proofs.refusal_of_all(session, sealer, account, password or "", code, address=address, now=now)
        if refusal is not None:
            return refusal
    _check_not_too_many(session, staff)
    job = session.scalars(
        insert(ExportJob)
        .values(
            id=new_id(),
            owner_id=staff.id,
            role=staff.role,
            halls=None if staff.halls is None else sorted(staff.halls),
            kind=kind,
            wanted=wanted,
            unmasked=unmasked,
            reason=reason,
            request_id=context.request_id(),
            state=ExportState.QUEUED,
            asked_at=now,
        )
        .returning(ExportJob)
    ).one()
    session.info[ASKED] = True
    asked = _without_people(wanted) | {"kind": kind, "unmasked": unmasked}
    jobs.note(session, staff, job, "export.asked", reason=reason, after=asked)
    return job


def _check_not_too_many(session: Session, staff: Staff) -> None:
    """Raise TooManyExports; the account is locked, so that two requests at once are counted one after the other."""
    if jobs.under_way(session, ExportJob, staff) >= policy.MOST_EXPORTS:
        raise TooManyExports(most=policy.MOST_EXPORTS)


def _without_people(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what was wanted as the trail may keep it: that something was searched for, and not what."""
    shown = export_jobs.without_search(wanted)
    return shown | {"searched": True} if export_jobs.SEARCHES & wanted["filter"].keys() else shown


def cancel(session: Session, staff: Staff, job_id: str, *, now: datetime) -> ExportJob:
    """Cancel an export that waits or runs, or raise ExportOver. A run finds out within its next look at its lease."""
    job = jobs.one(session, ExportJob, staff, job_id, locking=True)
    if job.state not in UNFINISHED:
        raise ExportOver(state=job.state)
    job.state, job.lease_until, job.ended_at = ExportState.CANCELLED, None, now
    job.wanted = export_jobs.without_search(job.wanted)
    session.flush()
    jobs.note(session, staff, job, "export.cancelled")
    return job


def link(session: Session, staff: Staff, job_id: str, *, now: datetime) -> tuple[ExportJob, str]:
    """Make a key by which the file can be fetched for some minutes; the key before is void. Return the job and the key.

    Raises ExportNotDone where there is no file, and RightsChanged where its owner may no longer have it.
    """
    job = jobs.one(session, ExportJob, staff, job_id, locking=True)
    if job.state != ExportState.DONE or job.file_until is None or job.file_until <= now:
        raise ExportNotDone(state=job.state)
    jobs.as_asked(session, job, session.get_one(StaffAccount, staff.id))
    key = secrets.token_urlsafe(32)
    job.link_hash, job.link_until = _hash(key), min(now + policy.LINK_LASTS, job.file_until)
    session.flush()
    return job, key


def fetched(session: Session, job_id: str, key: str, *, address: str, now: datetime) -> ExportJob:
    """Return the job whose file this key opens now, and note that it is fetched; or raise LinkExpired.

    A key is of no more use when its owner is disabled, or is no longer who asked for the export.
    """
    found = session.execute(
        select(ExportJob, StaffAccount)
        .join(StaffAccount, StaffAccount.id == ExportJob.owner_id)
        .where(ExportJob.id == job_id)
        .where(ExportJob.link_hash == _hash(key))
        .where(ExportJob.link_until > now)
        .where(ExportJob.state == ExportState.DONE)
    ).one_or_none()
    if found is None:
        raise LinkExpired
    job, account = found
    staff = jobs.as_asked(session, job, account)
    jobs.note(session, staff, job, "export.fetched", after={"address": address})
    return job


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
