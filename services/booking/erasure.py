"""Erasing a user: what tells who they were goes for good; that somebody had a place, and whether they came, stays counted."""

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.contracts.booking import JoinStatus, UserErased
from services.booking import claims, findables, inventory, joins, uploads, users, waits
from services.booking.models import Findable, Join, MovedAway, Slot, Success, User, Wait


def erase(session: Session, user_id: str, *, now: datetime) -> None:
    """Give back the user's places ahead, and erase them; raise Unauthenticated where there is nobody to erase.

    Answers, phone number, name, the id at the provider, and the memory of what they asked for are gone with the commit, their
    files with the next sweep of uploads; the other services hear of it. Who signs in again is somebody new.
    """
    # No findable is made of an answer that is being erased, and no booking is under way: both locks are held to the end.
    findables.lock(session)
    user = users.lock(session, user_id)
    for_which = waits.slots_of(session, user_id) | set(
        session.scalars(select(Join.slot_id).where(Join.user_id == user_id))
    )
    inventory.lock(session, for_which)  # all in one order, those of waits and those of joins
    wait_ids = list(session.scalars(select(Wait.id).where(Wait.user_id == user_id)))
    waits.end_those_of(session, user_id, now=now)
    theirs = joins.lock_with_slots(session, Join.user_id == user_id)
    joins.give_up(session, _ahead(session, theirs, now=now), now=now)
    join_ids = [join.id for join in theirs]
    claims.release(session, join_ids)
    uploads.let_go(session, user_id, join_ids, now=now)
    session.execute(delete(Findable).where(Findable.join_id.in_(join_ids)))
    session.execute(
        update(Join)
        .where(Join.user_id == user_id)
        .values(answers={}, sealed=None, reason="", version=Join.version + 1)
        .execution_options(synchronize_session=False)
    )
    for memory in (Success, MovedAway):
        session.execute(delete(memory).where(memory.user_id == user_id))
    user.provider, user.openid = users.ERASED, user_id
    user.name, user.phone_sealed, user.phone_digest = "", None, None
    user.disabled_at, user.disabled_reason = now, ""  # whatever token is still about books nothing
    outbox.record(session, UserErased(version=1, user_id=user_id, join_ids=join_ids, wait_ids=wait_ids))


def _ahead(session: Session, theirs: list[Join], *, now: datetime) -> list[Join]:
    not_over = set(
        session.scalars(select(Slot.id).where(Slot.id.in_({join.slot_id for join in theirs}), Slot.ends_at > now))
    )
    return [
        join
        for join in theirs
        if join.status == JoinStatus.BOOKED and join.checked_in_at is None and join.slot_id in not_over
    ]


def erased(session: Session) -> list[UserErased]:
    """Return the fact of everybody who was erased, for services that start empty. Which waits they had is forgotten."""
    rows = session.execute(select(User.id, Join.id).outerjoin(Join).where(User.provider == users.ERASED))
    found: dict[str, list[str]] = {}
    for user_id, join_id in rows:
        found.setdefault(user_id, []).extend([join_id] if join_id else [])
    return [UserErased(version=1, user_id=user_id, join_ids=join_ids) for user_id, join_ids in found.items()]
