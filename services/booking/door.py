"""The door list: who is expected in a slot, and who has come. It is asked for again and again, so it has a tag."""

from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.pages import Key, fetch
from libs.contracts.booking import JoinStatus
from services.booking import answers, views
from services.booking.models import Join
from services.booking.offers import Offered
from services.booking.schemas import DoorJoin, DoorOut

AS_BOOKED = (Key(Join.id, "id"),)


def tag(session: Session, offered: Offered) -> str:
    """Return the ETag of a slot's door list: it changes whenever anything on the list does.

    Whoever comes into the slot or leaves it changes the slot's version; whatever becomes of those within, one of theirs.
    """
    slot, item, hall = offered.slot, offered.item, offered.hall
    versions = session.scalar(select(func.coalesce(func.sum(Join.version), 0)).where(Join.slot_id == slot.id))
    return f'"{slot.id}.{slot.version}.{versions}.{item.version}.{hall.version}"'


def page(
    session: Session, sealer: Sealer, offered: Offered, *, checked_in: bool | None, limit: int, cursor: str | None
) -> DoorOut:
    """Return a page of those who are booked, in the order of booking, sensitive answers masked."""
    booked = (Join.slot_id == offered.slot.id, Join.status == JoinStatus.BOOKED)
    expected, arrived = session.execute(select(func.count(), func.count(Join.checked_in_at)).where(*booked)).one()
    query = select(Join).where(*booked)
    if checked_in is not None:
        query = query.where(Join.checked_in_at.is_not(None) if checked_in else Join.checked_in_at.is_(None))
    found, next_cursor = fetch(session, query, keys=AS_BOOKED, limit=limit, cursor=cursor)
    zone = ZoneInfo(offered.hall.timezone)
    known = answers.forms_of(session, [offered.item.id])
    return DoorOut(
        slot=views.slot(offered),
        item=views.item(offered),
        hall=views.hall(offered),
        expected=expected,
        checked_in=arrived,
        items=[
            DoorJoin(
                id=join.id,
                party_id=join.party_id,
                code=join.code,
                answers=answers.masked(sealer, join, known),
                checked_in_at=join.checked_in_at.astimezone(zone) if join.checked_in_at else None,
            )
            for join in found
        ],
        next_cursor=next_cursor,
    )
