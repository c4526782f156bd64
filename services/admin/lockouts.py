"""Lock-out: how many guesses at a password may fail, from one address and from all, before the name is locked there.

By address, or anybody could keep everybody else out; from all of them together, or many addresses could guess for ever.
"""

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.admin import policy
from services.admin.errors import AccountLocked
from services.admin.models import FailedGuesses

EVERYWHERE = ""
_SITE_BITS = 64  # what one household or server gets of IPv6: whoever has one of its addresses has them all


@dataclass(frozen=True)
class Guess:
    """What became of one guess. A refused one came while the name was locked, and says nothing about the password."""

    refusal: AccountLocked | None = None
    failures: int = 0
    locked_until: datetime | None = None


def key_of(username: str) -> bytes:
    return hashlib.sha256(username.lower().encode()).digest()


def site_of(address: str) -> str:
    """Return that by which an address counts: itself, or its network where it is one of IPv6."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, _SITE_BITS), strict=False))
    return str(known)


def check(session: Session, username: str, address: str, *, now: datetime) -> None:
    """Raise AccountLocked where the name is locked for this address, before anything is computed for it."""
    until = session.scalar(
        select(func.max(FailedGuesses.locked_until))
        .where(FailedGuesses.name_hash == key_of(username))
        .where(FailedGuesses.address.in_([site_of(address), EVERYWHERE]))
    )
    if until is not None and until > now:
        raise _locked(until, now)


def settle(session: Session, username: str, address: str, *, right: bool, now: datetime) -> Guess:
    """Take one guess into account; a right one forgets what failed from its address.

    Guesses made at once are settled one after the other under the rows' locks, so that however many come together,
    only five wrong ones from an address get a verdict.
    """
    key = key_of(username)
    here = _locked_row(session, key, site_of(address), now=now)
    everywhere = _locked_row(session, key, EVERYWHERE, now=now)
    locks = [row.locked_until for row in (here, everywhere) if row.locked_until is not None and row.locked_until > now]
    if locks:
        return Guess(refusal=_locked(max(locks), now))
    if right:
        here.failures, here.locked_until = 0, None
        return Guess()
    _count(here, policy.FROM_ADDRESS, now=now)
    _count(everywhere, policy.FROM_EVERYWHERE, now=now)
    new_locks = [row.locked_until for row in (here, everywhere) if row.locked_until is not None]
    return Guess(failures=here.failures, locked_until=max(new_locks, default=None))


def _locked_row(session: Session, key: bytes, site: str, *, now: datetime) -> FailedGuesses:
    statement = insert(FailedGuesses).values(name_hash=key, address=site, failures=0, since=now)
    # An update that changes nothing: it takes the lock on the row, or on the one that is just being inserted.
    return session.scalars(
        statement.on_conflict_do_update(
            index_elements=["name_hash", "address"], set_={"failures": FailedGuesses.failures}
        ).returning(FailedGuesses),
        execution_options={"populate_existing": True},
    ).one()


def _count(row: FailedGuesses, limit: policy.Limit, *, now: datetime) -> None:
    if row.failures == 0 or row.since <= now - limit.within:
        row.failures, row.since = 0, now
    row.failures += 1
    row.locked_until = policy.locked_until(row.failures, limit, now=now)


def clear(session: Session, username: str) -> None:
    """Forget the failures under a name, and with them all its locks."""
    # In the order in which guesses lock the rows: first those of addresses, then that of all.
    rows = session.scalars(
        select(FailedGuesses)
        .where(FailedGuesses.name_hash == key_of(username))
        .order_by(FailedGuesses.address.desc())
        .with_for_update()
    ).all()
    if rows:
        session.execute(
            update(FailedGuesses)
            .where(FailedGuesses.name_hash == key_of(username))
            .values(failures=0, locked_until=None)
        )


def locks(session: Session, usernames: list[str], *, now: datetime) -> dict[str, datetime]:
    """Return until when each of these names is locked, for some address or all; those that are not are left out."""
    names = {key_of(username): username for username in usernames}
    rows = session.execute(
        select(FailedGuesses.name_hash, func.max(FailedGuesses.locked_until).label("until"))
        .where(FailedGuesses.name_hash.in_(names))
        .where(FailedGuesses.locked_until > now)
        .group_by(FailedGuesses.name_hash)
    )
    return {names[bytes(row.name_hash)]: row.until for row in rows}


def sweep(session: Session, *, now: datetime) -> int:
    """Delete what no longer counts; return how many rows went."""
    gone = session.execute(
        delete(FailedGuesses)
        .where(FailedGuesses.since <= now - max(policy.FROM_ADDRESS.within, policy.FROM_EVERYWHERE.within))
        .where(or_(FailedGuesses.locked_until.is_(None), FailedGuesses.locked_until <= now))
    )
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def _locked(until: datetime, now: datetime) -> AccountLocked:
    seconds = max(1, math.ceil((until - now).total_seconds()))
    return AccountLocked(retry_after_s=seconds, minutes=math.ceil(seconds / 60))
