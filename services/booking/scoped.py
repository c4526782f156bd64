"""Joins and slots within the halls of a member of staff: found, shown masked, and what is done to them put on record."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Unpack

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import NotFound
from libs.contracts import audit
from libs.contracts.booking import JoinStatus
from libs.contracts.principals import Staff
from services.booking import answers, lists, offers, views
from services.booking.errors import JoinNotFound
from services.booking.models import Join, Slot
from services.booking.offers import Offered
from services.booking.schemas import StaffJoinOut, StaffJoinsOut


def row(session: Session, staff: Staff, condition: ColumnElement[bool]) -> Any:
    """Return the (join, slot, item, hall, user) that meets the condition, or raise JoinNotFound."""
    found = lists.one_of_staff(session, staff.sees(Join.hall_id), condition)
    if found is None:
        raise JoinNotFound
    return found


def join(session: Session, staff: Staff, join_id: str) -> Join:
    """Return a join, or raise JoinNotFound."""
    found: Join = row(session, staff, Join.id == join_id)[0]
    return found


def slot(session: Session, staff: Staff, slot_id: str) -> Offered:
    """Return a slot with its item and hall, or raise NotFound."""
    found = session.execute(offers.rows().where(Slot.id == slot_id, staff.sees(Slot.hall_id))).first()
    if found is None:
        raise NotFound
    return Offered(*found)


def shown(session: Session, staff: Staff, sealer: Sealer, join_id: str, *, now: datetime) -> StaffJoinOut:
    """Show a join as it is now."""
    [found] = rows_shown(session, sealer, [row(session, staff, Join.id == join_id)], now=now)
    return found


def rows_shown(session: Session, sealer: Sealer, rows: Sequence[Any], *, now: datetime) -> list[StaffJoinOut]:
    """Show each (join, slot, item, hall, user), sensitive answers masked."""
    known = answers.forms_of(session, {row[0].item_id for row in rows})
    return [views.staff_row(answers.masked(sealer, row[0], known), row, now=now) for row in rows]


def all_shown(session: Session, staff: Staff, sealer: Sealer, joins: Iterable[Join], *, now: datetime) -> StaffJoinsOut:
    """Show several joins as they are now."""
    return StaffJoinsOut(joins=[shown(session, staff, sealer, one.id, now=now) for one in joins])


def record(session: Session, staff: Staff, action: str, join: Join, **details: Unpack[audit.Details]) -> None:
    """Record what staff did to a join."""
    audit.record(session, staff, action, object_type="join", object_id=join.id, hall_id=join.hall_id, **details)


def record_revoked(session: Session, staff: Staff, join: Join, *, reason: str) -> None:
    """Record that staff took a booked join back."""
    before, after = {"status": JoinStatus.BOOKED}, {"status": JoinStatus.REVOKED}
    record(session, staff, "join.revoked", join, reason=reason, before=before, after=after)


def record_arrival(session: Session, staff: Staff, join: Join, *, reason: str = "", override: bool = False) -> None:
    """Record that staff checked somebody in; `override`: outside the time for it."""
    before = {"checked_in_at": None}
    after = {"checked_in_at": join.checked_in_at, **({"override": True} if override else {})}
    record(session, staff, "join.checked_in", join, reason=reason, before=before, after=after)


def record_slot(session: Session, staff: Staff, action: str, offered: Offered, *, reason: str, **after: int) -> None:
    """Record what staff did to a slot."""
    audit.record(
        session,
        staff,
        action,
        object_type="slot",
        object_id=offered.slot.id,
        hall_id=offered.slot.hall_id,
        reason=reason,
        after=after,
    )
