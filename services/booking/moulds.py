"""The moulds of an offer: what a booking there writes and answers, but for that in which bookings differ.

They are made by the same models as everything else that is written and shown, once for all bookings that meet the
same slot, item and hall.
"""

from dataclasses import dataclass

from pydantic_core import to_json

from libs.common import outbox
from libs.common.moulds import Hole, Mould
from libs.contracts.booking import JoinBooked, JoinStatus, SlotTaken
from libs.contracts.catalog import UPLOADS
from services.booking import events, views
from services.booking.models import Slot
from services.booking.offers import Offered
from services.booking.rows import JoinRow, SlotRow

_OPEN = {name: Hole(name) for name in ("id", "party_id", "user_id", "code", "answers")}

SUCCESS = Mould(
    {
        "user_id": Hole("user_id"),
        "key": Hole("key"),
        "request_digest": Hole("digest"),
        "answer_sealed": Hole("sealed"),
        "created_at": Hole("now"),
    }
)
_INVENTORY = Mould({name: Hole(name) for name in SlotTaken.model_fields})


@dataclass(frozen=True)
class Moulds:
    """`row` is a row of joins, `answer` one of them as its user sees it, `event` a row of the outbox.

    `uploads` are the keys of the fields that are answered with files.
    """

    row: Mould
    answer: Mould
    event: Mould
    uploads: tuple[str, ...]


def of(offered: Offered) -> Moulds:
    """Return the moulds of an offer, made when they are first asked for."""
    found: Moulds | None = offered.kept.get("moulds")
    if found is None:
        found = offered.kept["moulds"] = _made(offered)
    return found


def inventory(slot: Slot | SlotRow) -> bytes:
    """Return the inventory of a slot as it is now, as events have it."""
    capacity = b"null" if slot.capacity is None else b"%d" % slot.capacity
    return _INVENTORY.filled(
        slot_id=to_json(slot.id),
        taken=b"%d" % slot.taken,
        capacity=capacity,
        version=b"%d" % slot.version,
        held=b"%d" % slot.held,
        waiting=b"%d" % slot.waiting,
    )


def _made(offered: Offered) -> Moulds:
    booked = JoinRow(
        id="",
        party_id="",
        user_id="",
        slot_id=offered.slot.id,
        item_id=offered.slot.item_id,
        hall_id=offered.slot.hall_id,
        code="",
        status=JoinStatus.BOOKED,
        answers={},
        sealed=None,
        form_version=offered.item.form_version,
        created_at=offered.slot.starts_at,  # it is open below, as every instant of the booking itself
    )
    return Moulds(
        row=_row(booked),
        answer=_answer(booked, offered),
        event=_event(booked, offered),
        uploads=tuple(field.key for field in offered.form if field.type in UPLOADS),
    )


def _row(booked: JoinRow) -> Mould:
    columns = {
        "slot_id": booked.slot_id,
        "item_id": booked.item_id,
        "hall_id": booked.hall_id,
        "status": booked.status,
        "reason": booked.reason,
        "form_version": booked.form_version,
        "version": booked.version,
    }
    return Mould(columns | _OPEN | {"sealed": Hole("sealed"), "created_at": Hole("now")})


def _answer(booked: JoinRow, offered: Offered) -> Mould:
    shown = views.join_with({}, booked, offered, now=booked.created_at).model_dump(mode="json")
    return Mould({name: _OPEN.get(name, value) for name, value in shown.items()} | {"created_at": Hole("here")})


def _event(booked: JoinRow, offered: Offered) -> Mould:
    later = SlotTaken(slot_id="", taken=0, capacity=None, version=0)
    fact = events.of(JoinBooked, booked, offered, later, action_id="", people=0)
    row = outbox.row(fact, request_id="")
    data = row["data"] | {
        "join_id": Hole("id"),
        "party_id": Hole("party_id"),
        "user_id": Hole("user_id"),
        "action_id": Hole("action_id"),
        "people": Hole("people"),
        "booked_at": Hole("now"),
        "slot": Hole("slot"),
    }
    open_columns = {
        "id": Hole("event_id"),
        "subject": Hole("id"),
        "request_id": Hole("request_id"),
        "time": Hole("now"),
    }
    return Mould(row | open_columns | {"data": data})
