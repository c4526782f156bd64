"""What staff ask of booking about users."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.common.pages import CursorText, Limit, Page, fetch
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts import audit
from libs.contracts.principals import AnyStaff, HallStaff, SuperAdmin
from services.booking import erasure, findables, lists, users, views
from services.booking.models import Join
from services.booking.resources import SealerDep
from services.booking.schemas import EraseIn, StaffUserIn, StaffUserOut, StaffUserWithCounts, UnmaskIn
from services.booking.staff_routes import Search, limit_searches

router = APIRouter(prefix="/staff", tags=["staff"])


class UserFilter:
    """The query of the list of users. Who looks for somebody is limited in how often, as in the list of joins."""

    def __init__(
        self,
        staff: AnyStaff,
        runtime: RuntimeDep,
        sealer: SealerDep,
        q: Annotated[Search, Query(description="part of the name, or a whole phone number")] = None,
    ) -> None:
        if q:
            limit_searches(runtime, staff)
        self.person = findables.sought(sealer, q) if q else None


@router.get("/users")
def list_users(
    staff: HallStaff,
    session: Tx,
    sealer: SealerDep,
    asked: Annotated[UserFilter, Depends()],
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[StaffUserOut]:
    """Users; for a hall admin, those who have booked in their halls. `q`: part of the name, or a whole phone number."""
    query = users.matching(staff, asked.person)
    found, next_cursor = fetch(session, query, keys=users.NEWEST_FIRST, limit=limit, cursor=cursor)
    return Page(items=[views.staff_user(sealer, user) for user in found], next_cursor=next_cursor)


@router.get("/users/{user_id}")
def get_user(user_id: Id, staff: HallStaff, session: Tx, sealer: SealerDep, now: Now) -> StaffUserWithCounts:
    """One user, with how many joins they have in the halls of whoever asks; `joins?user_id=` lists them."""
    user = users.one_of_staff(session, staff, user_id)
    counts = lists.counts_of_user(session, staff.sees(Join.hall_id), user_id, now=now)
    return views.staff_user_with_counts(sealer, user, counts)


@router.post("/users/{user_id}/unmask")
def unmask_user(user_id: Id, body: UnmaskIn, staff: HallStaff, session: Tx, sealer: SealerDep) -> StaffUserOut:
    """Show a user's phone number in clear, for a reason. Who looked at it is on record."""
    user = users.one_of_staff(session, staff, user_id)
    audit.record(session, staff, "user.unmasked", object_type="user", object_id=user_id, reason=body.reason)
    return views.staff_user(sealer, user, unmasked=True)


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


@router.post("/users/{user_id}/erase", status_code=204)
def erase_user(user_id: Id, body: EraseIn, staff: SuperAdmin, runtime: RuntimeDep, now: Now) -> None:
    """Erase somebody who asks for it: a user, as they can by themselves, or a party that walked in (a join's `user_id`).

    The reason must not say who they were: it stays on record.
    """

    def work(session: Session) -> None:
        if not users.is_there(session, user_id):
            raise NotFound
        erasure.erase(session, user_id, now=now)
        audit.record(session, staff, "user.erased", object_type="user", object_id=user_id, reason=body.reason)

    runtime.db.run(work)
