"""Answers that may be booked once: each booked join holds a claim on them, which the database keeps unique."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.contracts.catalog import FormField
from services.booking import forms
from services.booking.errors import PersonAlreadyJoined
from services.booking.models import Claim, Slot


@dataclass(frozen=True)
class Wanted:
    """One attendee's claims: the join that is to hold them, and the answers."""

    join_id: str
    attendee: int
    answers: dict[str, Any]


def hold(session: Session, sealer: Sealer, slot: Slot, form: list[FormField], wanted: list[Wanted]) -> None:
    """Claim every unique answer for its join, or raise PersonAlreadyJoined for the first that is taken.

    Rows are written in one order everywhere, so that two bookings of the same people can't deadlock.
    """
    rows: dict[tuple[str, str, bytes], tuple[Wanted, FormField]] = {}
    for person in wanted:
        for field in form:
            value = person.answers.get(field.key)
            if field.unique is None or value is None:
                continue
            digest = sealer.digest(forms.unique_text(value), about=f"{slot.item_id}:{field.key}")
            key = (_scope(field, slot), field.key, digest)
            if key in rows:
                raise _refusal(person, field)
            rows[key] = (person, field)
    for key in sorted(rows):
        person, field = rows[key]
        scope, name, digest = key
        made = session.execute(
            insert(Claim)
            .values(item_id=slot.item_id, scope=scope, field=name, digest=digest, join_id=person.join_id)
            .on_conflict_do_nothing()
            .returning(Claim.join_id)
        ).scalar()
        if made is None:
            raise _refusal(person, field)


def release(session: Session, join_ids: list[str]) -> None:
    """Let go of everything these joins hold."""
    session.execute(delete(Claim).where(Claim.join_id.in_(join_ids)).execution_options(synchronize_session=False))


def _scope(field: FormField, slot: Slot) -> str:
    if field.unique == "slot":
        return f"slot:{slot.id}"
    return f"day:{slot.date.isoformat()}" if field.unique == "day" else "item"


def _refusal(person: Wanted, field: FormField) -> PersonAlreadyJoined:
    return PersonAlreadyJoined(attendee=person.attendee, field=field.key, label=field.label, scope=field.unique)
