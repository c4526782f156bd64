"""What admin publishes, and the audit record that every service publishes to it."""

from datetime import datetime
from typing import Any, ClassVar

from libs.contracts.envelope import Event


class AuditRecorded(Event):
    """Somebody with rights did something. `before` and `after` hold what changed, sensitive values masked."""

    type: ClassVar[str] = "audit.recorded"

    audit_id: str
    actor_id: str
    actor_name: str
    action: str
    object_type: str
    object_id: str
    hall_id: str | None
    reason: str = ""
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    happened_at: datetime

    @property
    def subject(self) -> str:
        return self.audit_id


class StaffSignedOut(Event):
    """Tokens of this staff account below `version` are void (disabled, changed rights, signed out everywhere)."""

    type: ClassVar[str] = "staff.signed_out"

    staff_id: str

    @property
    def subject(self) -> str:
        return self.staff_id


EVENTS: tuple[type[Event], ...] = (AuditRecorded, StaffSignedOut)
