"""What an export asks of booking: the staff's lists in large pages. Scope and masking are the lists' own.

Anybody who may see the lists may ask; `unmasked` takes the token that admin makes for one export.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from libs.common.pages import CursorText, Page
from libs.common.web import Id, Now, Tx
from libs.contracts.principals import HallStaff
from services.booking import feeds
from services.booking.errors import UnmaskedForbidden
from services.booking.resources import SealerDep
from services.booking.schemas import FeedCount, FeedItem, FeedJoin, FeedSlot, FeedUserCount, StaffUserOut
from services.booking.staff_routes import JoinFilter
from services.booking.staff_user_routes import UserFilter

router = APIRouter(prefix="/staff/feed", tags=["feed"])
PageSize = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
Asked = Annotated[JoinFilter, Depends()]
AskedUsers = Annotated[UserFilter, Depends()]


def _unmasked(staff: HallStaff, unmasked: bool = False) -> bool:
    if unmasked and not staff.unmasked:
        raise UnmaskedForbidden
    return unmasked


Unmasked = Annotated[bool, Depends(_unmasked)]


@router.get("/joins")
def feed_joins(
    staff: HallStaff,
    session: Tx,
    sealer: SealerDep,
    now: Now,
    asked: Asked,
    unmasked: Unmasked,
    limit: PageSize = 500,
    cursor: CursorText = None,
) -> Page[FeedJoin]:
    """The joins that `/staff/joins` lists under the same filter, in the same order."""
    found, next_cursor = feeds.joins(
        session, sealer, staff, asked.wanted, unmasked=unmasked, now=now, limit=limit, cursor=cursor
    )
    return Page[FeedJoin].model_construct(items=found, next_cursor=next_cursor)


@router.get("/joins/counts")
def feed_counts(staff: HallStaff, session: Tx, asked: Asked) -> list[FeedCount]:
    """How many joins the filter finds, item by item."""
    return feeds.counts(session, staff, asked.wanted)


@router.get("/items")
def feed_items(staff: HallStaff, session: Tx, limit: PageSize = 100, cursor: CursorText = None) -> Page[FeedItem]:
    """The items of one's halls with their forms."""
    found, next_cursor = feeds.items(session, staff, limit=limit, cursor=cursor)
    return Page(items=found, next_cursor=next_cursor)


@router.get("/slots")
def feed_slots(
    staff: HallStaff,
    session: Tx,
    ids: Annotated[list[Id], Query(alias="id", min_length=1, max_length=feeds.SLOTS_AT_ONCE)],
) -> list[FeedSlot]:
    """When these slots are; those that are none of one's halls are left out."""
    return feeds.slots(session, staff, ids)


@router.get("/users/count")
def feed_user_count(staff: HallStaff, session: Tx, asked: AskedUsers) -> FeedUserCount:
    """How many users the filter finds."""
    return FeedUserCount(users=feeds.people_count(session, staff, asked.wanted))


@router.get("/users")
def feed_users(
    staff: HallStaff,
    session: Tx,
    sealer: SealerDep,
    asked: AskedUsers,
    unmasked: Unmasked,
    limit: PageSize = 500,
    cursor: CursorText = None,
) -> Page[StaffUserOut]:
    """The users that `/staff/users` lists, in the same order."""
    found, next_cursor = feeds.people(
        session, sealer, staff, asked.wanted, unmasked=unmasked, limit=limit, cursor=cursor
    )
    return Page(items=found, next_cursor=next_cursor)
