"""How waits are found and shown: to their user, and to staff."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.pages import Key, fetch
from libs.contracts.booking import WaitOutcome
from libs.contracts.principals import Staff
from services.booking import answers, errors, views, waits
from services.booking.models import Hall, Item, Slot, User, Wait
from services.booking.offers import Offered
from services.booking.wait_schemas import StaffWaitOut, WaitOut

NEWEST_FIRST = (Key(Wait.id, "id", descending=True),)
IN_ORDER = (Key(Wait.position, int),)


def _rows() -> Select[*tuple[Any, ...]]:
    return (
        select(Wait, waits.place_in_line(), Slot, Item, Hall, User.name)
        .join(Slot, Slot.id == Wait.slot_id)
        .join(Item, Item.id == Wait.item_id)
        .join(Hall, Hall.id == Wait.hall_id)
        .join(User, User.id == Wait.user_id)
    )


# --- to their user ---


def mine(
    session: Session, sealer: Sealer, user_id: str, *, limit: int, cursor: str | None
) -> tuple[list[WaitOut], str | None]:
    """Return a page of the user's waits, newest first."""
    query = _rows().where(Wait.user_id == user_id)
    rows, following = fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)
    return [_shown(sealer, row) for row in rows], following


def all_of_user(session: Session, sealer: Sealer, user_id: str) -> list[WaitOut]:
    """Return all that is kept of the user's waits, newest first."""
    rows = session.execute(_rows().where(Wait.user_id == user_id).order_by(Wait.id.desc()))
    return [_shown(sealer, row) for row in rows]


def one_of_mine(session: Session, sealer: Sealer, user_id: str, wait_id: str) -> WaitOut:
    """Return a wait of the user's, or raise WaitNotFound."""
    return _shown(sealer, _one(session, Wait.id == wait_id, Wait.user_id == user_id))


def _shown(sealer: Sealer, row: Any) -> WaitOut:
    return WaitOut(**_common(row), attendees=waits.attendees(sealer, row[0]))


# --- to staff ---


def of_slot(
    session: Session, sealer: Sealer, slot_id: str, *, limit: int, cursor: str | None
) -> tuple[list[StaffWaitOut], str | None]:
    """Return a page of who waits for a slot, or has an offer, in the order in which they came; answers are masked."""
    query = _rows().where(Wait.slot_id == slot_id, Wait.ended_at.is_(None))
    rows, following = fetch(session, query, keys=IN_ORDER, limit=limit, cursor=cursor)
    return _to_staff(session, sealer, rows), following


def one_of_staff(session: Session, sealer: Sealer, wait_id: str) -> StaffWaitOut:
    """Return a wait as staff see it."""
    [shown] = _to_staff(session, sealer, [_one(session, Wait.id == wait_id)])
    return shown


def within(session: Session, staff: Staff, wait_id: str) -> Wait:
    """Return a wait for a slot in the staff's halls, or raise WaitNotFound."""
    found: Wait = _one(session, Wait.id == wait_id, staff.sees(Wait.hall_id))[0]
    return found


def _to_staff(session: Session, sealer: Sealer, rows: list[Any]) -> list[StaffWaitOut]:
    of_items = answers.forms_of(session, {row[0].item_id for row in rows})
    shown = []
    for row in rows:
        wait = row[0]
        today = of_items[wait.item_id, None]
        made_with = of_items.get((wait.item_id, wait.form_version), today)
        masked = [_masked(made_with, today, given) for given in waits.attendees(sealer, wait)]
        shown.append(
            StaffWaitOut(**_common(row), attendees=masked, user_id=wait.user_id, user_name=row[-1], passed=wait.passed)
        )
    return shown


def _masked(made_with: answers.Fields, today: answers.Fields, given: dict[str, Any]) -> dict[str, Any]:
    sensitive = {key: value for key, value in given.items() if key in made_with and made_with[key].is_sensitive}
    return answers.masked_by(made_with, today, given, sensitive)


# --- helpers ---


def _one(session: Session, *which: ColumnElement[bool]) -> Any:
    row = session.execute(_rows().where(*which)).first()
    if row is None:
        raise errors.WaitNotFound
    return row


def _common(row: Any) -> dict[str, Any]:
    wait, place, slot, item, hall, _ = row
    offered = Offered(slot, item, hall)
    zone = ZoneInfo(hall.timezone)
    is_held = wait.ended_at is None
    return {
        "id": wait.id,
        "hall": views.hall(offered),
        "item": views.item(offered),
        "slot": views.slot(offered),
        "people": wait.people,
        "place": place,
        "offered_until": _at(wait.offered_until, zone) if is_held else None,
        "outcome": WaitOutcome(wait.outcome) if wait.outcome else None,
        "code": wait.code,
        "reason": wait.reason,
        "party_id": wait.party_id,
        "created_at": _at(wait.created_at, zone),
        "ended_at": _at(wait.ended_at, zone),
    }


def _at(instant: datetime | None, zone: ZoneInfo) -> datetime | None:
    return None if instant is None else instant.astimezone(zone)
