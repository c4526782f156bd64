"""What staff ask of booking. Everything is bounded by the halls of their token, in SQL."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import NotFound
from libs.common.inputs import Date
from libs.common.pages import CursorText, Limit, Page, fetch
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts import audit
from libs.contracts.booking import JoinStatus
from libs.contracts.principals import AnyStaff, HallStaff, Role, Staff, SuperAdmin
from services.booking import affected, check_ins, findables, joins, lists, offers, users, views
from services.booking.affected import Chosen
from services.booking.errors import JoinNotFound, OverrideForbidden
from services.booking.lists import StaffQuery
from services.booking.models import Hall, Join, Slot
from services.booking.offers import Offered
from services.booking.resources import SealerDep
from services.booking.schemas import (
    AffectedOut,
    DoorCodeOut,
    InventoryOut,
    RevokedOut,
    RevokeIn,
    StaffCheckIn,
    StaffJoinOut,
    StaffJoinsOut,
    StaffUserIn,
    StaffUserOut,
    UndoIn,
)

router = APIRouter(prefix="/staff", tags=["staff"])
Search = Annotated[str | None, Query(max_length=50, pattern=r"^[^\x00]*$")]


Person = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=50,
        pattern=r"^[^\x00]*$",
        description="part of a name, or a whole phone, ID card or plate number or other identifying answer",
    ),
]


class JoinFilter:
    """The query of the list of joins, gathered once. `q`: part of a title, or a code.

    Who looks for a person is limited in how often: numbers are shown masked, and not to be found out by trying.
    """

    def __init__(
        self,
        staff: AnyStaff,
        runtime: RuntimeDep,
        sealer: SealerDep,
        now: Now,
        hall_id: Id | None = None,
        item_id: Id | None = None,
        slot_id: Id | None = None,
        user_id: Id | None = None,
        first_day: Annotated[Date | None, Query(alias="from")] = None,
        last_day: Annotated[Date | None, Query(alias="to")] = None,
        status: JoinStatus | None = None,
        checked_in: bool | None = None,
        missed: bool | None = None,
        person: Person = None,
        q: Search = None,
    ) -> None:
        if person is not None:
            runtime.limiter.hit(runtime.settings.person_rate, "person", staff.id)
        self.wanted = StaffQuery(
            now=now,
            hall_id=hall_id,
            item_id=item_id,
            slot_id=slot_id,
            user_id=user_id,
            first_day=first_day,
            last_day=last_day,
            status=status,
            checked_in=checked_in,
            missed=missed,
            person=None if person is None else findables.sought(sealer, person),
            q=q,
        )


@router.get("/joins")
def list_joins(
    staff: AnyStaff,
    session: Tx,
    sealer: SealerDep,
    now: Now,
    asked: Annotated[JoinFilter, Depends()],
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[StaffJoinOut]:
    """Joins of the staff's halls, newest first, sensitive answers masked. `q`: part of a title, or a code."""
    found, next_cursor = lists.of_staff(session, staff.sees(Join.hall_id), asked.wanted, limit=limit, cursor=cursor)
    return Page(items=[_shown(sealer, row, now) for row in found], next_cursor=next_cursor)


@router.get("/joins/{join_id}")
def get_join(join_id: Id, staff: AnyStaff, session: Tx, sealer: SealerDep, now: Now) -> StaffJoinOut:
    return _shown(sealer, _in_scope(session, staff, join_id), now)


@router.post("/joins/{join_id}/revoke")
def revoke(
    join_id: Id, body: RevokeIn, staff: HallStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now
) -> StaffJoinOut:
    """Take one place back, for a reason that the user is told."""

    def work(session: Session) -> StaffJoinOut:
        _in_scope(session, staff, join_id)
        _, join = joins.revoke(session, join_id=join_id, reason=body.reason, now=now)
        _audit(session, staff, "join.revoked", join, reason=body.reason, after={"status": join.status})
        return _shown(sealer, _in_scope(session, staff, join_id), now)

    return runtime.db.run(work)


