"""The control: what an ordinary FastAPI app does with the same requests, kept as it is while the product changes.

It shares tables, keys and server with the product and nothing else: booking by the plain ORM, a bare route that checks
the token, and a bare route that returns bytes.
"""

import argparse
import hashlib
import json
import secrets
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import phonenumbers
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import create_engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from deploy import parent
from deploy.serve import listen, serve
from libs.common import outbox
from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.ids import new_id
from libs.common.tokens import TokenKeys
from libs.contracts.booking import JoinBooked, JoinStatus, SlotTaken
from libs.contracts.catalog import FormField, Rules
from services.booking.models import Hall, Item, Join, Slot, Success, User
from services.booking.resources import BookingSettings


class Refused(Exception):
    """A rule is broken; answered with 409 and this code."""


class Attendee(BaseModel):
    answers: dict[str, Any]


class BookIn(BaseModel):
    slot_id: str
    attendees: list[Attendee]


def create_app(settings: BookingSettings) -> FastAPI:
    app = FastAPI()
    keys = TokenKeys(settings.user_token_keys, algorithm="HS256", audience="user")
    sealer = Sealer(settings.data_keys, hash_key=settings.hash_key.get_secret_value())
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=20, max_overflow=0)
    sessions = sessionmaker(engine, expire_on_commit=False)
    kept: dict[str, bytes] = {"bytes": b"{}"}

    async def user(authorization: Annotated[str, Header()]) -> str:
        claims = keys.verify(authorization.removeprefix("Bearer "), now=utcnow())
        return str(claims["sub"])

    UserId = Annotated[str, Depends(user)]

    @app.exception_handler(Refused)
    def refuse(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"code": str(error)}, 409)

    @app.post("/control/joins", status_code=201)
    def book(body: BookIn, user_id: UserId, idempotency_key: Annotated[str, Header()]) -> dict[str, Any]:
        """Book by the plain ORM, one transaction a request."""
        with sessions() as session:
            answer = _book(session, sealer, user_id, idempotency_key, body, now=utcnow())
            session.commit()
        return answer

    @app.post("/control/bare")
    async def bare(body: BookIn, user_id: UserId) -> dict[str, str]:
        """Read the body, check the token, do nothing."""
        return {"slot_id": body.slot_id, "user_id": user_id}

    @app.put("/control/bytes")
    async def keep(request: Request) -> dict[str, int]:
        kept["bytes"] = await request.body()
        return {"length": len(kept["bytes"])}

    @app.get("/control/bytes")
    async def read() -> Response:
        """Return the bytes that were kept."""
        return Response(kept["bytes"], media_type="application/json")

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _book(session: Session, sealer: Sealer, user_id: str, key: str, body: BookIn, *, now: datetime) -> dict[str, Any]:
    user = session.scalar(select(User).where(User.id == user_id).with_for_update(key_share=True))
    if user is None:
        raise HTTPException(401)
    digest = hashlib.sha256(body.model_dump_json().encode()).digest()
    first = session.get(Success, (user_id, key))
    if first is not None:
        if first.request_digest != digest:
            raise Refused("key_reused")
        found: dict[str, Any] = json.loads(sealer.open(first.answer_sealed, about=f"success:{user_id}:{key}"))
        return found
    slot, item, hall = _offered(session, body.slot_id)
    people = len(body.attendees)
    _check_rules(session, user, slot, item, hall, people, now)
    answers = [
        _checked([FormField.model_validate(field) for field in item.form], one.answers) for one in body.attendees
    ]
    taken = _take(session, slot, people)
    joins = [_join(sealer, user_id, slot, item, plain, hidden, now) for plain, hidden in answers]
    session.add_all(joins)
    session.flush()
    outbox.record(session, *(_booked(join, slot, item, hall, taken) for join in joins))
    shown = [
        _shown(join, slot, item, hall, plain | hidden) for join, (plain, hidden) in zip(joins, answers, strict=True)
    ]
    answer = {"party_id": joins[0].party_id, "joins": shown}
    sealed = sealer.seal(json.dumps(answer).encode(), about=f"success:{user_id}:{key}")
    session.add(Success(user_id=user_id, key=key, request_digest=digest, answer_sealed=sealed, created_at=now))
    return answer


def _offered(session: Session, slot_id: str) -> tuple[Slot, Item, Hall]:
    slot = session.get(Slot, slot_id)
    if slot is None or slot.deleted:
        raise HTTPException(404)
    return slot, session.get_one(Item, slot.item_id), session.get_one(Hall, slot.hall_id)


