"""What staff ask of booking about users."""

from fastapi import APIRouter

from libs.common.pages import CursorText, Limit, Page, fetch
from libs.common.web import Id, Now, Tx
from libs.contracts import audit
from libs.contracts.principals import HallStaff, SuperAdmin
from services.booking import users, views
from services.booking.resources import SealerDep
from services.booking.schemas import StaffUserIn, StaffUserOut
from services.booking.staff_routes import Search

router = APIRouter(prefix="/staff", tags=["staff"])


@router.get("/users")
def list_users(
    staff: HallStaff, session: Tx, sealer: SealerDep, q: Search = None, limit: Limit = 20, cursor: CursorText = None
) -> Page[StaffUserOut]:
    """Users; for a hall admin, those who have booked in their halls. `q`: part of the name."""
    query = users.matching(staff, q)
    found, next_cursor = fetch(session, query, keys=users.NEWEST_FIRST, limit=limit, cursor=cursor)
    return Page(items=[views.staff_user(sealer, user) for user in found], next_cursor=next_cursor)


@router.patch("/users/{user_id}")
def set_user(
    user_id: Id, body: StaffUserIn, staff: SuperAdmin, session: Tx, sealer: SealerDep, now: Now
) -> StaffUserOut:
    """Disable or enable a user, with a reason. Their joins stay."""
    user, before = users.set_disabled(session, user_id, disabled=body.disabled, reason=body.reason, now=now)
    audit.record(
        session,
        staff,
        "user.disabled" if body.disabled else "user.enabled",
        object_type="user",
        object_id=user_id,
        reason=body.reason,
        before={"disabled": before},
        after={"disabled": body.disabled},
    )
    return views.staff_user(sealer, user)
