"""Joins: whether a user may book, and what staff do about joins. What users do is decided in `ledger`."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.contracts.booking import JoinBooked, JoinRevoked, JoinStatus, SlotTaken
from services.booking import claims, errors, events, inventory, offers, policy
from services.booking.models import Join, Slot, User
from services.booking.offers import Offered
from services.booking.policy import Held, Place
from services.booking.rows import SlotRow


def may_book(session: Session, user: User, slot_id: str, *, people: int, now: datetime) -> Offered:
    """Ask every rule that needs no form; return what is on offer, or raise the first rule broken."""
    offered = offers.find(session, slot_id)
    held = _held(session, user.id, offered.slot, now=now)
    is_disabled = user.disabled_at is not None
    policy.may_book(offered.offer, held, people=people, left=offered.left, user_is_disabled=is_disabled, now=now)
    return offered


# --- what staff do; the caller has looked at the hall's scope and records the audit ---


def revoke(session: Session, *, join_id: str, reason: str, now: datetime) -> tuple[Offered, Join]:
    """Take one place back for a reason that the user is told."""
    offered, join = _locked(session, join_id)
    policy.may_revoke(_place(join), offered.offer)
    taken = inventory.give_back(session, join.slot_id, 1)
    _end(session, [join], JoinStatus.REVOKED, reason=reason, now=now)
    _record(session, JoinRevoked, [(join, offered, taken)])
    return offered, join


def revoke_slot(session: Session, *, slot_id: str, reason: str, now: datetime) -> tuple[int, int]:
    """Take back every place of a slot but those checked in; return (revoked, kept because checked in)."""
    inventory.lock(session, {slot_id})
    booked = session.scalars(
        select(Join)
        .where(Join.slot_id == slot_id, Join.status == JoinStatus.BOOKED)
        .order_by(Join.id)
        .with_for_update(key_share=True)
    ).all()
    gone = [join for join in booked if join.checked_in_at is None]
    if gone:
        taken = inventory.give_back(session, slot_id, len(gone))
        offered = offers.of_joins(session, {slot_id})[slot_id]
        _end(session, gone, JoinStatus.REVOKED, reason=reason, now=now)
        _record(session, JoinRevoked, [(join, offered, taken) for join in gone])
    return len(gone), len(booked) - len(gone)


def restore(session: Session, sealer: Sealer, *, join_id: str, now: datetime) -> tuple[Offered, Join]:
    """Give a revoked join a place again: a new claim on the capacity, which can be refused."""
    offered, join = _locked(session, join_id)
    policy.may_restore(_place(join), offered.offer, now=now)
    taken = inventory.take(session, join.slot_id, 1, holder=join.user_id, even_closed=True)
    if taken is None:
        raise errors.SlotFull(left=offered.left or 0, people=1)
    claims.hold(session, claims.of_join(sealer, offered, join))
    _change(session, [join], status=JoinStatus.BOOKED, reason="", ended_at=None)
    _record(session, JoinBooked, [(join, offered, taken)], restored=True)
    return offered, join


# --- helpers ---


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
    """Lock a join's slot, then the join; return it as it is now, or raise JoinNotFound.

    Slots come first everywhere, so the join's slot is read without a lock and looked at again under it.
    """
    while True:
        slot_id = session.scalar(select(Join.slot_id).where(Join.id == join_id))
        if slot_id is None:
            raise errors.JoinNotFound
        inventory.lock(session, {slot_id})
        join = session.scalars(
            select(Join)
            .where(Join.id == join_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        ).one()
        if join.slot_id == slot_id:
            return offers.of_joins(session, {slot_id})[slot_id], join


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
