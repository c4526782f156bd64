"""Lock-out: how many sign-ins under one name may fail before it is locked for a while."""

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.admin import policy
from services.admin.errors import AccountLocked
from services.admin.models import FailedSignIn


@dataclass(frozen=True)
class Guess:
    """What became of one guess. A refused one came while the name was locked, and says nothing about the password."""

    refusal: AccountLocked | None = None
    failures: int = 0
    locked_until: datetime | None = None


def key_of(username: str) -> bytes:
    return hashlib.sha256(username.lower().encode()).digest()


def check(session: Session, username: str, *, now: datetime) -> None:
    """Raise AccountLocked where the name is locked, before anything is computed for it."""
    until = session.scalar(select(FailedSignIn.locked_until).where(FailedSignIn.name_hash == key_of(username)))
    if until is not None and until > now:
        raise _locked(until, now)


def settle(session: Session, username: str, *, right: bool, now: datetime) -> Guess:
    """Take one guess into account; a right one clears the name.

    Guesses made at once are settled one after the other under the row's lock, so that however many come together,
    only five wrong ones get a verdict.
    """
    key = key_of(username)
    statement = insert(FailedSignIn).values(name_hash=key, failures=0, last_at=now)
    # An update that changes nothing: it takes the lock on the row, or on the one that is just being inserted.
    found = session.execute(
        statement.on_conflict_do_update(
            index_elements=["name_hash"], set_={"failures": FailedSignIn.failures}
        ).returning(FailedSignIn.failures, FailedSignIn.last_at, FailedSignIn.locked_until)
    ).one()
    if found.locked_until is not None and found.locked_until > now:
        return Guess(refusal=_locked(found.locked_until, now))
    if right:
        clear(session, username)
        return Guess()
    known = found.failures if found.last_at > now - policy.FAILURES_FORGOTTEN_AFTER else 0
    until = policy.locked_until(known + 1, now=now)
    session.execute(
        update(FailedSignIn)
        .where(FailedSignIn.name_hash == key)
        .values(failures=known + 1, last_at=now, locked_until=until)
    )
    return Guess(failures=known + 1, locked_until=until)


def clear(session: Session, username: str) -> None:
    """Forget the failures under a name, and with them its lock."""
    session.execute(
        update(FailedSignIn).where(FailedSignIn.name_hash == key_of(username)).values(failures=0, locked_until=None)
    )


def locks(session: Session, usernames: list[str], *, now: datetime) -> dict[str, datetime]:
    """Return until when each of these names is locked; those that are not are left out."""
    names = {key_of(username): username for username in usernames}
    rows = session.execute(
        select(FailedSignIn.name_hash, FailedSignIn.locked_until)
        .where(FailedSignIn.name_hash.in_(names))
        .where(FailedSignIn.locked_until > now)
    )
    return {names[bytes(row.name_hash)]: row.locked_until for row in rows}


def sweep(session: Session, *, now: datetime) -> int:
    """Delete what no longer counts; return how many rows went."""
    gone = session.execute(
        delete(FailedSignIn)
        .where(FailedSignIn.last_at <= now - policy.FAILURES_FORGOTTEN_AFTER)
        .where(or_(FailedSignIn.locked_until.is_(None), FailedSignIn.locked_until <= now))
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def _locked(until: datetime, now: datetime) -> AccountLocked:
    seconds = max(1, math.ceil((until - now).total_seconds()))
    return AccountLocked(retry_after_s=seconds, minutes=math.ceil(seconds / 60))
