"""Halls, as staff make and edit them."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.catalog import HallStatus
from libs.contracts.principals import Role, RoleForbids, Staff
from services.catalog import changes, edits, errors, facts, policy, stats
from services.catalog.hall_schemas import HallIn, HallPatch
from services.catalog.models import Hall, Slot


def listed(
    session: Session, staff: Staff, *, q: str | None, status: HallStatus | None, limit: int, cursor: str | None
) -> tuple[list[Hall], str | None]:
    """Return the halls within the staff's scope by order then newest."""
    query = select(Hall).where(staff.sees(Hall.id))
    if status is not None:
        query = query.where(Hall.status == status)
    if q:
        query = query.where(Hall.name.icontains(q, autoescape=True))
    keys = [Key(Hall.order, int), Key(Hall.id, "id", descending=True)]
    return fetch(session, query, keys=keys, limit=limit, cursor=cursor)


def get(session: Session, staff: Staff, hall_id: str) -> Hall:
    """Return a hall within the staff's scope, or raise NotFound."""
    found = session.scalar(select(Hall).where(Hall.id == hall_id, staff.sees(Hall.id)))
    if found is None:
        raise NotFound
    return found


def create(session: Session, staff: Staff, data: HallIn) -> Hall:
    """Make a hall and tell the other services."""
    check_zone(data.timezone)
    columns = _columns(data.model_dump(mode="json"))
    hall = Hall(id=new_id(), version=1, **columns)
    session.add(hall)
    session.flush()
    outbox.record(session, facts.of_hall(hall))
    audit.record(session, staff, "hall.created", object_type="hall", object_id=hall.id, hall_id=hall.id, after=columns)
    return hall


def edit(session: Session, staff: Staff, hall_id: str, data: HallPatch, *, if_match: str | None, now: datetime) -> Hall:
    """Change what differs. Closing with joins ahead needs the caller's word; they stay."""
    hall = locked(session, staff, hall_id)
    edits.require(session, if_match, hall)
    wanted = _columns(changes.given(data, apart={"accept_joins_ahead"}))
    check_order(staff, wanted.get("order", hall.order), stands=hall.order)
    if wanted.get("timezone", hall.timezone) != hall.timezone:
        check_zone(wanted["timezone"])
        _check_no_slots_ahead(session, hall_id, now)
    if wanted.get("status") == HallStatus.CLOSED and hall.status != HallStatus.CLOSED and not data.accept_joins_ahead:
        stats.refuse_joins_ahead(session, Slot.hall_id == hall_id, now=now)
    changed = changes.apply(hall, wanted)
    if changed is None:
        return hall
    before, after = changed
    session.flush()
    edits.note(session, staff, hall, before=before, after=after)
    outbox.record(session, facts.of_hall(hall))
    audit.record(
        session,
        staff,
        "hall.edited",
        object_type="hall",
        object_id=hall.id,
        hall_id=hall.id,
        before=before,
        after=after,
    )
    return hall


def check_order(staff: Staff, order: int, *, stands: int) -> None:
    """Raise RoleForbids where somebody who is not for all halls would change what ranks among the items of all."""
    if order != stands and staff.role != Role.SUPER_ADMIN:
        raise RoleForbids(role=staff.role)


def locked(session: Session, staff: Staff, hall_id: str) -> Hall:
    """Return a hall within the staff's scope that nobody else edits, and no slot is defined in, until the commit."""
    found = session.scalar(select(Hall).where(Hall.id == hall_id, staff.sees(Hall.id)).with_for_update(key_share=True))
    if found is None:
        raise NotFound
    return found


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    if "position" in fields:
        position = fields.pop("position") or {"lat": None, "lng": None}
        fields |= position
    return fields


def check_zone(name: str) -> None:
    if not policy.is_zone(name):
        raise errors.TimezoneUnknown(timezone=name)


def _check_no_slots_ahead(session: Session, hall_id: str, now: datetime) -> None:
    # Slots keep the instants that the zone gave them; under another zone they would stand at other times of day.
    ahead = session.scalar(
        select(func.count()).select_from(Slot).where(Slot.hall_id == hall_id, Slot.ends_at > now, ~Slot.deleted)
    )
    if ahead:
        raise errors.TimezoneFixed(slots=ahead)
