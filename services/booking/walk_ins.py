"""Walk-in parties: people at the desk who have no booking, and for whom staff send files and book."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from libs.contracts.principals import Staff
from services.booking import scoped, users


@dataclass(frozen=True)
class WalkIn:
    """Who stands for the party, and what it wants to book."""

    user_id: str
    item_id: str


def of(session: Session, staff: Staff, slot_id: str, key: str, *, now: datetime) -> WalkIn:
    """Return the party that this member of staff knows by the key, made where it is new; or raise SlotNotFound."""
    item_id = scoped.slot(session, staff, slot_id).item.id
    return WalkIn(users.sign_in(session, users.WALK_IN, f"{staff.id}:{key}", now=now).id, item_id)
