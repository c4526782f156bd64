"""Sessions of staff: signed in, refreshed, ended."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, or_, select, update
from sqlalchemy.orm import Session

from libs.common import outbox, sign_ins
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, NotFound
from libs.common.ids import new_id, parse_id
from libs.common.pages import Key
from libs.common.tokens import TokenInvalid
from libs.contracts import audit
from libs.contracts.admin import StaffSignedOut
from libs.contracts.principals import Staff
from services.admin import accounts, lockouts, policy, second_factors
from services.admin.errors import AccountDisabled, CodeNeeded, CodeRefused, SessionEnded, SignInFailed
from services.admin.models import StaffAccount, StaffSession

NEWEST_FIRST = (Key(StaffSession.id, "id", descending=True),)


@dataclass(frozen=True)
class Caller:
    """Where a request came from, as far as we are told."""

    address: str
    user_agent: str


@dataclass(frozen=True)
class Opened:
    """A live session: whose it is, and the only sight of its refresh token."""

    account: StaffAccount
    session_id: str
    refresh_token: str


def sign_in(
    session: Session,
    sealer: Sealer,
    username: str,
    *,
    proven: str | None,
    code: str | None,
    caller: Caller,
    now: datetime,
) -> Opened | HallpassError:
    """Open a session for the account, or return the refusal: what is noted about it is to be committed all the same.

    `proven` is the stored hash that the given password matched, None where it matched none. A password without the
    code that the account takes beside it counts neither as a failure nor as a success.
    """
    account = accounts.locked_by_username(session, username)
    if account is None or account.password_hash != proven:
        return _failed(session, username, account, SignInFailed(), caller=caller, now=now)
    used = None
    if second_factors.is_set(session, account.id):
        lockouts.check(session, username, caller.address, now=now)
        if code is None:
            return CodeNeeded()
        used = second_factors.spend(session, sealer, account.id, code, now=now)
        if used is None:
            return _failed(session, username, account, CodeRefused(), caller=caller, now=now)
    guess = lockouts.settle(session, username, caller.address, right=True, now=now)
    if guess.refusal is not None:
        return guess.refusal
    if account.disabled_at is not None:
        return AccountDisabled()
    opened = _open(session, account, caller=caller, now=now)
    staff = accounts.principal(session, account, session_id=opened.session_id)
    _note(session, staff, "staff.signed_in", after={"address": caller.address, "code": used})
    return opened


def _failed(
    session: Session,
    username: str,
    account: StaffAccount | None,
    refusal: HallpassError,
    *,
    caller: Caller,
    now: datetime,
) -> HallpassError:
    """Count a wrong guess and return its refusal, or that of a name that is locked."""
    guess = lockouts.settle(session, username, caller.address, right=False, now=now)
    if guess.refusal is not None:
        return guess.refusal
    if account is not None:
        _note_failure(session, account, guess, caller)
    return refusal


def _note_failure(session: Session, account: StaffAccount, guess: lockouts.Guess, caller: Caller) -> None:
    staff = accounts.principal(session, account, session_id="")
    _note(session, staff, "staff.sign_in_failed", after={"address": caller.address, "failures": guess.failures})
    if guess.locked_until is not None:
        until = guess.locked_until.isoformat()
        _note(session, staff, "staff.locked_out", after={"address": caller.address, "locked_until": until})


def _note(
    session: Session, staff: Staff, action: str, *, about: str | None = None, after: dict[str, object] | None = None
) -> None:
    """Record what somebody did to their own account, or to the one that it is `about`."""
    hall_id = accounts.only_hall_of(session, about) if about else None
    audit.record(session, staff, action, object_type="staff", object_id=about or staff.id, hall_id=hall_id, after=after)


def _open(session: Session, account: StaffAccount, *, caller: Caller, now: datetime) -> Opened:
    session_id = new_id()
    token = f"{session_id}.{secrets.token_urlsafe(32)}"
    session.execute(
        insert(StaffSession).values(
            id=session_id,
            staff_id=account.id,
            seed=secrets.token_bytes(32),
            token_hash=_hash(token),
            created_at=now,
            used_at=now,
            expires_at=policy.session_ends(now, now=now),
            address=caller.address,
            user_agent=caller.user_agent,
        )
    )
    return Opened(account, session_id, token)


def refresh(session: Session, token: str, *, caller: Caller, now: datetime) -> Opened | HallpassError:
    """Exchange a refresh token for its successor, or return the refusal, to be committed all the same.

    A token that was exchanged before ends the session, and voids the account's tokens: two hold the same secret and
    one of them is a thief. Only right after the exchange it gets the same successor again.
    """
    session_id = parse_id(token.partition(".")[0])
    account = accounts.locked_by_session(session, session_id) if session_id else None
    if session_id is None or account is None:
        return SessionEnded()
    row = session.scalars(select(StaffSession).where(StaffSession.id == session_id).with_for_update()).one_or_none()
    if row is None or row.ended_at is not None or row.expires_at <= now or account.disabled_at is not None:
        return SessionEnded()
    staff = accounts.principal(session, account, session_id=session_id)
    verdict = policy.judge_refresh(
        _hash(token), current=row.token_hash, previous=row.previous_hash, rotated_at=row.used_at, now=now
    )
    if verdict == "stolen":
        end(session, account.id, only=session_id, now=now)
        void_tokens(session, account.id)
        _note(session, staff, "staff.token_reused", after={"address": caller.address})
        return SessionEnded()
    successor = _successor(row.seed, token, session_id)
    if verdict == "rotate":
        session.execute(
            update(StaffSession)
            .where(StaffSession.id == session_id)
            .values(
                token_hash=_hash(successor),
                previous_hash=row.token_hash,
                used_at=now,
                expires_at=policy.session_ends(row.created_at, now=now),
                address=caller.address,
                user_agent=caller.user_agent,
            )
        )
    return Opened(account, session_id, successor)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _successor(seed: bytes, token: str, session_id: str) -> str:
    secret = base64.urlsafe_b64encode(hmac.digest(seed, token.encode(), "sha256"))
    return f"{session_id}.{secret.decode().rstrip('=')}"


def sign_out(session: Session, staff: Staff, *, now: datetime) -> None:
    """End the session of this token; ending it twice changes nothing."""
    if end(session, staff.id, only=staff.session_id, now=now):
        _note(session, staff, "staff.signed_out")


def sign_out_everywhere(session: Session, staff: Staff, *, now: datetime) -> None:
    """End every session of the account and void all its tokens, in every service."""
    if accounts.locked_by_id(session, staff.id) is None:
        raise SessionEnded
    end_all(session, staff, staff.id, now=now)


def live(staff_id: str, *, now: datetime) -> Select[Any]:
    """Return the query for the account's sessions that go on."""
    return (
        select(StaffSession)
        .where(StaffSession.staff_id == staff_id)
        .where(StaffSession.ended_at.is_(None))
        .where(StaffSession.expires_at > now)
    )


