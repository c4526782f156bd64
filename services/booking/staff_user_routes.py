"""What staff ask of booking about users."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session

from libs.common.errors import NotFound, Unauthenticated
from libs.common.pages import CursorText, Limit, Page, fetch
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts import audit
from libs.contracts.principals import AnyStaff, HallStaff, Staff, SuperAdmin
from services.booking import erasure, findables, lists, misses, own_data, standings, users, views
from services.booking.errors import NothingToForgive
from services.booking.models import Hall, Join
from services.booking.policy import Standing
from services.booking.resources import SealerDep
from services.booking.schemas import (
    EraseIn,
    ForgiveIn,
    StaffStandingOut,
    StaffStandingsOut,
    StaffUserIn,
    StaffUserOut,
    StaffUserWithCounts,
    UnmaskIn,
)
from services.booking.staff_routes import Search, Unmasking, limit_searches
from services.booking.users import UserQuery
from services.booking.wait_schemas import DataOut

router = APIRouter(prefix="/staff", tags=["staff"])
VISITS = 100


class UserFilter:
    """The query of the list of users. Who looks for somebody is limited in how often, as in the list of joins."""

    def __init__(
        self,
        staff: AnyStaff,
        runtime: RuntimeDep,
        sealer: SealerDep,
        q: Annotated[Search, Query(description="part of the name, or a whole phone number")] = None,
        disabled: bool | None = None,
    ) -> None:
        if q:
            limit_searches(runtime, staff)
        self.wanted = UserQuery(person=findables.sought(sealer, q) if q else None, disabled=disabled)


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
    query = users.matching(staff, asked.wanted)
    found, next_cursor = fetch(session, query, keys=users.NEWEST_FIRST, limit=limit, cursor=cursor)
    return Page(items=[views.staff_user(sealer, staff, user) for user in found], next_cursor=next_cursor)


@router.get("/users/{user_id}")
def get_user(user_id: Id, staff: HallStaff, session: Tx, sealer: SealerDep, now: Now) -> StaffUserWithCounts:
    """One user, with how many joins they have in the halls of whoever asks; `joins?user_id=` lists them."""
    user = users.one_of_staff(session, staff, user_id)
    counts = lists.counts_of_user(session, staff.sees(Join.hall_id), user_id, now=now)
    return views.staff_user_with_counts(sealer, staff, user, counts)


@router.post("/users/{user_id}/unmask", dependencies=[Unmasking])
def unmask_user(user_id: Id, body: UnmaskIn, staff: HallStaff, session: Tx, sealer: SealerDep) -> StaffUserOut:
    """Show a user's phone number in clear, for a reason. Who looked at it is on record."""
    user = users.one_of_staff(session, staff, user_id)
    hall_id = audit.only_hall(staff.halls)
    audit.record(
        session, staff, "user.unmasked", object_type="user", object_id=user_id, hall_id=hall_id, reason=body.reason
    )
    return views.staff_user(sealer, staff, user, unmasked=True)


@router.get("/users/{user_id}/standing")
def get_standing(user_id: Id, staff: HallStaff, session: Tx, now: Now) -> StaffStandingsOut:
    """What visits that a user missed come to, at each of the halls of whoever asks that minds it, and which those are."""
    users.one_of_staff(session, staff, user_id)
    found = standings.of_user(session, user_id, staff.sees(Hall.id), hall_id=None, now=now)
    return StaffStandingsOut(items=[_standing(session, user_id, hall, one) for hall, one in found])


@router.post("/users/{user_id}/forgive")
def forgive_user(user_id: Id, body: ForgiveIn, staff: HallStaff, session: Tx, now: Now) -> StaffStandingOut:
    """Let one visit that a user missed at a hall, or all of them, count no more, for a reason that is on record."""
    users.one_of_staff(session, staff, user_id)
    before = _standing_at(session, staff, user_id, body.hall_id, now=now)
    forgiven = misses.forgive(session, user_id=user_id, hall_id=body.hall_id, join_id=body.join_id, now=now)
    after = _standing_at(session, staff, user_id, body.hall_id, now=now)
    audit.record(
        session,
        staff,
        "user.forgiven",
        object_type="user",
        object_id=user_id,
        hall_id=body.hall_id,
        reason=body.reason,
        before=_on_record(before),
        after=_on_record(after) | {"join_ids": [join.id for join in forgiven]},
    )
    return after


def _standing_at(session: Session, staff: Staff, user_id: str, hall_id: str, *, now: datetime) -> StaffStandingOut:
    """Return a user's standing at a hall of the staff's, or raise NothingToForgive where it minds nothing."""
    found = standings.of_user(session, user_id, staff.sees(Hall.id), hall_id=hall_id, now=now)
    if not found:
        raise NothingToForgive
    [(hall, standing)] = found
    return _standing(session, user_id, hall, standing)


def _standing(session: Session, user_id: str, hall: Hall, standing: Standing) -> StaffStandingOut:
    visits = lists.missed_visits(session, user_id, hall.id, at_most=VISITS)
    return views.staff_standing(hall, standing, visits)


def _on_record(shown: StaffStandingOut) -> dict[str, Any]:
    return shown.model_dump(mode="json", include={"missed", "cooling_off_until"})


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
    return views.staff_user(sealer, staff, user)


@router.post("/users/{user_id}/data", dependencies=[Unmasking])
def data_of_user(
    user_id: Id, body: UnmaskIn, staff: SuperAdmin, session: Tx, sealer: SealerDep, now: Now, response: Response
) -> DataOut:
    """All that booking keeps of somebody who asks for it at the desk, readable: a user, as they have it in `me/data`, or a
    party that walked in (a join's `user_id`). The reason is on record.
    """
    user = users.one_there(session, user_id)
    audit.record(session, staff, "user.data_shown", object_type="user", object_id=user_id, reason=body.reason)
    response.headers.update(own_data.HEADERS)
    return own_data.of(session, sealer, user, now=now)


@router.post("/users/{user_id}/erase", status_code=204)
def erase_user(user_id: Id, body: EraseIn, staff: SuperAdmin, runtime: RuntimeDep, now: Now) -> None:
    """Erase somebody who asks for it: a user, as they can by themselves, or a party that walked in (a join's `user_id`).

    The reason must not say who they were: it stays on record.
    """

    def work(session: Session) -> None:
        try:
            erasure.erase(session, user_id, now=now)
        except Unauthenticated:  # what the user would be told
            raise NotFound from None
        audit.record(session, staff, "user.erased", object_type="user", object_id=user_id, reason=body.reason)

    runtime.db.run(work)
