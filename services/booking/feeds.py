"""What an export reads: the staff's lists of joins and users in large pages, and what items and slots are called.

It reads columns and no mapped objects, and each item's form once a page: a row costs a tenth of what it does in the list.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.pages import Key, fetch
from libs.contracts.booking import JoinStatus
from libs.contracts.principals import Staff
from services.booking import answers, lists, users, views
from services.booking.answers import Forms
from services.booking.lists import StaffQuery
from services.booking.models import Hall, Item, ItemForm, Join, Slot, User
from services.booking.schemas import FeedCount, FeedForm, FeedItem, FeedJoin, FeedSlot, StaffUserOut
from services.booking.users import UserQuery

ITEMS_IN_ORDER = (Key(Item.id, "id"),)
SLOTS_AT_ONCE = 200


def joins(
    session: Session,
    sealer: Sealer,
    staff: Staff,
    wanted: StaffQuery,
    *,
    unmasked: bool,
    now: datetime,
    limit: int,
    cursor: str | None,
) -> tuple[list[FeedJoin], str | None]:
    """Return a page of joins within the scope, newest first as in the list, answers masked unless asked otherwise."""
    columns = (
        *(Join.id, Join.item_id, Join.form_version, Join.code, Join.status, Join.reason, Join.answers, Join.sealed),
        *(Join.created_at, Join.checked_in_at, Join.excused, Join.ended_at),
        *(Slot.date, Slot.start, Slot.end, Slot.ends_at, Hall.timezone, User.name),
    )
    query = _placed(select(*columns)).join(User, User.id == Join.user_id).where(staff.sees(Join.hall_id))
    found, next_cursor = fetch(
        session, lists.matching(query, wanted), keys=lists.NEWEST_FIRST, limit=limit, cursor=cursor
    )
    fields = answers.forms_of(session, {row[1] for row in found})
    return [_join(sealer, row, fields, unmasked=unmasked, now=now) for row in found], next_cursor


def _placed(query: Any) -> Any:
    return (
        query.join(Slot, Slot.id == Join.slot_id)
        .join(Item, Item.id == Join.item_id)
        .join(Hall, Hall.id == Join.hall_id)
    )


def _join(
    sealer: Sealer,
    row: Sequence[Any],
    forms: Forms,
    *,
    unmasked: bool,
    now: datetime,
) -> FeedJoin:
    join_id, item_id, form_version, code, status, reason, plain, sealed, *times = row
    created, checked_in, excused, ended, day, start, end, ends, timezone, user_name = times
    zone = ZoneInfo(timezone)
    sensitive = answers.unsealed(sealer, join_id, sealed)
    latest = forms[item_id, None]
    made_with = forms.get((item_id, form_version), latest)
    return FeedJoin.model_construct(
        item_id=item_id,
        form_version=form_version,
        code=code,
        status=JoinStatus(status),
        reason=reason,
        user_name=user_name,
        date=day,
        start=start,
        end=end,
        answers=plain | sensitive if unmasked else answers.masked_by(made_with, latest, plain, sensitive),
        created_at=created.astimezone(zone),
        checked_in_at=checked_in.astimezone(zone) if checked_in else None,
        missed=views.is_missed(status, checked_in, excused, ends, now),
        ended_at=ended.astimezone(zone) if ended else None,
    )


def counts(session: Session, staff: Staff, wanted: StaffQuery) -> list[FeedCount]:
    """Return how many joins of each item the filter finds, and by which versions of its form."""
    versions = func.array_agg(Join.form_version.distinct())
    query = _placed(select(Join.item_id, func.count(), versions)).where(staff.sees(Join.hall_id))
    rows = session.execute(lists.matching(query, wanted).group_by(Join.item_id).order_by(Join.item_id))
    return [FeedCount(item_id=item_id, joins=number, form_versions=known) for item_id, number, known in rows]


def items(session: Session, staff: Staff, *, limit: int, cursor: str | None) -> tuple[list[FeedItem], str | None]:
    """Return a page of the items of one's halls: what they and their halls are called, and their forms."""
    query = select(Item, Hall).join(Hall, Hall.id == Item.hall_id).where(staff.sees(Item.hall_id))
    found, next_cursor = fetch(session, query, keys=ITEMS_IN_ORDER, limit=limit, cursor=cursor)
    forms = _forms(session, [item.id for item, _ in found])
    shown = [
        FeedItem(
            id=item.id,
            title=item.title,
            status=item.status,
            hall_id=hall.id,
            hall_name=hall.name,
            timezone=hall.timezone,
            form=item.form,
            forms=forms[item.id],
        )
        for item, hall in found
    ]
    return shown, next_cursor


def _forms(session: Session, item_ids: Collection[str]) -> dict[str, list[FeedForm]]:
    query = select(ItemForm).where(ItemForm.item_id.in_(item_ids)).order_by(ItemForm.version.desc())
    found: dict[str, list[FeedForm]] = {item_id: [] for item_id in item_ids}
    for kept in session.scalars(query):
        found[kept.item_id].append(FeedForm(version=kept.version, form=kept.form))
    return found


def slots(session: Session, staff: Staff, ids: list[str]) -> list[FeedSlot]:
    """Return when these slots are, as far as they are of one's halls."""
    rows = session.execute(
        select(Slot.id, Slot.start, Slot.end).where(Slot.id.in_(ids)).where(staff.sees(Slot.hall_id)).order_by(Slot.id)
    )
    return [FeedSlot(id=slot_id, start=start, end=end) for slot_id, start, end in rows]


def people_count(session: Session, staff: Staff, wanted: UserQuery) -> int:
    """Return how many users that is."""
    return session.scalar(select(func.count()).select_from(users.matching(staff, wanted).subquery())) or 0


def people(
    session: Session,
    sealer: Sealer,
    staff: Staff,
    wanted: UserQuery,
    *,
    unmasked: bool,
    limit: int,
    cursor: str | None,
) -> tuple[list[StaffUserOut], str | None]:
    """Return a page of users as in the list, phone numbers masked unless asked otherwise."""
    found, next_cursor = fetch(
        session, users.matching(staff, wanted), keys=users.NEWEST_FIRST, limit=limit, cursor=cursor
    )
    return [views.staff_user(sealer, staff, user, unmasked=unmasked) for user in found], next_cursor
