"""What users ask of booking."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import true
from sqlalchemy.orm import Session

from libs.common import qr
from libs.common.inputs import Date
from libs.common.lean import answered_first_by
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Tx, client_address
from libs.contracts.principals import USER_TOKEN_LIFETIME, CurrentUser, issue_user_token
from services.booking import (
    answers,
    check_ins,
    erasure,
    hot_routes,
    joins,
    lists,
    offers,
    own_data,
    policy,
    sign_in,
    standings,
    users,
    views,
)
from services.booking.asks import Booking, Cancelling, Moving
from services.booking.errors import JoinNotFound
from services.booking.lists import MyFilter
from services.booking.offers import Offered
from services.booking.resources import DeskDep, IdempotencyKey, Limited, ProvidersDep, SealerDep
from services.booking.schemas import (
    BookIn,
    CheckIn,
    CheckOut,
    DoorCheckIn,
    FormOut,
    JoinOut,
    JoinsOut,
    JoinWithFormOut,
    MeIn,
    MoveIn,
    PartyOut,
    SessionIn,
    SessionOut,
    StandingsOut,
    UserOut,
)
from services.booking.wait_schemas import DataOut

router = APIRouter(tags=["users"])


@router.post("/sessions", status_code=201)
def sign_in_user(
    body: SessionIn, request: Request, runtime: RuntimeDep, providers: ProvidersDep, sealer: SealerDep, now: Now
) -> SessionOut:
    """Sign a user in by a provider's code; who is new is registered."""
    runtime.limiter.hit(runtime.settings.user_sign_in_rate, "address", client_address(request))
    # The provider is asked before the transaction begins: no connection is held while a stranger answers.
    openid = sign_in.provider(providers, body.provider).openid_of(body.code)
    with runtime.db.transaction() as session:
        user = users.sign_in(session, body.provider, openid, now=now)
        shown = views.user(sealer, user)
    token = issue_user_token(runtime.user_keys, user.id, now=now)
    return SessionOut(token=token, expires_in=int(USER_TOKEN_LIFETIME.total_seconds()), user=shown)


@router.get("/me")
def me(user: CurrentUser, session: Tx, sealer: SealerDep) -> UserOut:
    return views.user(sealer, users.get(session, user.id))


@router.get("/me/standing")
def my_standing(user: CurrentUser, session: Tx, now: Now, hall_id: Id | None = None) -> StandingsOut:
    """What visits that the user missed come to: at each hall that minds it and where they have booked, or at the one named.

    Nothing, where the hall that is named does not mind what is missed.
    """
    found = standings.of_user(session, users.get(session, user.id).id, true(), hall_id=hall_id, now=now)
    return StandingsOut(items=[shown for hall, one in found if (shown := views.standing(hall, one))])


@router.patch("/me")
def edit_me(body: MeIn, user: CurrentUser, session: Tx, sealer: SealerDep) -> UserOut:
    return views.user(sealer, users.edit(session, sealer, user.id, name=body.name, phone=body.phone))


@router.get("/me/data")
def my_data(user: CurrentUser, session: Tx, sealer: SealerDep, now: Now, response: Response) -> DataOut:
    """All that booking keeps of the user, to take along. What they were told is in `notify/notices`."""
    response.headers.update(own_data.HEADERS)
    return own_data.of(session, sealer, users.get(session, user.id), now=now)


@router.delete("/me", status_code=204, dependencies=[Limited])
def erase_me(user: CurrentUser, runtime: RuntimeDep, now: Now) -> None:
    """Erase the user: places ahead are given back, and what tells who they were is gone for good, everywhere."""
    runtime.db.run(lambda session: erasure.erase(session, user.id, now=now))


@router.get("/slots/{slot_id}/form")
def form(slot_id: Id, user: CurrentUser, session: Tx, sealer: SealerDep, now: Now) -> FormOut:
    """The form of a slot's item, with the user's own last answers for the same item."""
    offered = offers.find(session, slot_id)
    policy.may_see(offered.offer)
    last = lists.last_of_item(session, user.id, offered.item.id)
    return FormOut(
        slot=views.slot(offered),
        item=views.item(offered),
        hall=views.hall(offered),
        form=offered.form,
        prefill=answers.prefill(offered.form, sealer, last),
        party_max=offered.rules.party_max,
        remaining=offered.left,
        standing=views.standing(offered.hall, standings.at(session, user.id, offered.hall, now=now)),
    )


