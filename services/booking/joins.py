"""Joins: whether a user may book, and what staff do about joins. What users do is decided in `ledger`."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.contracts.booking import JoinBooked, JoinCancelled, JoinEvent, JoinRevoked, JoinStatus, SlotTaken
from services.booking import answers as kept_answers
from services.booking import (
    claims,
    drafts,
    errors,
    events,
    forms,
    inventory,
    line_policy,
    offers,
    policy,
    standings,
    users,
)
from services.booking.models import Join, Slot, User, Wait
from services.booking.offers import Offered
from services.booking.policy import Held, Place, Standing
from services.booking.rows import SlotRow

AT_ONCE = 500  # joins of a slot that are revoked in one transaction, about half a second


def may_book(
    session: Session,
    user: User,
    slot_id: str,
    *,
    people: int,
    now: datetime,
    kept: int = 0,
    offered_elsewhere: Held | None = None,
) -> tuple[Offered, Standing | None]:
    """Ask every rule that needs no form; return what is on offer and the user's standing, or raise the first rule broken.

    Who would find the slot full, and has places in it offered, is told so: OfferedAlready.
    `kept` places are there for the user, whatever is left for others. What is `offered_elsewhere` counts as if it was booked.
    """
    offered = offers.find(session, slot_id)
    standing = standings.at(session, user.id, offered.hall, now=now)
    held = _held(session, user.id, offered.slot, now=now) + (offered_elsewhere or Held())
    try:
        policy.may_book(
            offered.offer,
            held,
            people=people,
            left=kept or offered.left,
            user_is_disabled=user.disabled_at is not None,
            standing=standing,
            now=now,
        )
    except errors.SlotFull as full:
        raise _offer_to(session, user.id, offered, now=now) or full from None
    return offered, standing


def _offer_to(session: Session, user_id: str, offered: Offered, *, now: datetime) -> errors.OfferedAlready | None:
    found = session.execute(
        select(Wait.id, Wait.offered_until)
        .where(Wait.slot_id == offered.slot.id, Wait.user_id == user_id)
        .where(Wait.ended_at.is_(None), Wait.offered_until > now)
    ).first()
    return None if found is None else line_policy.offered_already(offered.offer, found.id, found.offered_until)


def made(
    sealer: Sealer,
    offered: Offered,
    *,
    join_id: str,
    party_id: str,
    user_id: str,
    answers: forms.Answers,
    now: datetime,
) -> Join:
    """Return a new join, booked. The caller has taken the place, and writes it."""
    return Join(
        id=join_id,
        party_id=party_id,
        user_id=user_id,
        slot_id=offered.slot.id,
        item_id=offered.item.id,
        hall_id=offered.slot.hall_id,
        code=drafts.new_code(),
        status=JoinStatus.BOOKED,
        reason="",
        answers=answers.plain,
        sealed=kept_answers.seal(sealer, join_id, answers),
        form_version=offered.item.form_version,
        version=1,
        created_at=now,
    )


# --- what staff do; the caller has looked at the hall's scope and records the audit ---


def revoke(session: Session, *, join_id: str, reason: str, now: datetime) -> tuple[Offered, Join]:
    """Take one place back for a reason that the user is told."""
    offered, join = _locked(session, join_id)
    policy.may_revoke(_place(join), offered.offer)
    taken = inventory.give_back(session, join.slot_id, 1)
    _end(session, [join], JoinStatus.REVOKED, reason=reason, now=now)
    _record(session, JoinRevoked, [(join, offered, taken)])
    return offered, join


@dataclass(frozen=True)
class Revoked:
    """What came of it: the joins that were revoked, and how many stay, because they are checked in or not booked.

    `left` are those of a slot whose turn has not come.
    """

    joins: list[Join]
    kept_checked_in: int
    not_booked: int
    left: int = 0


def revoke_slot(session: Session, *, slot_id: str, reason: str, now: datetime) -> Revoked:
    """Take back places of a slot, but of people who are checked in: those of some hundred users, until none is left.

    Who has booked after `now` keeps the place.
    """
    inventory.lock(session, {slot_id})
    booked = (Join.slot_id == slot_id, Join.status == JoinStatus.BOOKED, Join.created_at <= now)
    absent = (*booked, Join.checked_in_at.is_(None))
    last = session.scalar(select(Join.user_id).where(*absent).order_by(Join.user_id).offset(AT_ONCE - 1).limit(1))
    some = absent if last is None else (*absent, Join.user_id <= last)  # a user is told once, of all their places
    done = _revoke_booked(session, _lock_joins(session, *some), reason=reason, now=now)
    left = session.execute(
        select(func.count().filter(Join.checked_in_at.is_(None)), func.count(Join.checked_in_at)).where(*booked)
    ).one()
    return replace(done, left=left[0], kept_checked_in=left[1])


def revoke_some(session: Session, *, join_ids: list[str], reason: str, now: datetime) -> Revoked:
    """Take back the places of these joins but of those who are checked in or not booked."""
    return _revoke_booked(session, lock_with_slots(session, Join.id.in_(join_ids)), reason=reason, now=now)


def give_up(session: Session, joins: list[Join], *, now: datetime) -> None:
    """Give back the places of joins that are booked, whatever their items' rules; the caller has locked them and their slots."""
    _free(session, joins, JoinCancelled, JoinStatus.CANCELLED, reason="", now=now)


