"""The audit trail: one record for everything that staff did, in any service."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.pages import Key
from libs.contracts.admin import AuditRecorded
from libs.contracts.principals import Staff
from services.admin.models import AuditRecord, ErasedObject

NEWEST_FIRST = (
    Key(AuditRecord.happened_at, datetime, descending=True),
    Key(AuditRecord.id, "id", descending=True),
)


@dataclass(frozen=True)
class Filter:
    """What to look for; None where it does not matter. `since` is included, `until` is not."""

    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    hall_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


OF_ERASING = "user.erased"  # why somebody was erased stays


def erase(session: Session, object_ids: list[str]) -> None:
    """Forget the values and reasons of every record about these objects, of those that are yet to come too.

    That something was done, by whom and when, stays.
    """
    rows = [{"object_id": object_id} for object_id in object_ids]
    session.execute(insert(ErasedObject).on_conflict_do_nothing(), rows)
    session.execute(
        update(AuditRecord)
        .where(AuditRecord.object_id.in_(object_ids), AuditRecord.action != OF_ERASING)
        .values(before=None, after=None, reason="")
        .execution_options(synchronize_session=False)
    )


def add(session: Session, fact: AuditRecorded, *, service: str) -> None:
    """Keep a record; one that is here already stays as it is. Of what was erased neither values nor reason are kept."""
    if fact.action != OF_ERASING and session.get(ErasedObject, fact.object_id) is not None:
        fact = fact.model_copy(update={"before": None, "after": None, "reason": ""})
    session.execute(
        insert(AuditRecord)
        .values(
            id=fact.audit_id,
            service=service,
            actor_id=fact.actor_id,
            actor_name=fact.actor_name,
            action=fact.action,
            object_type=fact.object_type,
            object_id=fact.object_id,
            hall_id=fact.hall_id,
            reason=fact.reason,
            before=fact.before,
            after=fact.after,
            happened_at=fact.happened_at,
        )
        .on_conflict_do_nothing(index_elements=["id"])
    )


def matching(staff: Staff, wanted: Filter) -> Select[Any]:
    """Return the query for the records that this account may see and that the filter asks for."""
    query = select(AuditRecord).where(staff.sees(AuditRecord.hall_id))
    if wanted.actor is not None:
        query = query.where(
            or_(AuditRecord.actor_id == wanted.actor, AuditRecord.actor_name.icontains(wanted.actor, autoescape=True))
        )
    if wanted.action is not None:
        query = query.where(AuditRecord.action.startswith(wanted.action, autoescape=True))
    if wanted.object_type is not None:
        query = query.where(AuditRecord.object_type == wanted.object_type)
    if wanted.object_id is not None:
        query = query.where(AuditRecord.object_id == wanted.object_id)
    if wanted.hall_id is not None:
        query = query.where(AuditRecord.hall_id == wanted.hall_id)
    if wanted.since is not None:
        query = query.where(AuditRecord.happened_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditRecord.happened_at < wanted.until)
    return query
