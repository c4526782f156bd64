"""How joins and slots are shown: to their user, to staff, and as calendar entry."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event

from libs.common.crypto import Sealer
from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import FieldType, FormField, MissedPolicy
from libs.contracts.principals import Staff
from services.booking import answers, forms, users
from services.booking.models import Hall, Join, User
from services.booking.offers import Offered
from services.booking.policy import Standing
from services.booking.rows import HallRow, JoinRow
from services.booking.schemas import (
    HallRef,
    InventoryOut,
    ItemRef,
    JoinCounts,
    JoinOut,
    MissedVisit,
    SlotRef,
    StaffJoinOut,
    StaffStandingOut,
    StaffUserOut,
    StaffUserWithCounts,
    StandingOut,
    UserOut,
)


def slot(offered: Offered) -> SlotRef:
    return _references(offered)[0]


def item(offered: Offered) -> ItemRef:
    return _references(offered)[1]


def hall(offered: Offered) -> HallRef:
    return _references(offered)[2]


def standing(hall: Hall | HallRow, found: Standing | None) -> StandingOut | None:
    """Show a standing at a hall; None where the hall does not mind what is missed."""
    return None if found is None else StandingOut(**_standing(hall, found))


def staff_standing(hall: Hall, found: Standing, visits: list[list[Any]]) -> StaffStandingOut:
    """Show a standing with the visits behind it, each the rows of its joins."""
    return StaffStandingOut(**_standing(hall, found), visits=[_visit(rows) for rows in visits])


def _standing(hall: Hall | HallRow, found: Standing) -> dict[str, Any]:
    until = found.cooling_off_until
    return {
        "hall": HallRef(id=hall.id, name=hall.name, address=hall.address),
        "policy": MissedPolicy.model_validate(hall.missed_policy),
        "missed": found.missed,
        "left": found.left,
        "cooling_off_until": until.astimezone(ZoneInfo(hall.timezone)) if until else None,
    }


def _visit(rows: list[Any]) -> MissedVisit:
    found, *place = rows[0]
    offered = Offered(*place)
    zone = ZoneInfo(offered.hall.timezone)
    return MissedVisit(
        party_id=found.party_id,
        join_ids=[row[0].id for row in rows],
        item=item(offered),
        slot=slot(offered),
        missed_at=found.missed_at.astimezone(zone),
        forgiven_at=found.forgiven_at.astimezone(zone) if found.forgiven_at else None,
    )


def _references(offered: Offered) -> tuple[SlotRef, ItemRef, HallRef]:
    """Describe slot, item and hall, once for all joins of an offer: in a rush they make up most of each answer."""
    found: tuple[SlotRef, ItemRef, HallRef] | None = offered.kept.get("references")
    if found is None:
        zone = ZoneInfo(offered.hall.timezone)
        slot = SlotRef(
            id=offered.slot.id,
            date=offered.slot.date,
            start=offered.slot.start,
            end=offered.slot.end,
            starts_at=offered.slot.starts_at.astimezone(zone),
            ends_at=offered.slot.ends_at.astimezone(zone),
        )
        item = ItemRef(id=offered.item.id, title=offered.item.title, cover=offered.item.cover)
        hall = HallRef(id=offered.hall.id, name=offered.hall.name, address=offered.hall.address)
        found = offered.kept["references"] = (slot, item, hall)
    return found


def join(sealer: Sealer, found: Join | JoinRow, offered: Offered, *, now: datetime) -> JoinOut:
    """Show a join to its user, all answers readable."""
    return join_with(answers.opened(sealer, found), found, offered, now=now)


def join_with(readable: dict[str, Any], found: Join | JoinRow, offered: Offered, *, now: datetime) -> JoinOut:
    """Show a join to its user, with answers that are readable already."""
    return JoinOut(**_common(found, offered, now), answers=readable)


def staff_row(readable: dict[str, Any], row: Any, *, now: datetime) -> StaffJoinOut:
    """Show a (join, slot, item, hall, user) to staff, with answers that are masked already, or may be read."""
    found, slot, item, hall, user = row
    return StaffJoinOut(
        **_common(found, Offered(slot, item, hall), now),
        answers=readable,
        user_id=user.id,
        user_name=user.name,
    )


def _common(found: Join | JoinRow, offered: Offered, now: datetime) -> dict[str, Any]:
    zone = ZoneInfo(offered.hall.timezone)
    return {
        "id": found.id,
        "party_id": found.party_id,
        "code": found.code,
        "status": found.status,
        "reason": found.reason,
        "hall": hall(offered),
        "item": item(offered),
        "slot": slot(offered),
        "checked_in_at": found.checked_in_at.astimezone(zone) if found.checked_in_at else None,
        "missed": is_missed(found.status, found.checked_in_at, found.excused, offered.slot.ends_at, now),
        "created_at": found.created_at.astimezone(zone),
    }


def form_of(found: Join, offered: Offered) -> list[FormField]:
    """Return the form that a join was made with; that of today, where booking never heard of it."""
    form = offered.item.form if found.made_with is None else found.made_with
    return [FormField.model_validate(field) for field in form]


def user(sealer: Sealer, found: User) -> UserOut:
    """Show a user to themselves."""
    return UserOut(
        id=found.id, name=found.name, phone=users.phone_of(sealer, found), disabled=found.disabled_at is not None
    )


def staff_user(sealer: Sealer, staff: Staff, user: User, *, unmasked: bool = False) -> StaffUserOut:
    """Show a user to staff, the phone number masked unless asked otherwise."""
    return StaffUserOut(**_user(sealer, staff, user, unmasked=unmasked))


def staff_user_with_counts(sealer: Sealer, staff: Staff, user: User, counts: dict[str, int]) -> StaffUserWithCounts:
    """Show a user to staff, with how many joins they have."""
    return StaffUserWithCounts(**_user(sealer, staff, user), joins=JoinCounts(**counts))


def _user(sealer: Sealer, staff: Staff, user: User, *, unmasked: bool = False) -> dict[str, Any]:
    phone = users.phone_of(sealer, user)
    return {
        "id": user.id,
        "provider": user.provider,
        "name": user.name,
        "phone": phone if unmasked else forms.masked(phone, FieldType.MOBILE),
        "disabled": user.disabled_at is not None,
        # Written by those who see all halls, maybe about one of the others.
        "disabled_reason": user.disabled_reason if staff.halls is None else "",
        "created_at": user.created_at,
    }


def is_missed(status: str, checked_in_at: datetime | None, excused: bool, ends_at: datetime, now: datetime) -> bool:
    """Whether the slot is over and the attendee did not come, though they could."""
    return status == JoinStatus.BOOKED and checked_in_at is None and not excused and ends_at <= now


def inventory(offered: Offered) -> InventoryOut:
    return InventoryOut(
        slot=slot(offered),
        item=item(offered),
        hall=hall(offered),
        status=offered.slot.status,
        asked=offered.slot.asked,
        capacity=offered.slot.capacity,
        taken=offered.slot.taken,
        held=offered.slot.held,
        waiting=offered.slot.waiting,
        remaining=offered.left,
        version=offered.slot.version,
    )


def calendar(found: Join, offered: Offered, *, now: datetime) -> bytes:
    """Write the join as an iCalendar file (RFC 5545)."""
    zone = ZoneInfo(offered.hall.timezone)
    entry = Event()
    entry.add("uid", f"{found.id}@hallpass")
    entry.add("dtstamp", now)
    entry.add("dtstart", offered.slot.starts_at.astimezone(zone))
    entry.add("dtend", offered.slot.ends_at.astimezone(zone))
    entry.add("summary", offered.item.title)
    entry.add("location", f"{offered.hall.name} {offered.hall.address}".strip())
    entry.add("status", "CONFIRMED" if found.status == JoinStatus.BOOKED else "CANCELLED")
    entry.add("sequence", found.version)
    found_calendar = Calendar()
    found_calendar.add("prodid", "-//Hallpass//EN")
    found_calendar.add("version", "2.0")
    found_calendar.add_component(entry)
    found_calendar.add_missing_timezones()
    return bytes(found_calendar.to_ical())
