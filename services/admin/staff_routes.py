"""What administrators do: staff accounts (who manages staff) and the audit trail (super admin, hall admin)."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session

from libs.common import etags, pages
from libs.common.errors import check_range
from libs.common.etags import IfMatch
from libs.common.inputs import Instant
from libs.common.pages import CursorText, Key, Limit, Page
from libs.common.web import Id, Now, Text, Tx
from libs.contracts.principals import HallStaff, Right, Role, StaffManager
from services.admin import accounts, lockouts, passwords, reach, second_factors, sessions, staff, trail
from services.admin.models import AuditRecord, StaffAccount
from services.admin.routes import NotStored, sessions_page
from services.admin.schemas import AuditOut, SessionOut, StaffChange, StaffCreate, StaffOut, StaffWithPassword

router = APIRouter()

_BY_NAME = (Key(StaffAccount.username, str),)
Words = Annotated[Text | None, Query(max_length=100)]


@router.get("/staff", tags=["staff"])
def list_staff(
    me: StaffManager,
    session: Tx,
    now: Now,
    q: Words = None,
    role: Role | None = None,
    hall_id: Id | None = None,
    disabled: bool | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[StaffOut]:
    """List accounts in the order of their names; `q` is a part of either name.

    Who is for some halls sees the accounts that are for no other ones.
    """
    query = staff.matching(me, q=q, role=role, hall_id=hall_id, disabled=disabled)
    found, next_cursor = pages.fetch(session, query, keys=_BY_NAME, limit=limit, cursor=cursor)
    return Page(items=_shown(session, found, now), next_cursor=next_cursor)


@router.post("/staff", status_code=201, tags=["staff"], dependencies=[NotStored])
def create_staff(
    body: StaffCreate, actor: StaffManager, session: Tx, now: Now, response: Response
) -> StaffWithPassword:
    """Make an account, with no higher role and no other halls and rights than one's own. It has to
    change the password, given or random, at its first sign-in.
    """
    password = body.password if body.password is not None else passwords.readable()
    account = staff.create(
        session,
        actor,
        username=body.username,
        name=body.name,
        role=body.role,
        halls=body.halls,
        rights=body.rights,
        password=password,
        now=now,
    )
    made = None if body.password is not None else password
    return _with_password(session, account, made, now, response)


@router.get("/staff/{staff_id}", tags=["staff"])
def get_staff(staff_id: Id, me: StaffManager, session: Tx, now: Now, response: Response) -> StaffOut:
    """Show one account."""
    account = reach.one(session, me, staff_id)
    response.headers["ETag"] = etags.of(account)
    return _shown(session, [account], now)[0]


@router.patch("/staff/{staff_id}", tags=["staff"], dependencies=[NotStored])
def change_staff(
    staff_id: Id,
    body: StaffChange,
    actor: StaffManager,
    session: Tx,
    now: Now,
    response: Response,
    if_match: IfMatch = None,
) -> StaffWithPassword:
    """Change name, role, halls, rights, whether it is disabled, or reset password or second factor.

    All but the name void the account's tokens; disabling and resetting end its sessions. The last enabled super
    admin stays one. Nobody changes what they may themselves, gives what they do not have, or changes an account that
    has more.
    """
    wish = staff.Wish(
        name=body.name,
        role=body.role,
        halls=body.halls,
        rights=body.rights,
        disabled=body.disabled,
        reset_password=body.reset_password,
        reset_second_factor=body.reset_second_factor,
    )
    account, password = staff.change(session, actor, staff_id, wish, if_match=if_match, now=now)
    return _with_password(session, account, password, now, response)


@router.get("/staff/{staff_id}/sessions", tags=["staff"])
def list_sessions_of(
    staff_id: Id, me: StaffManager, session: Tx, now: Now, limit: Limit = 20, cursor: CursorText = None
) -> Page[SessionOut]:
    """List the sessions of an account that go on, newest first."""
    reach.one(session, me, staff_id)
    return sessions_page(session, me, staff_id, now, limit, cursor)


@router.delete("/staff/{staff_id}/sessions/{session_id}", status_code=204, tags=["staff"])
def end_session_of(staff_id: Id, session_id: Id, actor: StaffManager, session: Tx, now: Now) -> None:
    """End a session of an account at once, in every service. Its others go on after their next refresh."""
    reach.locked(session, actor, staff_id)
    sessions.end_one(session, actor, staff_id, session_id, now=now)


@router.post("/staff/{staff_id}/sign-out", status_code=204, tags=["staff"])
def sign_somebody_out(staff_id: Id, actor: StaffManager, session: Tx, now: Now) -> None:
    """End all sessions of an account and void its tokens in every service."""
    reach.locked(session, actor, staff_id)
    sessions.end_all(session, actor, staff_id, now=now)


def _with_password(
    session: Session, account: StaffAccount, password: str | None, now: datetime, response: Response
) -> StaffWithPassword:
    response.headers["ETag"] = etags.of(account)
    shown = _shown(session, [account], now)[0]
    return StaffWithPassword(**shown.model_dump(), password=password)


def _shown(session: Session, found: list[StaffAccount], now: datetime) -> list[StaffOut]:
    halls = accounts.halls_of(session, [account.id for account in found])
    factors = second_factors.having(session, [account.id for account in found])
    locks = lockouts.locks(session, [account.username for account in found], now=now)
    return [
        StaffOut(
            id=account.id,
            username=account.username,
            name=account.name,
            role=Role(account.role),
            halls=None if account.role == Role.SUPER_ADMIN else halls[account.id],
            rights=[Right(right) for right in account.rights],
            disabled=account.disabled_at is not None,
            disabled_at=account.disabled_at,
            locked_until=locks.get(account.username),
            second_factor=account.id in factors,
            must_change_password=account.must_change_password,
            version=account.version,
            created_at=account.created_at,
        )
        for account in found
    ]


class AuditFilter:
    """The query of the audit trail, gathered once."""

    def __init__(
        self,
        actor: Annotated[Text | None, Query(max_length=100, description="id, or part of the name")] = None,
        action: Annotated[
            Text | None, Query(max_length=100, description="an action or how it begins, like `slot.`")
        ] = None,
        object_type: Words = None,
        object_id: Words = None,
        hall_id: Id | None = None,
        since: Annotated[Instant | None, Query(alias="from", description="included")] = None,
        until: Annotated[Instant | None, Query(alias="to", description="not included")] = None,
    ) -> None:
        check_range(since, until)
        self.wanted = trail.Filter(
            actor=actor,
            action=action,
            object_type=object_type,
            object_id=object_id,
            hall_id=hall_id,
            since=since,
            until=until,
        )


@router.get("/audit", tags=["audit"])
def list_audit(
    me: HallStaff,
    session: Tx,
    asked: Annotated[AuditFilter, Depends()],
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[AuditOut]:
    """List what staff did, newest first. A hall admin sees what was done in their own halls."""
    query = trail.matching(me, asked.wanted)
    found, next_cursor = pages.fetch(session, query, keys=trail.NEWEST_FIRST, limit=limit, cursor=cursor)
    return Page(items=[_record(row) for row in found], next_cursor=next_cursor)


def _record(row: AuditRecord) -> AuditOut:
    return AuditOut.model_validate(row, from_attributes=True)
