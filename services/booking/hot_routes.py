"""The lean way to book: what everybody asks at 9:00, without FastAPI's routing, dependencies and validation.

Whatever is odd about a request is left to the ordinary route, which explains it.
"""

from pydantic import ValidationError

from libs.common.clock import utcnow
from libs.common.lean import Answer, Request
from services.booking.asks import Booking
from services.booking.resources import Resources, is_key
from services.booking.schemas import BookIn


async def book(request: Request) -> Answer | None:
    """POST joins."""
    token = request.header(b"authorization") or ""
    key = request.header(b"idempotency-key") or ""
    is_json = (request.header(b"content-type") or "").lower().startswith("application/json")
    if request.query or token[:7].lower() != "bearer " or not is_key(key) or not is_json:
        return None
    runtime, now = request.runtime, utcnow()
    user_id: str = runtime.user_keys.verify(token[7:], now=now)["sub"]
    try:
        body = BookIn.model_validate_json(await request.body())
    except ValidationError:
        return None
    runtime.tally.hit(runtime.settings.user_rate, "user", user_id)
    resources: Resources = runtime.resources
    attendees = [attendee.answers for attendee in body.attendees]
    answer = await resources.desk.book(
        Booking(user_id=user_id, key=key, slot_id=body.slot_id, attendees=attendees, now=now)
    )
    return Answer(201, answer)
