"""What staff ask of booking about joins. Everything is bounded by the halls of their token, in SQL."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from libs.common.errors import NotFound, check_range
from libs.common.inputs import Date
from libs.common.pages import CursorText, Limit, Page
from libs.common.service import Runtime
from libs.common.web import Id, Now, RuntimeDep, Tx
from libs.contracts.booking import JoinStatus, WaitOutcome
from libs.contracts.principals import AnyStaff, HallStaff, Staff
from services.booking import affected, answers, findables, joins, lines, lists, scoped, views
from services.booking.affected import Chosen
from services.booking.joins import Revoked
from services.booking.lists import StaffQuery
from services.booking.models import Hall, Item, Join, Slot
from services.booking.offers import Offered
from services.booking.resources import SealerDep
from services.booking.schemas import (
    AffectedOut,
    InventoryOut,
    RevokeDayIn,
    RevokedOut,
    RevokeIn,
    RevokeSomeIn,
    StaffJoinOut,
    StaffJoinWithFormOut,
    UnmaskIn,
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


Statuses = Annotated[
    list[JoinStatus] | None,
    Query(alias="status", max_length=len(JoinStatus), description="once or more: joins of any of these"),
]


def limit_searches(runtime: Runtime, staff: Staff) -> None:
    """Raise TooMany where this account searches for people too often; what a job searches was counted once by admin."""
    if staff.job is None:
        runtime.limiter.hit(runtime.settings.person_rate, "person", staff.id)


def limit_unmasking(staff: HallStaff, runtime: RuntimeDep) -> None:
    """Raise TooMany where this account is shown too much in clear: what takes a reason is looked at, and not collected."""
    runtime.limiter.hit(runtime.settings.unmask_rate, "unmask", staff.id)


Unmasking = Depends(limit_unmasking)


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
        statuses: Statuses = None,
        checked_in: bool | None = None,
        missed: bool | None = None,
        person: Person = None,
        q: Search = None,
    ) -> None:
        check_range(first_day, last_day)
        if person is not None:
            limit_searches(runtime, staff)
        self.wanted = StaffQuery(
            now=now,
            hall_id=hall_id,
            item_id=item_id,
            slot_id=slot_id,
            user_id=user_id,
            first_day=first_day,
            last_day=last_day,
            statuses=statuses,
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
    return Page(items=scoped.rows_shown(session, sealer, found, now=now), next_cursor=next_cursor)


@router.get("/joins/{join_id}")
def get_join(join_id: Id, staff: AnyStaff, session: Tx, sealer: SealerDep, now: Now) -> StaffJoinWithFormOut:
    """A join of the staff's halls, with the form that it was made with."""
    row = scoped.row(session, staff, Join.id == join_id)
    join, slot, item, hall, _ = row
    [shown] = scoped.rows_shown(session, sealer, [row], now=now)
    return StaffJoinWithFormOut(**dict(shown), form=views.form_of(join, Offered(slot, item, hall)))


@router.post("/joins/{join_id}/unmask", dependencies=[Unmasking])
def unmask(join_id: Id, body: UnmaskIn, staff: HallStaff, session: Tx, sealer: SealerDep, now: Now) -> StaffJoinOut:
    """Show the sensitive answers of one join in clear, for a reason. Who looked at what is on record."""
    row = scoped.row(session, staff, Join.id == join_id)
    join: Join = row[0]
    [masked] = scoped.rows_shown(session, sealer, [row], now=now)
    clear = answers.opened(sealer, join)
    seen = sorted(key for key, value in clear.items() if masked.answers[key] != value)
    scoped.record(session, staff, "join.unmasked", join, reason=body.reason, after={"fields": seen})
    return masked.model_copy(update={"answers": clear})


@router.post("/joins/revoke")
def revoke_some(body: RevokeSomeIn, staff: HallStaff, runtime: RuntimeDep, now: Now) -> RevokedOut:
    """Take back the places of some joins, but of those who are checked in or not booked any more.

    None, where one of them is not there.
    """

    def work(session: Session) -> RevokedOut:
        for join_id in body.join_ids:
            scoped.join(session, staff, join_id)
        done = joins.revoke_some(session, join_ids=body.join_ids, reason=body.reason, now=now)
        for join in done.joins:
            scoped.record_revoked(session, staff, join, reason=body.reason)
        return _revoked(done)

    return runtime.db.run(work)


@router.post("/days/{date}/revoke")
def revoke_day(date: Date, body: RevokeDayIn, staff: HallStaff, runtime: RuntimeDep, now: Now) -> RevokedOut:
    """Take back every place of a day, of one item or a whole hall, but those of people who are checked in.

    Slots that are over stay as they are: who did not come has missed them. (Revoking a slot by itself takes them, too.)
    Nobody who waits gets a place: their waits end, for the same reason.
    Slot by slot: what fails in between may be asked for again.
    """
    with runtime.db.transaction() as session:
        slot_ids = _slots_of(session, staff, body, date, now=now)
    total = RevokedOut(revoked=0, kept_checked_in=0, not_booked=0)
    for slot_id in slot_ids:
        done = _revoke_slot(runtime, staff, slot_id, reason=body.reason, now=now)
        total.revoked += done.revoked
        total.kept_checked_in += done.kept_checked_in
    return total


