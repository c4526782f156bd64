"""How a service records what staff did: in the same transaction, for admin's audit trail."""

from collections.abc import Collection
from typing import Any, TypedDict

from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.admin import AuditRecorded
from libs.contracts.principals import Role, Staff

# Who has the installation's secrets in hand needs no account; the trail shows that it was nobody who has one.
OPERATOR = Staff(id="operator", name="operator", role=Role.SUPER_ADMIN, halls=None, session_id="")


class Details(TypedDict, total=False):
    """What is told of an action beside who did it to what: why, what the object was, and what it is."""

    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def only_hall(halls: Collection[str] | None) -> str | None:
    """Return the hall that an account for these halls is for, where it is one: what it does everywhere, is done there."""
    return next(iter(halls)) if halls is not None and len(halls) == 1 else None


def record(
    session: Session,
    staff: Staff,
    action: str,
    *,
    object_type: str,
    object_id: str,
    hall_id: str | None = None,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    audit_id: str | None = None,
) -> None:
    """Record that `staff` did `action` (past tense, like "slot.revoked") to an object. No answers, codes or secrets.

    What is recorded again under the same `audit_id` is in the trail once.
    """
    fact = AuditRecorded(
        version=1,
        audit_id=audit_id or new_id(),
        actor_id=staff.id,
        actor_name=staff.name,
        action=action,
        object_type=object_type,
        object_id=object_id,
        hall_id=hall_id,
        reason=reason,
        before=before,
        after=after,
        happened_at=utcnow(),
    )
    outbox.record(session, fact)
