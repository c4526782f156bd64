"""What staff ask of booking at the door: check-ins, who is expected, and who came without a booking."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic_core import from_json
from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common import etags
from libs.common.errors import NotFound
from libs.common.etags import IfNoneMatch
from libs.common.pages import CursorText, Limit
from libs.common.service import Runtime
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts import audit
from libs.contracts.principals import AnyStaff, HallStaff, Right, Staff
from services.booking import check_ins, door, scoped, walk_ins
from services.booking.asks import Booking
from services.booking.errors import OverrideForbidden
from services.booking.models import Hall, Join
from services.booking.resources import DeskDep, IdempotencyKey, SealerDep
from services.booking.schemas import DoorCodeOut, DoorOut, StaffCheckIn, StaffJoinOut, StaffJoinsOut, UndoIn, WalkInIn

router = APIRouter(prefix="/staff", tags=["staff"])


@router.post("/check-ins")
def check_in(body: StaffCheckIn, staff: AnyStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> StaffJoinsOut:
    """Check in one attendee, or everybody of the party. `override` (with the right to it) leaves the time out of it."""
    if body.override and not staff.may(Right.OVERRIDE_CHECK_IN):
        raise OverrideForbidden

    def work(session: Session) -> StaffJoinsOut:
        condition = Join.code == body.code if body.join_id is None else Join.id == body.join_id
        join: Join = scoped.row(session, staff, condition)[0]
        ids = [join.id]
        if body.party:
            ids = check_ins.party_of(session, join, now=now, override=body.override)
        done = check_ins.check_in(session, ids, now=now, override=body.override)
        for _, arrived in done:
            scoped.record_arrival(session, staff, arrived, reason=body.reason, override=body.override)
        return scoped.all_shown(session, staff, sealer, [one for _, one in done], now=now)

    return runtime.db.run(work)


@router.post("/check-ins/undo")
def undo_check_in(body: UndoIn, staff: AnyStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> StaffJoinOut:
    """Take a check-in back, with a reason for the audit."""

    def work(session: Session) -> StaffJoinOut:
        scoped.join(session, staff, body.join_id)
        checked_in_at, join = check_ins.undo(session, body.join_id)
        before, after = {"checked_in_at": checked_in_at.isoformat()}, {"checked_in_at": None}
        scoped.record(session, staff, "join.check_in_undone", join, reason=body.reason, before=before, after=after)
        return scoped.shown(session, staff, sealer, body.join_id, now=now)

    return runtime.db.run(work)


@router.get("/halls/{hall_id}/door-code")
def door_code(hall_id: Id, staff: AnyStaff, session: Tx, sealer: SealerDep, now: Now) -> DoorCodeOut:
    """The code for the hall's screen, by which users check themselves in."""
    staff.require_hall(hall_id)
    if session.get(Hall, hall_id) is None:
        raise NotFound
    code, until = check_ins.door_code(sealer, hall_id, now=now)
    return DoorCodeOut(code=code, period_s=check_ins.DOOR_PERIOD_S, valid_until=until)


@router.get("/slots/{slot_id}/door", response_model=DoorOut, responses={304: {"description": "Not changed"}})
def door_list(
    slot_id: Id,
    staff: AnyStaff,
    session: Tx,
    sealer: SealerDep,
    response: Response,
    if_none_match: IfNoneMatch = None,
    checked_in: bool | None = None,
    limit: Limit = 100,
    cursor: CursorText = None,
) -> DoorOut | Response:
    """Who is booked for a slot and who has come, in the order of booking.

    To keep it open, ask every few seconds with the last ETag in If-None-Match: 304 while nothing has changed.
    """
    offered = scoped.slot(session, staff, slot_id)
    # The tag is read first: what changes between the two is on the list already, and fetched once more.
    etag = door.tag(session, offered)
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etags.none_match(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return door.page(session, sealer, offered, checked_in=checked_in, limit=limit, cursor=cursor)


def _walk_in_user(slot_id: Id, staff: HallStaff, key: IdempotencyKey, runtime: RuntimeDep, now: Now) -> str:
    with runtime.db.transaction() as session:
        return walk_ins.of(session, staff, slot_id, key, now=now).user_id


@router.post("/slots/{slot_id}/joins", status_code=201)
async def register_walk_in(
    slot_id: Id,
    body: WalkInIn,
    user_id: Annotated[str, Depends(_walk_in_user)],
    key: IdempotencyKey,
    staff: HallStaff,
    desk: DeskDep,
    runtime: RuntimeDep,
    sealer: SealerDep,
    now: Now,
) -> StaffJoinsOut:
    """Book for people who stand at the desk; with `check_in`, whoever can be is checked in.

    By the same rules as for everybody, but for the item's booking window: until the slot's end.

    The same key and body give the first success again; nobody is checked in by it whose check-in was taken back since.
    """
    attendees = [attendee.answers for attendee in body.attendees]
    asked = Booking(user_id=user_id, key=key, slot_id=slot_id, attendees=attendees, at_the_desk=True, now=now)
    party = await desk.book(asked)
    party_id: str = from_json(party)["party_id"]

    def work(session: Session) -> StaffJoinsOut:
        return _put_on_record(runtime, session, staff, party_id, check_in=body.check_in, now=now)

    return await run_in_threadpool(runtime.db.run, work)


def _put_on_record(
    runtime: Runtime, session: Session, staff: Staff, party_id: str, *, check_in: bool, now: datetime
) -> StaffJoinsOut:
    """Put a walk-in party on record, check in whom one may and nothing has been done to since, and show them."""
    joins = session.scalars(select(Join).where(Join.party_id == party_id).order_by(Join.id)).all()
    first = joins[0]
    audit.record(
        session,
        staff,
        "walk_in.registered",
        object_type="party",
        object_id=party_id,
        hall_id=first.hall_id,
        after={"slot_id": first.slot_id, "people": len(joins)},
        audit_id=party_id,  # a repeated request is on record once
    )
    untouched = {join.id for join in joins if join.version == 1}
    ready = [one for one in check_ins.ready_of(session, first, now=now) if one in untouched] if check_in else []
    for _, arrived in check_ins.check_in(session, ready, now=now) if ready else []:
        scoped.record_arrival(session, staff, arrived)
    return scoped.all_shown(session, staff, runtime.resources.sealer, joins, now=now)