@router.post("/joins/{join_id}/revoke")
def revoke(
    join_id: Id, body: RevokeIn, staff: HallStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now
) -> StaffJoinOut:
    """Take one place back, for a reason that the user is told."""

    def work(session: Session) -> StaffJoinOut:
        scoped.join(session, staff, join_id)
        _, join = joins.revoke(session, join_id=join_id, reason=body.reason, now=now)
        scoped.record_revoked(session, staff, join, reason=body.reason)
        return scoped.shown(session, staff, sealer, join_id, now=now)

    return runtime.db.run(work)


@router.post("/joins/{join_id}/restore")
def restore(join_id: Id, staff: HallStaff, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> StaffJoinOut:
    """Give a revoked join a place again, if there is one.

    Staff's word goes beyond the item's booking window, a slot, item or hall that is closed, and missed visits; never beyond the
    capacity or the item's limits for each user (`max_per_slot`, `max_per_day`, `max_ahead`), nor where one of its unique answers is booked
    meanwhile.
    """

    def work(session: Session) -> StaffJoinOut:
        scoped.join(session, staff, join_id)
        _, join = joins.restore(session, sealer, join_id=join_id, now=now)
        before, after = {"status": JoinStatus.REVOKED}, {"status": JoinStatus.BOOKED}
        scoped.record(session, staff, "join.restored", join, before=before, after=after)
        return scoped.shown(session, staff, sealer, join_id, now=now)

    return runtime.db.run(work)


@router.get("/slots/{slot_id}")
def get_slot(slot_id: Id, staff: AnyStaff, session: Tx) -> InventoryOut:
    """The inventory of a slot: what was asked, what is in force, what is taken."""
    return views.inventory(scoped.slot(session, staff, slot_id))


@router.post("/slots/{slot_id}/revoke")
def revoke_slot(slot_id: Id, body: RevokeIn, staff: HallStaff, runtime: RuntimeDep, now: Now) -> RevokedOut:
    """Take back every place of a slot, but those of people who are checked in.

    Nobody who waits gets one of them: their waits end, for the same reason.
    """
    return _revoke_slot(runtime, staff, slot_id, reason=body.reason, now=now)


def _revoke_slot(runtime: Runtime, staff: Staff, slot_id: str, *, reason: str, now: datetime) -> RevokedOut:
    """Revoke in pieces of a slot, each on record: where it is interrupted, whoever asks again goes on."""

    def some(session: Session) -> tuple[RevokedOut, int]:
        offered = scoped.slot(session, staff, slot_id)
        waits_ended = lines.end(session, slot_id, WaitOutcome.REMOVED, now=now, reason=reason)
        found = joins.revoke_slot(session, slot_id=slot_id, reason=reason, now=now)
        done = _revoked(found)
        numbers = {"revoked": done.revoked, "kept_checked_in": done.kept_checked_in, "waits_ended": waits_ended}
        scoped.record_slot(session, staff, "slot.revoked", offered, reason=reason, **numbers)
        return done, found.left

    done, left = runtime.db.run(some)
    while left:
        more, left = runtime.db.run(some)
        done = more.model_copy(update={"revoked": done.revoked + more.revoked})
    return done


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
    """Tell, before a hall, an item or a slot is stopped or closed, who is booked ahead or waits, and where they could go instead.

    Exactly one of the three is named. Alternatives are beyond what is chosen, can be booked now, and lie within a month:
    first the nearest of the same item, then those of items with its title in other halls of the staff's.
    """
    chosen = Chosen(slot_id=slot_id, item_id=item_id, hall_id=hall_id, first=first_day, last=last_day)
    return affected.by_slot(session, staff, chosen, now=now, limit=limit, cursor=cursor)


def _slots_of(session: Session, staff: Staff, body: RevokeDayIn, day: date, *, now: datetime) -> list[str]:
    """Return the slots of a day, not over yet, for which somebody is booked or waits.

    Raises NotFound where item or hall is not there.
    """
    if body.item_id is not None:
        known, chosen = exists().where(Item.id == body.item_id, staff.sees(Item.hall_id)), Slot.item_id == body.item_id
    else:
        known, chosen = exists().where(Hall.id == body.hall_id, staff.sees(Hall.id)), Slot.hall_id == body.hall_id
    if not session.scalar(select(known)):
        raise NotFound
    anybody = Slot.taken + Slot.held + Slot.waiting > 0
    query = select(Slot.id).where(chosen, Slot.date == day, Slot.ends_at > now, anybody).order_by(Slot.id)
    return list(session.scalars(query))


def _revoked(done: Revoked) -> RevokedOut:
    return RevokedOut(revoked=len(done.joins), kept_checked_in=done.kept_checked_in, not_booked=done.not_booked)
