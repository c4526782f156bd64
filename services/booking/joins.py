"""Joins: taking places for a party, giving them back, moving them, and what staff do about them."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.common.ids import new_id
from libs.contracts.booking import (
    JoinBooked,
    JoinCancelled,
    JoinMoved,
    JoinRevoked,
    JoinStatus,
    SlotTaken,
)
from libs.contracts.catalog import SlotStatus
from services.booking import answers as kept
from services.booking import claims, errors, events, forms, inventory, offers, policy
from services.booking.models import Join, Slot, Success, User
from services.booking.offers import Offered
from services.booking.policy import Held, Place


@dataclass(frozen=True)
class Request:
    """What one request to join asks for: a slot and the answers of each attendee."""

    slot_id: str
    attendees: list[dict[str, Any]]

    @property
    def digest(self) -> bytes:
        """Tell one body from another, whatever the order of its fields."""
        body = json.dumps([self.slot_id, self.attendees], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(body.encode("utf-8", "surrogatepass")).digest()


def first_success(session: Session, sealer: Sealer, *, user_id: str, key: str, request: Request) -> bytes | None:
    """Return the answer that this key got, None where it got none; raise KeyReused where it was for another body."""
    found = session.get(Success, (user_id, key))
    if found is None:
        return None
    if not secrets.compare_digest(found.request_digest, request.digest):
        raise errors.KeyReused
    return sealer.open(found.answer_sealed, about=f"success:{user_id}:{key}")


def remember(
    session: Session, sealer: Sealer, *, user_id: str, key: str, request: Request, answer: bytes, now: datetime
) -> None:
    """Keep the answer under the key, in the transaction that made it true."""
    session.execute(
        insert(Success).values(
            user_id=user_id,
            key=key,
            request_digest=request.digest,
            answer_sealed=sealer.seal(answer, about=f"success:{user_id}:{key}"),
            created_at=now,
        )
    )


def may_book(session: Session, user: User, slot_id: str, *, people: int, now: datetime) -> Offered:
    """Ask every rule that needs no form; return what is on offer, or raise the first rule broken."""
    offered = offers.find(session, slot_id)
    held = _held(session, user.id, offered.slot, now=now)
    policy.may_book(offered.offer, held, people=people, user_is_disabled=user.disabled_at is not None, now=now)
    return offered


def book(
    session: Session, sealer: Sealer, *, user: User, request: Request, now: datetime
) -> tuple[Offered, list[Join]]:
    """Take places for the whole party, or raise the first rule broken. The caller holds the user's quota lock."""
    people = len(request.attendees)
    offered = may_book(session, user, request.slot_id, people=people, now=now)
    filled = forms.check_all(offered.form, request.attendees)
    taken = _take(session, offered, people)
    party_id = new_id()
    joins = [_new_join(sealer, user.id, party_id, offered, answers, now=now) for answers in filled]
    wanted = [
        claims.Wanted(join.id, number, answers.plain | answers.sensitive)
        for number, (join, answers) in enumerate(zip(joins, filled, strict=True), start=1)
    ]
    claims.hold(session, sealer, offered.slot, offered.form, wanted)
    session.add_all(joins)
    session.flush()
    _record(session, JoinBooked, [(join, offered, taken) for join in joins])
    return offered, joins


def cancel(session: Session, *, user_id: str, join_id: str, now: datetime) -> tuple[Offered, Join]:
    """Give the user's place back, or raise why not. The row stays, as cancelled."""
    offered, join = _locked(session, join_id, user_id=user_id)
    policy.may_give_back(_place(join), offered.offer, now=now)
    taken = inventory.give_back(session, join.slot_id, 1)
    _end(session, [join], JoinStatus.CANCELLED, reason="", now=now)
    _record(session, JoinCancelled, [(join, offered, taken)])
    return offered, join


