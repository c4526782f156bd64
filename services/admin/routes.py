"""What staff do about themselves: sign in, stay signed in, sign out, look where they are, change their password."""

from dataclasses import replace
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.orm import Session

from libs.common import pages
from libs.common.errors import HallpassError
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, RuntimeDep, Tx, client_address
from libs.contracts.principals import (
    STAFF_TOKEN_LIFETIME,
    AnyStaff,
    Right,
    Role,
    SignedInStaff,
    Staff,
    issue_staff_token,
)
from services.admin import accounts, lockouts, passwords, second_factors, sessions, staff
from services.admin.models import StaffAccount
from services.admin.resources import Resources
from services.admin.schemas import Me, PasswordChange, Refresh, SessionOut, SignedIn, SignIn, TokenOut
from services.admin.sessions import Caller

T = TypeVar("T")

router = APIRouter(tags=["sessions"])


def _caller(request: Request) -> Caller:
    agent = "".join(filter(str.isprintable, request.headers.get("user-agent", "")))
    return Caller(address=client_address(request), user_agent=agent[:120])


def _not_stored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


CallerDep = Annotated[Caller, Depends(_caller)]
NotStored = Depends(_not_stored)


@router.post("/sessions", status_code=201, dependencies=[NotStored])
def sign_in(body: SignIn, caller: CallerDep, session: Tx, now: Now, runtime: RuntimeDep) -> SignedIn:
    """Sign in with name and password, and with a code where the account has a second factor (else `code_needed`).

    Five failures from an address lock the name for it for a while, a hundred an hour for everybody, whether or not there
    is an account of that name.
    """
    runtime.limiter.hit(runtime.settings.sign_in_rate, "staff-sign-in", caller.address)
    lockouts.check(session, body.username, caller.address, now=now)
    stored = accounts.password_hash_of(session, body.username)
    session.rollback()  # gives the connection back: hashing takes its time and needs none
    proven = stored if passwords.matches(stored, body.password) else None
    resources: Resources = runtime.resources
    outcome = sessions.sign_in(
        session, resources.sealer, body.username, proven=proven, code=body.code, caller=caller, now=now
    )
    return _signed_in(runtime, session, settled(session, outcome), now)


@router.post("/sessions/refresh", dependencies=[NotStored])
def refresh(body: Refresh, caller: CallerDep, session: Tx, now: Now, runtime: RuntimeDep) -> SignedIn:
    """Exchange a refresh token for a new token, with the present role, halls and rights, and the next refresh token.

    Each refresh token works once. When an earlier one comes again the session ends; only a repetition within
    10 seconds is answered as the first time.
    """
    outcome = sessions.refresh(session, body.refresh_token, caller=caller, now=now)
    return _signed_in(runtime, session, settled(session, outcome), now)


@router.delete("/sessions/current", status_code=204)
def sign_out(me: SignedInStaff, session: Tx, now: Now) -> None:
    """Sign out on this device. The token itself runs out within 15 minutes; to void it at once, sign out everywhere."""
    sessions.sign_out(session, me, now=now)


@router.post("/sessions/sign-out-everywhere", status_code=204)
def sign_out_everywhere(me: SignedInStaff, session: Tx, now: Now) -> None:
    """End all sessions of this account and void its tokens in every service."""
    sessions.sign_out_everywhere(session, me, now=now)


@router.get("/sessions")
def list_sessions(
    me: AnyStaff, session: Tx, now: Now, limit: Limit = 20, cursor: CursorText = None
) -> Page[SessionOut]:
    """List one's own sessions that go on, newest first."""
    return sessions_page(session, me, me.id, now, limit, cursor)


@router.delete("/sessions/{session_id}", status_code=204)
def end_session(session_id: Id, me: AnyStaff, session: Tx, now: Now) -> None:
    """End a session of one's own at once, in every service. The others go on after their next refresh."""
    sessions.end_one(session, me, me.id, session_id, now=now)


def sessions_page(
    session: Session, me: Staff, staff_id: str, now: Now, limit: int, cursor: str | None
) -> Page[SessionOut]:
    """Return a page of an account's sessions, as the caller sees them."""
    query = sessions.live(staff_id, now=now)
    found, next_cursor = pages.fetch(session, query, keys=sessions.NEWEST_FIRST, limit=limit, cursor=cursor)
    items = [
        SessionOut(
            id=row.id,
            created_at=row.created_at,
            used_at=row.used_at,
            expires_at=row.expires_at,
            address=row.address,
            user_agent=row.user_agent,
            current=row.id == me.session_id,
        )
        for row in found
    ]
    return Page(items=items, next_cursor=next_cursor)


@router.get("/me")
def get_me(me: AnyStaff, session: Tx, runtime: RuntimeDep) -> Me:
    """Show the signed-in account as it is now."""
    account = staff.own(session, me)
    return _me(session, account, _as_known(runtime, session, account, session_id=me.session_id))


@router.post("/me/password", dependencies=[NotStored])
def change_password(
    body: PasswordChange, me: SignedInStaff, caller: CallerDep, session: Tx, now: Now, runtime: RuntimeDep
) -> TokenOut:
    """Change one's own password. Ends the other sessions; this one goes on with the token in the answer.

    Who got their password from somebody else (`must_change_password`) can do nothing but this and sign out.
    """
    outcome = staff.change_password(session, me, current=body.current, new=body.new, address=caller.address, now=now)
    return token_out(runtime, session, settled(session, outcome), session_id=me.session_id, now=now)


_LIFETIME_S = int(STAFF_TOKEN_LIFETIME.total_seconds())


def settled(session: Session, outcome: T | HallpassError) -> T:
    """Return the outcome. A refusal is raised after what was noted about it is committed: an error undoes the rest."""
    if isinstance(outcome, HallpassError):
        session.commit()
        raise outcome
    return outcome


def _signed_in(runtime: RuntimeDep, session: Session, opened: sessions.Opened, now: Now) -> SignedIn:
    out = token_out(runtime, session, opened.account, session_id=opened.session_id, now=now)
    return SignedIn(**out.model_dump(), refresh_token=opened.refresh_token)


def token_out(runtime: RuntimeDep, session: Session, account: StaffAccount, *, session_id: str, now: Now) -> TokenOut:
    """Make a token of the account as it is now."""
    known = _as_known(runtime, session, account, session_id=session_id)
    token = issue_staff_token(runtime.staff_keys, known, now=now)
    return TokenOut(token=token, expires_in=_LIFETIME_S, staff=_me(session, account, known))


def _as_known(runtime: RuntimeDep, session: Session, account: StaffAccount, *, session_id: str) -> Staff:
    """Return the account as its tokens name it, with what it has to do first."""
    resources: Resources = runtime.resources
    owes = accounts.duty(session, account, second_factor_for=resources.second_factor_for)
    return replace(accounts.principal(session, account, session_id=session_id), owes=owes)


def _me(session: Session, account: StaffAccount, principal: Staff) -> Me:
    return Me(
        id=account.id,
        username=account.username,
        name=account.name,
        role=Role(account.role),
        halls=None if principal.halls is None else sorted(principal.halls),
        rights=[right for right in Right if principal.may(right)],
        second_factor=second_factors.is_set(session, account.id),
        must_change_password=account.must_change_password,
        owes=principal.owes,
    )