def restore(session: Session, sealer: Sealer, *, join_id: str, now: datetime) -> tuple[Offered, Join]:
    """Give a revoked join a place again: a new claim on the capacity and on its user's quota, which can be refused.

    Nobody gets a place who is disabled, or was erased.
    """
    user_id = session.scalar(select(Join.user_id).where(Join.id == join_id))
    if user_id is None:
        raise errors.JoinNotFound
    users.lock_for_staff(session, user_id)
    offered, join = _locked(session, join_id)
    held = _held(session, join.user_id, offered.slot, now=now)
    policy.may_restore(_place(join), offered.offer, held, now=now)
    taken = inventory.take(session, join.slot_id, 1, holder=join.user_id, even_closed=True)
    if taken is None:
        raise errors.SlotFull(left=offered.left or 0, people=1)
    claims.hold(session, claims.of_join(sealer, offered, join))
    _change(session, [join], status=JoinStatus.BOOKED, reason="", ended_at=None)
    _record(session, JoinBooked, [(join, offered, taken)], restored=True)
    return offered, join


# --- helpers ---


def lock_with_slots(session: Session, condition: ColumnElement[bool]) -> list[Join]:
    """Lock the slots of all joins that meet the condition, then the joins; return them as they are now.

    Slots come first everywhere, so the joins' slots are read without a lock and looked at again under it.
    """
    while True:
        slot_ids = set(session.scalars(select(Join.slot_id).where(condition)))
        inventory.lock(session, slot_ids)
        joins = _lock_joins(session, condition)
        if {join.slot_id for join in joins} <= slot_ids:
            return joins


def _lock_joins(session: Session, *conditions: ColumnElement[bool]) -> list[Join]:
    return list(
        session.scalars(
            select(Join)
            .where(*conditions)
            .order_by(Join.id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    )


def _revoke_booked(session: Session, joins: list[Join], *, reason: str, now: datetime) -> Revoked:
    booked = [join for join in joins if join.status == JoinStatus.BOOKED]
    absent = [join for join in booked if join.checked_in_at is None]
    _free(session, absent, JoinRevoked, JoinStatus.REVOKED, reason=reason, now=now)
    return Revoked(absent, kept_checked_in=len(booked) - len(absent), not_booked=len(joins) - len(booked))


def _free(
    session: Session, joins: list[Join], kind: type[JoinEvent], status: JoinStatus, *, reason: str, now: datetime
) -> None:
    """Free the places of joins that are locked, and their slots with them."""
    people = Counter(join.slot_id for join in joins)
    taken = {slot_id: inventory.give_back(session, slot_id, people[slot_id]) for slot_id in sorted(people)}
    offered = offers.of_joins(session, set(people))
    _end(session, joins, status, reason=reason, now=now)
    _record(session, kind, [(join, offered[join.slot_id], taken[join.slot_id]) for join in joins])


def _held(session: Session, user_id: str, slot: Slot | SlotRow, *, now: datetime) -> Held:
    counted = (
        select(
            func.count().filter(Join.slot_id == slot.id),
            func.count().filter(Slot.date == slot.date),
            func.count().filter(Slot.ends_at > now),
        )
        .select_from(Join)
        .join(Slot, Slot.id == Join.slot_id)
        .where(Join.user_id == user_id)
        .where(Join.item_id == slot.item_id)
        .where(Join.status == JoinStatus.BOOKED)
    )
    in_slot, on_day, ahead = session.execute(counted).one()
    return Held(in_slot=in_slot, on_day=on_day, ahead=ahead)


def _locked(session: Session, join_id: str) -> tuple[Offered, Join]:
    """Lock a join's slot, then the join; return it as it is now, or raise JoinNotFound."""
    found = lock_with_slots(session, Join.id == join_id)
    if not found:
        raise errors.JoinNotFound
    [join] = found
    return offers.of_joins(session, {join.slot_id})[join.slot_id], join


def _place(join: Join) -> Place:
    return Place(status=JoinStatus(join.status), checked_in_at=join.checked_in_at)


def _end(session: Session, joins: list[Join], status: JoinStatus, *, reason: str, now: datetime) -> None:
    claims.release(session, [join.id for join in joins])
    _change(session, joins, status=status, reason=reason, ended_at=now)


def _change(session: Session, joins: list[Join], **values: Any) -> None:
    session.execute(
        update(Join)
        .where(Join.id.in_([join.id for join in joins]))
        .values(version=Join.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    for join in joins:
        session.expire(join)
    if len(joins) > 1:
        session.scalars(select(Join).where(Join.id.in_([join.id for join in joins]))).all()


def _record(session: Session, kind: Any, changed: list[tuple[Join, Offered, SlotTaken]], **more: Any) -> None:
    outbox.record(session, *events.of_action(kind, changed, **more))