def move(
    session: Session, sealer: Sealer, *, user: User, join_id: str, slot_id: str, now: datetime
) -> tuple[Offered, Join]:
    """Give one place back and take another of the same item: both, or neither.

    The join keeps its id, code and answers. The caller holds the user's quota lock.
    """
    target = offers.find(session, slot_id)
    here, join = _locked(session, join_id, user_id=user.id, beside=target.slot.id)
    if join.slot_id == target.slot.id:
        raise errors.SameSlot
    if join.item_id != target.slot.item_id:
        raise errors.MoveElsewhere
    policy.may_give_back(_place(join), here.offer, now=now)
    there = offers.of_joins(session, {target.slot.id})[target.slot.id]
    held = _held(session, user.id, there.slot, now=now, leaving_out=join.id)
    policy.may_book(there.offer, held, people=1, user_is_disabled=user.disabled_at is not None, now=now)
    left = inventory.give_back(session, join.slot_id, 1)
    taken = _take(session, there, 1)
    claims.release(session, [join.id])
    all_answers = kept.opened(sealer, join)
    claims.hold(session, sealer, there.slot, here.form, [claims.Wanted(join.id, 1, all_answers)])
    _change(session, [join], slot_id=there.slot.id)
    _record(session, JoinMoved, [(join, there, taken)], left=left, left_starts_at=here.slot.starts_at)
    return there, join


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
    taken = inventory.take(session, join.slot_id, 1, even_closed=True)
    if taken is None:
        raise errors.SlotFull(left=offered.offer.left or 0, people=1)
    all_answers = kept.opened(sealer, join)
    claims.hold(session, sealer, offered.slot, offered.form, [claims.Wanted(join.id, 1, all_answers)])
    _change(session, [join], status=JoinStatus.BOOKED, reason="", ended_at=None)
    _record(session, JoinBooked, [(join, offered, taken)], restored=True)
    return offered, join


# --- helpers ---


def _held(session: Session, user_id: str, slot: Slot, *, now: datetime, leaving_out: str | None = None) -> Held:
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
    if leaving_out is not None:
        counted = counted.where(Join.id != leaving_out)
    in_slot, on_day, ahead = session.execute(counted).one()
    return Held(in_slot=in_slot, on_day=on_day, ahead=ahead)


def _take(session: Session, offered: Offered, people: int) -> SlotTaken:
    """Claim the places for good, or raise what stands in the way by now."""
    taken = inventory.take(session, offered.slot.id, people)
    if taken is not None:
        return taken
    session.refresh(offered.slot)
    if offered.slot.deleted:
        raise errors.SlotNotFound
    if offered.slot.status != SlotStatus.OPEN:
        raise errors.SlotClosed
    raise errors.SlotFull(left=offered.offer.left or 0, people=people)


def _new_join(
    sealer: Sealer, user_id: str, party_id: str, offered: Offered, answers: forms.Answers, *, now: datetime
) -> Join:
    join_id = new_id()
    return Join(
        id=join_id,
        party_id=party_id,
        user_id=user_id,
        slot_id=offered.slot.id,
        item_id=offered.slot.item_id,
        hall_id=offered.slot.hall_id,
        code=f"{100_000_000_000_000 + secrets.randbelow(900_000_000_000_000)}",
        status=JoinStatus.BOOKED,
        reason="",
        answers=answers.plain,
        sealed=kept.seal(sealer, join_id, answers),
        form_version=offered.item.form_version,
        version=1,
        created_at=now,
    )


def _locked(
    session: Session, join_id: str, *, user_id: str | None = None, beside: str | None = None
) -> tuple[Offered, Join]:
    """Lock a join's slot (and another one), then the join; return it as it is now, or raise JoinNotFound.

    Slots come first everywhere, so the join's slot is read without a lock and looked at again under it.
    """
    while True:
        slot_id = session.scalar(select(Join.slot_id).where(Join.id == join_id, *_owned(user_id)))
        if slot_id is None:
            raise errors.JoinNotFound
        inventory.lock(session, {slot_id, beside} if beside else {slot_id})
        join = session.scalars(
            select(Join)
            .where(Join.id == join_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        ).one()
        if join.slot_id == slot_id:
            return offers.of_joins(session, {slot_id})[slot_id], join


def _owned(user_id: str | None) -> list[Any]:
    return [] if user_id is None else [Join.user_id == user_id]


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
