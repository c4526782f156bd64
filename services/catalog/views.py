"""How rows of catalog look from outside."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from libs.common import etags
from libs.contracts.catalog import UPLOADS, FormField, Rules
from services.catalog import policy
from services.catalog.bulk_schemas import ItemVersion, ItemVersions
from services.catalog.calendar_schemas import SpecialDayOut
from services.catalog.category_schemas import CategoryOut, CategoryRef, StaffCategory
from services.catalog.closure_schemas import ClosureOut, ClosureRef, PublicClosure
from services.catalog.day_schemas import PublicSlot, StaffDay, StaffSlot
from services.catalog.hall_schemas import HallRef, PositionOut, PublicHall, PublicHallPage, StaffHall
from services.catalog.item_schemas import ItemCard, StaffItem
from services.catalog.models import Category, Closure, Day, Hall, Item, Slot, SpecialDay, Template
from services.catalog.template_schemas import TemplateOut

PUBLIC_SLOT = (
    Slot.id,
    Slot.date,
    Slot.start,
    Slot.end,
    Slot.starts_at,
    Slot.ends_at,
    Slot.capacity,
    Slot.taken,
)


def _hall(hall: Hall) -> dict[str, Any]:
    position = None
    if hall.lat is not None and hall.lng is not None:
        position = PositionOut(lat=hall.lat, lng=hall.lng)
    return {
        "id": hall.id,
        "name": hall.name,
        "address": hall.address,
        "position": position,
        "opening": hall.opening,
        "phone": hall.phone,
        "cover": hall.cover,
        "intro": hall.intro,
        "order": hall.order,
        "timezone": hall.timezone,
        "status": hall.status,
        "missed_policy": hall.missed_policy,
    }


def public_hall(hall: Hall, *, distance_m: int | None = None) -> PublicHall:
    return PublicHall(**_hall(hall), distance_m=distance_m)


def public_hall_page(hall: Hall, closures: Iterable[Closure]) -> PublicHallPage:
    return PublicHallPage(**_hall(hall), closures=[public_closure(closure) for closure in closures])


def staff_hall(hall: Hall) -> StaffHall:
    return StaffHall(**_hall(hall), quiet_hours=hall.quiet_hours, version=hall.version)


def category(row: Category) -> CategoryOut:
    return CategoryOut(id=row.id, name=row.name, order=row.order)


def staff_category(row: Category) -> StaffCategory:
    return StaffCategory(**dict(category(row)), version=row.version, etag=etags.of(row))


def card_fields(item: Item, hall: Hall, category: Category | None) -> dict[str, Any]:
    """Return what every view of an item shows."""
    return {
        "id": item.id,
        "title": item.title,
        "status": item.status,
        "hall": HallRef(id=hall.id, name=hall.name, timezone=hall.timezone),
        "category": CategoryRef(id=category.id, name=category.name) if category else None,
        "cover": item.cover,
        "recommended": item.recommended,
        "order": item.order,
    }


def card(item: Item, hall: Hall, category: Category | None) -> ItemCard:
    return ItemCard(**card_fields(item, hall, category))


def detail_fields(item: Item) -> dict[str, Any]:
    """Return what the views of a single item show beside its card."""
    return {
        "content": item.content,
        "form": [FormField.model_validate(field) for field in item.form],
        "form_version": item.form_version,
        "rules": Rules.model_validate(item.rules),
    }


def staff_item(item: Item, hall: Hall, category: Category | None) -> StaffItem:
    return StaffItem(
        **card_fields(item, hall, category), **detail_fields(item), reminders=item.reminders, version=item.version
    )


def item_versions(found: Iterable[Item]) -> ItemVersions:
    return ItemVersions(items=[ItemVersion.model_validate(item, from_attributes=True) for item in found])


def _offer(slot: Any, rules: Rules, zone: ZoneInfo, *, is_open: bool, now: datetime) -> dict[str, Any]:
    left = policy.remaining(slot.capacity, slot.taken)
    opens_at = rules.window_opens(slot.date, zone.key)
    return {
        "id": slot.id,
        "date": slot.date,
        "start": slot.start,
        "end": slot.end,
        "starts_at": slot.starts_at.astimezone(zone),
        "ends_at": slot.ends_at.astimezone(zone),
        "capacity": slot.capacity,
        "remaining": left,
        "state": policy.slot_state(
            rules,
            is_open=is_open,
            starts_at=slot.starts_at,
            ends_at=slot.ends_at,
            opens_at=opens_at,
            left=left,
            now=now,
        ),
        "opens_at": opens_at,
    }


def form_lets_wait(item: Item) -> bool:
    """Whether people can wait as far as the item's form goes; not where it asks for files, that booking keeps for a day."""
    return not any(field["type"] in UPLOADS for field in item.form)


def public_slot(
    slot: Any, rules: Rules, zone: ZoneInfo, *, is_open: bool, form_lets_wait: bool, now: datetime
) -> PublicSlot:
    """Show an open slot, given as an entity or a row of PUBLIC_SLOT, with its instants in the hall's zone.

    `is_open` says whether item and hall take bookings.
    """
    shown = _offer(slot, rules, zone, is_open=is_open, now=now)
    can_wait = shown["state"] == "full" and form_lets_wait and rules.lets_wait(slot.starts_at, slot.ends_at, now=now)
    return PublicSlot(**shown, waitlist=can_wait)


def staff_slot(slot: Slot, rules: Rules, zone: ZoneInfo, *, is_open: bool, now: datetime) -> StaffSlot:
    """Show a slot with its numbers; `is_open` says whether item and hall take bookings."""
    return StaffSlot(
        **_offer(slot, rules, zone, is_open=is_open and slot.is_open, now=now),
        status=slot.status,
        capacity_in_force=None if slot.capacity is None else max(slot.capacity, slot.taken),
        taken=slot.taken,
        booked=slot.booked,
        cancelled=slot.cancelled,
        revoked=slot.revoked,
        checked_in=slot.checked_in,
        missed=slot.missed,
    )


def staff_day(
    day: Day, slots: Iterable[Slot], item: Item, hall: Hall, *, closure: Closure | None, now: datetime
) -> StaffDay:
    rules, zone = Rules.model_validate(item.rules), ZoneInfo(hall.timezone)
    is_open = policy.takes_bookings(item.status, hall.status)
    return StaffDay(
        date=day.date,
        note=day.note,
        version=day.version,
        etag=etags.of(day),
        closure=ClosureRef(id=closure.id, reason=closure.reason) if closure else None,
        slots=[staff_slot(slot, rules, zone, is_open=is_open, now=now) for slot in slots],
    )


def public_closure(row: Closure) -> PublicClosure:
    return PublicClosure(from_=row.first, to=row.last, reason=row.reason)


def closure(row: Closure) -> ClosureOut:
    return ClosureOut(
        id=row.id,
        hall_id=row.hall_id,
        item_id=row.item_id,
        from_=row.first,
        to=row.last,
        reason=row.reason,
        version=row.version,
        etag=etags.of(row),
    )


def template(row: Template) -> TemplateOut:
    return TemplateOut.model_validate(_with_etag(row, TemplateOut))


def special_day(row: SpecialDay) -> SpecialDayOut:
    return SpecialDayOut.model_validate(_with_etag(row, SpecialDayOut))


def _with_etag(row: Template | SpecialDay, shown_as: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in shown_as.model_fields if name != "etag"} | {"etag": etags.of(row)}
