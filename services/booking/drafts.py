"""Drafts: everything that a booking writes and answers, made before any lock is taken.

Checking a form, encrypting answers and rendering JSON take most of a booking's time. While the slot's row is locked
everybody else waits for it, so that this is done ahead, upon what the process last saw of the slot.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.common.ids import new_id
from libs.contracts.booking import JoinBooked, JoinStatus, SlotTaken
from libs.contracts.catalog import FormField
from services.booking import answers as kept
from services.booking import claims, events, forms, views
from services.booking.asks import Booking
from services.booking.offers import Offered
from services.booking.rows import JoinRow
from services.booking.schemas import PartyOut

_LATER = SlotTaken(slot_id="", taken=0, capacity=None, version=0)  # the inventory is known under the lock alone


@dataclass(frozen=True)
class Draft:
    """One booking, ready to be written. `joins` and `success` are rows as JSON."""

    basis: tuple[Any, ...]
    wanted: list[claims.Wanted]
    joins: list[bytes]
    success: bytes
    answer: bytes
    facts: list[outbox.Unfinished]

    def fits(self, offered: Offered) -> bool:
        """Whether slot, item and hall are still what this was drafted upon."""
        return self.basis == _basis(offered)


def draft(sealer: Sealer, asked: Booking, offered: Offered) -> Draft:
    """Check the forms and make everything ready, or raise FormInvalid or PersonAlreadyJoined (twice in one party)."""
    filled = forms.check_all(offered.form, asked.attendees)
    party_id = new_id()
    joins = [_join(sealer, asked, offered, party_id, answers) for answers in filled]
    everything = [answers.plain | answers.sensitive for answers in filled]
    shown = [
        views.join_with(answers, join, offered, now=asked.now) for join, answers in zip(joins, everything, strict=True)
    ]
    answer = PartyOut(party_id=party_id, joins=shown).model_dump_json().encode()
    facts = events.of_action(JoinBooked, [(join, offered, _LATER) for join in joins])
    return Draft(
        basis=_basis(offered),
        wanted=wanted(sealer, offered, offered.form, joins, everything),
        joins=[_as_row(join) for join in joins],
        success=success_row(sealer, asked, answer),
        answer=answer,
        facts=[outbox.unfinished(fact, "slot", request_id=asked.request_id) for fact in facts],
    )


def wanted(
    sealer: Sealer,
    offered: Offered,
    form: list[FormField],
    joins: list[JoinRow],
    everything: list[dict[str, Any]],
) -> list[claims.Wanted]:
    """Return the claims on answers that may be booked once, or raise PersonAlreadyJoined for two in one party."""
    people = [
        claims.Person(join.id, number, answers)
        for number, (join, answers) in enumerate(zip(joins, everything, strict=True), start=1)
    ]
    return claims.wanted(sealer, offered.slot, form, people)


def success_row(sealer: Sealer, asked: Booking, answer: bytes) -> bytes:
    """The record by which the same key finds the same answer again."""
    sealed = sealer.seal(answer, about=f"success:{asked.user_id}:{asked.key}")
    return to_json(
        {
            "user_id": asked.user_id,
            "key": asked.key,
            "request_digest": f"\\x{asked.digest.hex()}",
            "answer_sealed": f"\\x{sealed.hex()}",
            "created_at": asked.now.isoformat(),
        }
    )


def _basis(offered: Offered) -> tuple[Any, ...]:
    return offered.slot.id, offered.slot.definition_version, offered.item.version, offered.hall.version


def _join(sealer: Sealer, asked: Booking, offered: Offered, party_id: str, answers: forms.Answers) -> JoinRow:
    join_id = new_id()
    return JoinRow(
        id=join_id,
        party_id=party_id,
        user_id=asked.user_id,
        slot_id=offered.slot.id,
        item_id=offered.slot.item_id,
        hall_id=offered.slot.hall_id,
        code=f"{100_000_000_000_000 + secrets.randbelow(900_000_000_000_000)}",
        status=JoinStatus.BOOKED,
        answers=answers.plain,
        sealed=kept.seal(sealer, join_id, answers),
        form_version=offered.item.form_version,
        created_at=asked.now,
    )


def _as_row(join: JoinRow) -> bytes:
    return to_json(
        {
            "id": join.id,
            "party_id": join.party_id,
            "user_id": join.user_id,
            "slot_id": join.slot_id,
            "item_id": join.item_id,
            "hall_id": join.hall_id,
            "code": join.code,
            "status": join.status,
            "reason": join.reason,
            "answers": join.answers,
            "sealed": None if join.sealed is None else f"\\x{join.sealed.hex()}",
            "form_version": join.form_version,
            "version": join.version,
            "created_at": join.created_at.isoformat(),
        },
    )
