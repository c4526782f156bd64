"""What users and staff ask of booking about waiting for a full slot."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts import audit
from libs.contracts.booking import WaitOutcome
from libs.contracts.principals import AnyStaff, CurrentUser, HallStaff
from services.booking import errors, new_waits, offers, scoped, views, wait_views, waits
from services.booking.models import Wait
from services.booking.new_waits import Asking
from services.booking.resources import IdempotencyKey, Limited, SealerDep
from services.booking.schemas import PartyOut
from services.booking.wait_schemas import RemoveIn, StaffWaitOut, WaitIn, WaitOut

router = APIRouter()


@router.post("/slots/{slot_id}/wait", status_code=201, tags=["users"], dependencies=[Limited])
def begin(
    slot_id: Id, body: WaitIn, key: IdempotencyKey, user: CurrentUser, runtime: RuntimeDep, sealer: SealerDep, now: Now
) -> WaitOut:
    """Wait with a party for places in a full slot. The same key and body give the same wait again, as it is now."""
    attendees = [attendee.answers for attendee in body.attendees]
    asked = Asking(user_id=user.id, key=key, slot_id=slot_id, attendees=attendees, now=now)

    wait_id = new_waits.begin(runtime, asked)
    with runtime.db.transaction() as session:
        return wait_views.one_of_mine(session, sealer, user.id, wait_id)


@router.get("/waits", tags=["users"])
def my_waits(
    user: CurrentUser, session: Tx, sealer: SealerDep, limit: Limit = 20, cursor: CursorText = None
) -> Page[WaitOut]:
    """The user's own waits, newest first, with their places in the lines."""
    found, next_cursor = wait_views.mine(session, sealer, user.id, limit=limit, cursor=cursor)
    return Page(items=found, next_cursor=next_cursor)


@router.post("/waits/{wait_id}/accept", tags=["users"], dependencies=[Limited])
def accept(wait_id: Id, user: CurrentUser, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> PartyOut:
    """Book the places that are offered. Repeated, it answers with the same party.

    Where the answers do not fit any more, or the user may not book at the hall while the offer stands, the wait ends as
    refused, and the places go to the next.
    """

    def work(session: Session) -> PartyOut:
        booked = waits.accept(session, sealer, user_id=user.id, wait_id=wait_id, now=now)
        session.flush()
        offered = offers.of_joins(session, {join.slot_id for join in booked})
        shown = [views.join(sealer, join, offered[join.slot_id], now=now) for join in booked]
        return PartyOut(party_id=booked[0].party_id, joins=shown)

    try:
        return runtime.db.run(work)
    except (errors.FormInvalid, errors.PersonAlreadyJoined, errors.CoolingOff) as refused:
        why = refused
        runtime.db.run(lambda session: waits.refuse(session, why, user_id=user.id, wait_id=wait_id, now=now))
        raise


@router.post("/waits/{wait_id}/leave", tags=["users"], dependencies=[Limited])
def leave(wait_id: Id, user: CurrentUser, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> WaitOut:
    """Wait no more; what is offered goes to the next."""

    def work(session: Session) -> WaitOut:
        waits.leave(session, user_id=user.id, wait_id=wait_id, now=now)
        session.flush()
        return wait_views.one_of_mine(session, sealer, user.id, wait_id)

    return runtime.db.run(work)


@router.get("/staff/slots/{slot_id}/waits", tags=["staff"])
def of_slot(
    slot_id: Id, staff: AnyStaff, session: Tx, sealer: SealerDep, limit: Limit = 20, cursor: CursorText = None
) -> Page[StaffWaitOut]:
    """Who waits for a slot or has an offer, in the order in which they came, sensitive answers masked."""
    scoped.slot(session, staff, slot_id)
    found, next_cursor = wait_views.of_slot(session, sealer, slot_id, limit=limit, cursor=cursor)
    return Page(items=found, next_cursor=next_cursor)


@router.post("/staff/waits/{wait_id}/remove", tags=["staff"])
def remove(
    wait_id: Id, body: RemoveIn, staff: HallStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now
) -> StaffWaitOut:
    """Take a party out of the line, with a reason that the user is told."""

    def work(session: Session) -> StaffWaitOut:
        wait_views.within(session, staff, wait_id)
        wait, offered = waits.locked(session, Wait.id == wait_id)
        if wait.ended_at is not None:
            raise errors.WaitOver(outcome=wait.outcome)
        waits.end(session, wait, offered, WaitOutcome.REMOVED, now=now, reason=body.reason)
        audit.record(
            session,
            staff,
            "wait.removed",
            object_type="wait",
            object_id=wait.id,
            hall_id=wait.hall_id,
            reason=body.reason,
        )
        session.flush()
        return wait_views.one_of_staff(session, sealer, wait_id)

    return runtime.db.run(work)
