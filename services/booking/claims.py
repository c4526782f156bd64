"""Answers that may be booked once: each booked join holds a claim on them, which the database keeps unique."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import FormField
from services.booking import answers, forms
from services.booking.errors import PersonAlreadyJoined
from services.booking.models import Claim, Item, Join, Slot
from services.booking.offers import Offered
from services.booking.rows import JoinRow, SlotRow

Key = tuple[str, str, str, bytes]  # of the row: item, scope, field and digest


@dataclass(frozen=True)
class Person:
    """One attendee: the join that is to hold their claims, and the answers."""

    join_id: str
    attendee: int
    answers: dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """One answer that is to be claimed: the row, and whose fault it is where that is taken."""

    item_id: str
    scope: str
    field: FormField
    digest: bytes
    join_id: str
    attendee: int

    @property
    def key(self) -> Key:
        """The primary key of the row."""
        return self.item_id, self.scope, self.field.key, self.digest

    def refusal(self) -> PersonAlreadyJoined:
        return PersonAlreadyJoined(
            attendee=self.attendee, field=self.field.key, label=self.field.label, scope=self.field.unique
        )


def wanted(sealer: Sealer, slot: Slot | SlotRow, form: list[FormField], people: list[Person]) -> list[Wanted]:
    """Return every claim of these people in the order of their keys, or raise PersonAlreadyJoined for a twin among them."""
    found: dict[Key, Wanted] = {}
    for person in people:
        for field in form:
            value = person.answers.get(field.key)
            if field.unique is None or value is None:
                continue
            digest = sealer.digest(forms.unique_text(value), about=f"{slot.item_id}:{field.key}")
            claim = Wanted(slot.item_id, _scope(field, slot), field, digest, person.join_id, person.attendee)
            if claim.key in found:
                raise claim.refusal()
            found[claim.key] = claim
    return [found[key] for key in sorted(found)]


def of_join(sealer: Sealer, offered: Offered, join: Join | JoinRow) -> list[Wanted]:
    """Return the claims of a join that exists, in the slot that is offered."""
    return wanted(sealer, offered.slot, offered.form, [Person(join.id, 1, answers.opened(sealer, join))])


def hold(session: Session, claims: list[Wanted]) -> None:
    """Claim every answer for its join, or raise PersonAlreadyJoined for the first that is taken.

    Rows are written in one order everywhere, so that two bookings of the same people can't deadlock.
    """
    for claim in claims:
        item_id, scope, name, digest = claim.key
        made = session.execute(
            insert(Claim)
            .values(item_id=item_id, scope=scope, field=name, digest=digest, join_id=claim.join_id)
            .on_conflict_do_nothing()
            .returning(Claim.join_id)
        ).scalar()
        if made is None:
            raise claim.refusal()


def require_free(session: Session, claims: list[Wanted]) -> None:
    """Raise PersonAlreadyJoined for the first answer that a booked join holds."""
    held = taken(session, [claim.key for claim in claims])
    for claim in claims:
        if claim.key in held:
            raise claim.refusal()


def taken(session: Session, keys: Collection[Key]) -> set[Key]:
    """Return which of these claims booked joins hold."""
    columns = tuple_(Claim.item_id, Claim.scope, Claim.field, Claim.digest)
    rows = session.execute(select(Claim.item_id, Claim.scope, Claim.field, Claim.digest).where(columns.in_(list(keys))))
    return {(row.item_id, row.scope, row.field, row.digest) for row in rows}


def release(session: Session, join_ids: list[str]) -> None:
    """Let go of everything these joins hold."""
    session.execute(delete(Claim).where(Claim.join_id.in_(join_ids)).execution_options(synchronize_session=False))


# --- what a form asks to be unique since it was changed ---


def complete(session: Session, sealer: Sealer, join_ids: Collection[str]) -> None:
    """Have booked joins hold what the forms of now ask to be unique, and what was not, or in another scope, when they were made.

    Who was booked twice before stays so: the first join holds the answer.
    """
    lacking = {claim.join_id for claim in _lacking(session, sealer, join_ids)}
    if not lacking:
        return
    # Whoever gives a place back or moves away locks the join before its claims: it is looked at again under the lock.
    session.execute(select(Join.id).where(Join.id.in_(lacking)).order_by(Join.id).with_for_update(key_share=True))
    rows = [
        {"item_id": item_id, "scope": scope, "field": name, "digest": digest, "join_id": claim.join_id}
        for claim in _lacking(session, sealer, lacking)
        for item_id, scope, name, digest in [claim.key]
    ]
    if rows:
        session.execute(insert(Claim).on_conflict_do_nothing(), rows)


def _lacking(session: Session, sealer: Sealer, join_ids: Collection[str]) -> list[Wanted]:
    """Return the claims that booked joins would have by the forms of now and that nobody has, in the order of their keys.

    Those that were made with the form of now have had theirs from the start.
    """
    rows = session.execute(
        select(Join, Slot)
        .join(Slot, Slot.id == Join.slot_id)
        .join(Item, Item.id == Join.item_id)
        .where(Join.id.in_(join_ids), Join.status == JoinStatus.BOOKED, Join.form_version != Item.form_version)
        .order_by(Join.id)
        .execution_options(populate_existing=True)
    ).all()
    forms_of = _forms(session, {join.item_id for join, _ in rows})
    found: dict[Key, Wanted] = {}
    for join, slot in rows:
        if form := forms_of[join.item_id]:
            person = Person(join.id, 1, answers.opened(sealer, join))
            for claim in wanted(sealer, slot, form, [person]):
                found.setdefault(claim.key, claim)
    held = taken(session, found) if found else set()
    return [found[key] for key in sorted(found.keys() - held)]


def _forms(session: Session, item_ids: Collection[str]) -> dict[str, list[FormField]]:
    """Return of each item the fields whose answers are unique."""
    return {
        item_id: [field for field in map(FormField.model_validate, form) if field.unique]
        for item_id, form in session.execute(select(Item.id, Item.form).where(Item.id.in_(item_ids)))
    }


def _scope(field: FormField, slot: Slot | SlotRow) -> str:
    if field.unique == "slot":
        return f"slot:{slot.id}"
    return f"day:{slot.date.isoformat()}" if field.unique == "day" else "item"