def _check_rules(session: Session, user: User, slot: Slot, item: Item, hall: Hall, people: int, now: datetime) -> None:
    rules = Rules.model_validate(item.rules)
    opens = rules.window_opens(slot.date, hall.timezone)
    held = session.scalar(
        select(func.count())
        .select_from(Join)
        .where(Join.user_id == user.id)
        .where(Join.slot_id == slot.id)
        .where(Join.status == JoinStatus.BOOKED)
    )
    refusals = {
        "user_disabled": user.disabled_at is not None,
        "item_not_open": item.status != "open" or hall.status != "open",
        "slot_closed": slot.status != "open",
        "too_early": opens is not None and now < opens,
        "slot_ended": now >= rules.window_closes(slot.starts_at, slot.ends_at),
        "party_too_large": not 1 <= people <= rules.party_max,
        "already_joined": (held or 0) + people > rules.per_slot,
        "slot_full": slot.capacity is not None and slot.taken + people > slot.capacity,
    }
    for code, is_broken in refusals.items():
        if is_broken:
            raise Refused(code)


def _checked(form: list[FormField], answers: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the answers into plain and sensitive ones, or refuse them; only the kinds that the bench's form has."""
    plain: dict[str, Any] = {}
    hidden: dict[str, Any] = {}
    for field in form:
        value = str(answers.get(field.key, "")).strip()
        if field.type == "mobile" and not phonenumbers.is_valid_number(phonenumbers.parse(value, "CN")):
            raise Refused("form_invalid")
        if not value or (field.max is not None and len(value) > field.max):
            raise Refused("form_invalid")
        (hidden if field.is_sensitive else plain)[field.key] = value
    return plain, hidden


def _take(session: Session, slot: Slot, people: int) -> SlotTaken:
    row = session.execute(
        update(Slot)
        .where(Slot.id == slot.id)
        .where(Slot.capacity.is_(None) | (Slot.taken + people <= Slot.capacity))
        .values(taken=Slot.taken + people, version=Slot.version + 1)
        .returning(Slot.taken, Slot.capacity, Slot.version)
        .execution_options(synchronize_session=False)
    ).first()
    if row is None:
        raise Refused("slot_full")
    return SlotTaken(slot_id=slot.id, taken=row.taken, capacity=row.capacity, version=row.version)


def _join(
    sealer: Sealer, user_id: str, slot: Slot, item: Item, plain: dict[str, Any], hidden: dict[str, Any], now: datetime
) -> Join:
    join_id = new_id()
    return Join(
        id=join_id,
        party_id=new_id(),
        user_id=user_id,
        slot_id=slot.id,
        item_id=item.id,
        hall_id=slot.hall_id,
        code=f"{100_000_000_000_000 + secrets.randbelow(900_000_000_000_000)}",
        status=JoinStatus.BOOKED,
        reason="",
        answers=plain,
        sealed=sealer.seal(json.dumps(hidden).encode(), about=f"join:{join_id}") if hidden else None,
        form_version=item.form_version,
        version=1,
        created_at=now,
    )


def _booked(join: Join, slot: Slot, item: Item, hall: Hall, taken: SlotTaken) -> JoinBooked:
    return JoinBooked(
        version=1,
        join_id=join.id,
        party_id=join.party_id,
        user_id=join.user_id,
        action_id=new_id(),
        people=1,
        hall_id=hall.id,
        hall_name=hall.name,
        item_id=item.id,
        item_title=item.title,
        slot_id=slot.id,
        date=slot.date,
        start=slot.start,
        end=slot.end,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        timezone=hall.timezone,
        status=JoinStatus.BOOKED,
        booked_at=join.created_at,
        slot=taken,
    )


def _shown(join: Join, slot: Slot, item: Item, hall: Hall, answers: dict[str, Any]) -> dict[str, Any]:
    zone = ZoneInfo(hall.timezone)
    return {
        "id": join.id,
        "party_id": join.party_id,
        "code": join.code,
        "status": join.status,
        "hall": {"id": hall.id, "name": hall.name, "address": hall.address},
        "item": {"id": item.id, "title": item.title, "cover": item.cover},
        "slot": {
            "id": slot.id,
            "date": slot.date.isoformat(),
            "starts_at": slot.starts_at.astimezone(zone).isoformat(),
            "ends_at": slot.ends_at.astimezone(zone).isoformat(),
        },
        "answers": answers,
        "created_at": join.created_at.astimezone(zone).isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.control", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    parent.end_with_parent()
    serve(create_app(BookingSettings.load()), listen(chosen.host, chosen.port), trusted_proxies=None)


if __name__ == "__main__":
    main()