def end_one(session: Session, actor: Staff, staff_id: str, session_id: str, *, now: datetime) -> None:
    """End a session of the account at once, or raise NotFound where no such session goes on.

    All tokens of the account are void: its other sessions get new ones with their refresh tokens.
    """
    accounts.locked_by_id(session, staff_id)
    if not end(session, staff_id, only=session_id, now=now):
        raise NotFound
    void_tokens(session, staff_id)
    _note(session, actor, "staff.session_ended", about=staff_id, after={"session_id": session_id})


def end_all(session: Session, actor: Staff, staff_id: str, *, now: datetime) -> None:
    """End every session of the account and void all its tokens, in every service. The caller holds its lock."""
    end(session, staff_id, now=now)
    void_tokens(session, staff_id)
    _note(session, actor, "staff.signed_out_everywhere", about=staff_id)


def owner(session: Session, staff: Staff, *, now: datetime) -> StaffAccount:
    """Return the account behind a token, locked; or raise TokenInvalid where the session that it is of is over."""
    account = accounts.locked_by_id(session, staff.id)
    mine = live(staff.id, now=now).where(StaffSession.id == staff.session_id)
    if account is None or session.scalar(mine) is None:
        raise TokenInvalid
    return account


def end(session: Session, staff_id: str, *, now: datetime, only: str | None = None, but: str | None = None) -> int:
    """End the account's sessions (`only` one of them, or all `but` one); return how many that were."""
    statement = (
        update(StaffSession)
        .where(StaffSession.staff_id == staff_id)
        .where(StaffSession.ended_at.is_(None))
        .values(ended_at=now)
    )
    if only is not None:
        statement = statement.where(StaffSession.id == only)
    if but is not None:
        statement = statement.where(StaffSession.id != but)
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def check_valid(session: Session, staff: Staff) -> None:
    """Raise TokenInvalid where the token of this request was voided meanwhile.

    The caller holds the account's lock: from here to the end of the transaction it may what the token says.
    """
    if staff.version < sign_ins.ended_below(session, staff.id):
        raise TokenInvalid


def void_tokens(session: Session, staff_id: str) -> None:
    """Void the account's tokens: here in this transaction, in the other services as soon as they hear of it.

    The caller holds the account's lock.
    """
    version = session.execute(
        update(StaffAccount)
        .where(StaffAccount.id == staff_id)
        .values(token_version=StaffAccount.token_version + 1)
        .returning(StaffAccount.token_version)
    ).scalar_one()
    sign_ins.end(session, staff_id, below=version)
    outbox.record(session, StaffSignedOut(version=version, staff_id=staff_id))


def sweep(session: Session, *, now: datetime) -> int:
    """Delete sessions that have ended or expired; return how many."""
    over = or_(StaffSession.ended_at <= now, StaffSession.expires_at <= now)
    gone = session.execute(delete(StaffSession).where(over))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount
