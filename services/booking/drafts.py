"""Drafts: everything that a booking writes and answers, made before any lock is taken.

Checking a form, encrypting answers and rendering JSON take most of a booking's time. While the slot's row is locked
everybody else waits for it, so that this is done ahead, upon what the process last saw of the slot.
"""

import secrets
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from libs.common.crypto import Sealer
from libs.common.errors import HallpassError
from libs.common.ids import new_id
from libs.common.moulds import Mould
from services.booking import answers as kept
from services.booking import claims, forms, moulds, uploads
from services.booking.asks import Booking
from services.booking.offers import Offered


@dataclass(frozen=True)
class Draft:
    """One booking, ready to be written. `joins`, `files` and `success` are rows as JSON."""

    basis: tuple[Any, ...]
    wanted: list[claims.Wanted]
    joins: list[bytes]
    files: list[bytes]
    success: bytes
    answer: bytes
    event: Mould
    events: list[dict[str, bytes]]

    def fits(self, offered: Offered) -> bool:
        """Whether slot, item and hall are still what this was drafted upon."""
        return self.basis == offered.basis

    def facts(self, inventory: bytes) -> list[bytes]:
        """Return the events as rows; the inventory is known under the lock alone."""
        return [self.event.filled(**known, slot=inventory) for known in self.events]


def draft(sealer: Sealer, asked: Booking, offered: Offered) -> Draft:
    """Check the forms and make everything ready, or raise FormInvalid or PersonAlreadyJoined (twice in one party)."""
    mould = moulds.of(offered)
    said = uploads.opened(sealer, asked, offered.item.id, mould.uploads) if mould.uploads else asked.attendees
    filled = forms.check_all(offered.form, said)
    people = [claims.Person(new_id(), number, checked.all) for number, checked in enumerate(filled, start=1)]
    now = to_json(asked.now)
    party = {"party_id": _quoted(new_id()), "user_id": _quoted(asked.user_id), "now": now}
    here = to_json(asked.now.astimezone(ZoneInfo(offered.hall.timezone)))
    action = {
        "action_id": _quoted(new_id()),
        "people": b"%d" % len(people),
        "request_id": to_json(asked.request_id),
    }
    rows, shown, events = [], [], []
    for person, checked in zip(people, filled, strict=True):
        join = party | {"id": _quoted(person.join_id), "code": _quoted(new_code())}
        sealed = kept.seal(sealer, person.join_id, checked)
        rows.append(mould.row.filled(**join, answers=to_json(checked.plain), sealed=_bytea(sealed)))
        shown.append(mould.answer.filled(**join, answers=to_json(person.answers), here=here))
        events.append({**join, **action, "event_id": _quoted(new_id())})
    answer = b'{"party_id":%b,"joins":[%b]}' % (party["party_id"], b",".join(shown))
    success = sealer.seal(answer, about=f"success:{asked.user_id}:{asked.key}")
    return Draft(
        basis=offered.basis,
        wanted=claims.wanted(sealer, offered.slot, offered.form, people),
        joins=rows,
        files=[
            to_json({"join_id": person.join_id, "field": key, "upload_id": person.answers[key]["upload_id"]})
            for key in mould.uploads
            for person in people
            if key in person.answers
        ],
        success=moulds.SUCCESS.filled(
            **party, key=to_json(asked.key), digest=_bytea(asked.digest), sealed=_bytea(success)
        ),
        answer=answer,
        event=mould.event,
        events=events,
    )


def draft_if_fit(sealer: Sealer, asked: Booking, offered: Offered) -> Draft | None:
    """Draft, or return None where that is refused: it is said when its turn among the rules has come."""
    try:
        return draft(sealer, asked, offered)
    except HallpassError:
        return None


def new_code() -> str:
    """Draw what an attendee shows at the door: 15 digits that nobody guesses."""
    return str(100_000_000_000_000 + secrets.randbelow(900_000_000_000_000))


def _quoted(text: str) -> bytes:
    """Return an id or a code as JSON: there is nothing in it to escape."""
    return b'"%b"' % text.encode()


def _bytea(value: bytes | None) -> bytes:
    return b"null" if value is None else b'"\\\\x%b"' % value.hex().encode()