@router.post("/joins/{join_id}/restore")
def restore(join_id: Id, staff: HallStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> StaffJoinOut:
    """Give a revoked join a place again, if there is one.

    Staff's word goes beyond the item's limits for each user (`max_per_slot`, `max_per_day`, `max_ahead`), its booking
    window and a closed slot; never beyond the capacity, nor where one of its unique answers is booked meanwhile.
    """

    def work(session: Session) -> StaffJoinOut:
        _in_scope(session, staff, join_id)
        _, join = joins.restore(session, sealer, join_id=join_id, now=now)
        _audit(session, staff, "join.restored", join, after={"status": join.status})
        return _shown(sealer, _in_scope(session, staff, join_id), now)

    return runtime.db.run(work)


@router.get("/slots/{slot_id}")
def get_slot(slot_id: Id, staff: AnyStaff, session: Tx) -> InventoryOut:
    """The inventory of a slot: what was asked, what is in force, what is taken."""
    return views.inventory(_slot_in_scope(session, staff, slot_id))


@router.post("/slots/{slot_id}/revoke")
def revoke_slot(slot_id: Id, body: RevokeIn, staff: HallStaff, runtime: RuntimeDep, now: Now) -> RevokedOut:
    """Take back every place of a slot, but those of people who are checked in."""

    def work(session: Session) -> RevokedOut:
        offered = _slot_in_scope(session, staff, slot_id)
        revoked, kept = joins.revoke_slot(session, slot_id=slot_id, reason=body.reason, now=now)
        audit.record(
            session,
            staff,
            "slot.revoked",
            object_type="slot",
            object_id=slot_id,
            hall_id=offered.slot.hall_id,
            reason=body.reason,
            after={"revoked": revoked, "kept_checked_in": kept},
        )
        return RevokedOut(revoked=revoked, kept_checked_in=kept)

    return runtime.db.run(work)


@router.get("/affected")
def preview_affected(
    staff: HallStaff,
    session: Tx,
    now: Now,
    hall_id: Id | None = None,
    item_id: Id | None = None,
    slot_id: Id | None = None,
    first_day: Annotated[Date | None, Query(alias="from")] = None,
    last_day: Annotated[Date | None, Query(alias="to")] = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> AffectedOut:
    """Tell, before a hall, an item or a slot is stopped or closed, who is booked ahead, and where they could go instead.

    Exactly one of the three is named. Alternatives are beyond what is chosen, can be booked now, and lie within a month:
    first the nearest of the same item, then those of items with its title in other halls of the staff's.
    """
    chosen = Chosen(slot_id=slot_id, item_id=item_id, hall_id=hall_id, first=first_day, last=last_day)
    return affected.by_slot(session, staff, chosen, now=now, limit=limit, cursor=cursor)


@router.post("/check-ins")
def check_in(body: StaffCheckIn, staff: AnyStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> StaffJoinsOut:
    """Check in one attendee, or everybody of the party. `override` (not for verifiers) leaves the time out of it."""
    if body.override and staff.role == Role.VERIFIER:
        raise OverrideForbidden

    def work(session: Session) -> StaffJoinsOut:
        join = _by_code(session, staff, body)
        ids = [join.id]
        if body.party:
            ids = check_ins.party_of(session, join, now=now, override=body.override)
        done = check_ins.check_in(session, ids, now=now, override=body.override)
        for _, arrived in done:
            after = {"override": True} if body.override else None
            _audit(session, staff, "join.checked_in", arrived, reason=body.reason, after=after)
        return StaffJoinsOut(joins=[_shown(sealer, _in_scope(session, staff, one.id), now) for _, one in done])

    return runtime.db.run(work)


@router.post("/check-ins/undo")
def undo_check_in(body: UndoIn, staff: AnyStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> StaffJoinOut:
    """Take a check-in back, with a reason for the audit."""

    def work(session: Session) -> StaffJoinOut:
        _in_scope(session, staff, body.join_id)
        _, join = check_ins.undo(session, body.join_id)
        _audit(session, staff, "join.check_in_undone", join, reason=body.reason)
        return _shown(sealer, _in_scope(session, staff, body.join_id), now)

    return runtime.db.run(work)


@router.get("/halls/{hall_id}/door-code")
def door_code(hall_id: Id, staff: AnyStaff, session: Tx, sealer: SealerDep, now: Now) -> DoorCodeOut:
    """The code for the hall's screen, by which users check themselves in."""
    staff.require_hall(hall_id)
    if session.get(Hall, hall_id) is None:
        raise NotFound
    code, until = check_ins.door_code(sealer, hall_id, now=now)
    return DoorCodeOut(code=code, period_s=check_ins.DOOR_PERIOD_S, valid_until=until)


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


def _in_scope(session: Session, staff: Staff, join_id: str) -> Any:
    row = lists.one_of_staff(session, staff.sees(Join.hall_id), Join.id == join_id)
    if row is None:
        raise JoinNotFound
    return row


def _by_code(session: Session, staff: Staff, body: StaffCheckIn) -> Join:
    condition = Join.code == body.code if body.join_id is None else Join.id == body.join_id
    row = lists.one_of_staff(session, staff.sees(Join.hall_id), condition)
    if row is None:
        raise JoinNotFound
    join: Join = row[0]
    return join


def _slot_in_scope(session: Session, staff: Staff, slot_id: str) -> Offered:
    row = session.execute(offers.rows().where(Slot.id == slot_id, staff.sees(Slot.hall_id))).first()
    if row is None:
        raise NotFound
    return Offered(*row)


def _shown(sealer: Sealer, row: Any, now: Now) -> StaffJoinOut:
    join, slot, item, hall, user = row
    return views.staff_join(sealer, join, Offered(slot, item, hall), user, now=now)


def _audit(
    session: Session, staff: Staff, action: str, join: Join, *, reason: str = "", after: dict[str, Any] | None = None
) -> None:
    audit.record(
        session,
        staff,
        action,
        object_type="join",
        object_id=join.id,
        hall_id=join.hall_id,
        reason=reason,
        after=after,
    )
