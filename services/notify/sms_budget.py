"""What may be spent on text messages within 24 hours: by one user, to one number, and in all."""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from services.notify.models import SmsUse

WINDOW = timedelta(hours=24)
BETWEEN_CODES = timedelta(minutes=1)


@dataclass(frozen=True)
class Budget:
    """How many messages may go out; `per_number` of codes, and as many notices. `key` keeps numbers from being told by what is
    kept of them.
    """

    per_user: int
    per_number: int
    per_day: int
    key: bytes


@dataclass(frozen=True)
class Spent:
    """Which limit stands in the way, and when it is worth trying again."""

    limit: str
    retry_at: datetime


def spend(
    session: Session, budget: Budget, message_id: str, user_id: str, number: str, *, is_code: bool, now: datetime
) -> Spent | None:
    """Note one message more and return None, or say which limit that would pass. A message is noted once, however often it goes out.

    Codes to a number, which anybody may ask for, use up nothing of the notices to whom it belongs.
    Exact: everybody who spends waits for everybody else, for as long as their transactions take.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("sms", 0))))
    if session.get(SmsUse, message_id) is not None:
        return None
    digest = hmac.digest(budget.key, number.encode(), "sha256")
    if (spent := _spent(session, budget, user_id, digest, is_code=is_code, now=now)) is not None:
        return spent
    session.add(SmsUse(id=message_id, user_id=user_id, number_digest=digest, is_code=is_code, at=now))
    session.flush()
    return None


def give_back(session: Session, message_id: str) -> None:
    """Take note that a message was surely not sent."""
    session.execute(delete(SmsUse).where(SmsUse.id == message_id))


def forget(session: Session, *, now: datetime) -> int:
    """Delete what no limit looks at any more; return how many messages that were."""
    gone = session.execute(delete(SmsUse).where(SmsUse.at < now - WINDOW))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def erase(session: Session, user_id: str) -> None:
    """Forget who it was; that messages went to a number counts on, or whoever erases themselves could start afresh."""
    session.execute(update(SmsUse).where(SmsUse.user_id == user_id).values(user_id=None))


def _spent(
    session: Session, budget: Budget, user_id: str, digest: bytes, *, is_code: bool, now: datetime
) -> Spent | None:
    of_user = SmsUse.user_id == user_id
    of_number = (SmsUse.number_digest == digest) & (SmsUse.is_code == is_code)
    row = session.execute(
        select(
            func.count().filter(of_user).label("user_count"),
            func.min(SmsUse.at).filter(of_user).label("user_first"),
            func.count().filter(of_number).label("number_count"),
            func.min(SmsUse.at).filter(of_number).label("number_first"),
            func.count().label("day_count"),
            func.min(SmsUse.at).label("day_first"),
            func.max(SmsUse.at).filter(of_number).label("number_last"),
        ).where(SmsUse.at > now - WINDOW)
    ).one()
    if is_code and row.number_last is not None and now - row.number_last < BETWEEN_CODES:
        return Spent("codes to this number", row.number_last + BETWEEN_CODES)
    if row.user_count >= budget.per_user:
        return Spent("messages to this user", row.user_first + WINDOW)
    if row.number_count >= budget.per_number:
        return Spent("messages to this number", row.number_first + WINDOW)
    if row.day_count >= budget.per_day:
        return Spent("messages of the installation", row.day_first + WINDOW)
    return None