@router.post("/slots/{slot_id}/check", dependencies=[Limited])
def check(slot_id: Id, body: CheckIn, user: CurrentUser, session: Tx, now: Now) -> CheckOut:
    """Ask the rules before the form is filled in. It promises nothing."""
    offered, standing = joins.may_book(session, users.get(session, user.id), slot_id, people=body.people, now=now)
    return CheckOut(remaining=offered.left, standing=views.standing(offered.hall, standing))


@router.post("/joins", status_code=201, response_model=PartyOut, dependencies=[Limited])
@answered_first_by(hot_routes.book)
async def book(body: BookIn, key: IdempotencyKey, user: CurrentUser, desk: DeskDep, now: Now) -> Response:
    """Take places in a slot for everybody named, or for nobody. The same key and body give the first success again.

    Who finds it full and has places in it offered is told so (`offered_already`): they are had by accepting that wait.
    """
    attendees = [attendee.answers for attendee in body.attendees]
    asked = Booking(user_id=user.id, key=key, slot_id=body.slot_id, attendees=attendees, now=now)
    return Response(await desk.book(asked), 201, media_type="application/json")


@router.get("/joins")
def my_joins(
    user: CurrentUser,
    session: Tx,
    sealer: SealerDep,
    now: Now,
    filter: MyFilter = MyFilter.ALL,
    q: Annotated[str | None, Query(max_length=50, pattern=r"^[^\x00]*$", description="part of the title")] = None,
    day: Date | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[JoinOut]:
    """The user's own joins, newest first; those of one day by their start."""
    found, next_cursor = lists.mine(session, user.id, chosen=filter, q=q, day=day, now=now, limit=limit, cursor=cursor)
    shown = [views.join(sealer, join, Offered(*place), now=now) for join, *place in found]
    return Page(items=shown, next_cursor=next_cursor)


@router.get("/joins/{join_id}.ics", response_class=Response, responses={200: {"content": {"text/calendar": {}}}})
def my_calendar(join_id: Id, user: CurrentUser, session: Tx, now: Now) -> Response:
    """The join as an entry for the user's calendar."""
    join, offered = _mine(session, user, join_id)
    return Response(views.calendar(join, offered, now=now), media_type="text/calendar; charset=utf-8")


@router.get("/joins/{join_id}")
def my_join(join_id: Id, user: CurrentUser, session: Tx, sealer: SealerDep, now: Now) -> JoinWithFormOut:
    """One of the user's own joins, with the form that it was made with."""
    join, offered = _mine(session, user, join_id)
    shown = views.join(sealer, join, offered, now=now)
    return JoinWithFormOut(**dict(shown), form=views.form_of(join, offered))


@router.get("/joins/{join_id}/qr.svg", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}})
def my_qr(join_id: Id, user: CurrentUser, session: Tx) -> Response:
    """The code for the door, as a QR code."""
    join, _ = _mine(session, user, join_id)
    return Response(qr.svg(join.code), media_type="image/svg+xml", headers={"Cache-Control": "private, no-store"})


@router.post("/joins/{join_id}/cancel", dependencies=[Limited])
async def cancel(join_id: Id, user: CurrentUser, desk: DeskDep, now: Now) -> JoinOut:
    """Give the place back."""
    return await desk.cancel(Cancelling(user_id=user.id, join_id=join_id, now=now))


@router.post("/joins/{join_id}/move", dependencies=[Limited])
async def move(join_id: Id, body: MoveIn, user: CurrentUser, desk: DeskDep, now: Now) -> JoinOut:
    """Exchange the place for one in another slot of the same item: both happen, or neither."""
    return await desk.move(Moving(user_id=user.id, join_id=join_id, slot_id=body.slot_id, now=now))


@router.post("/check-ins", dependencies=[Limited])
def check_in(body: DoorCheckIn, user: CurrentUser, runtime: RuntimeDep, sealer: SealerDep, now: Now) -> JoinsOut:
    """Check in by the code that the hall's screen shows: everybody whom the user booked for now and here."""

    def work(session: Session) -> JoinsOut:
        done = check_ins.at_the_door(session, sealer, user_id=user.id, code=body.code, now=now)
        return JoinsOut(joins=[views.join(sealer, join, offered, now=now) for offered, join in done])

    return runtime.db.run(work)


def _mine(session: Session, user: CurrentUser, join_id: str) -> tuple[Any, Offered]:
    row = lists.one_of_mine(session, user.id, join_id)
    if row is None:
        raise JoinNotFound
    join, *place = row
    return join, Offered(*place)
