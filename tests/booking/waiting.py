"""People who wait for a full slot."""

from typing import Any

import httpx2

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField
from services.booking import lines
from tests.booking.builders import Headers, Place, a_slot, booked, do, recorded
from tests.world import World, eventually

MOBILE = FormField(key="mobile", type=FieldType.MOBILE, label="手机")
CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="item")
MAY_HAVE_CARD = CARD.model_copy(update={"required": False})


def a_full_slot(world: World, *, people: int = 1, **rules: Any) -> tuple[Place, Headers, list[dict[str, Any]]]:
    """Return a slot with a line, the owner of all its places, and the owner's joins."""
    chosen: dict[str, Any] = {"party_max": 3, "max_per_slot": 50, "cancel": "anytime", "waitlist": "take"} | rules
    place = a_slot(world, capacity=people, **chosen)
    owner = world.user(new_id())
    joins = [booked(world, owner, place.slot_id)[0] for _ in range(people)]
    return place, owner, joins


def ask_to_wait(
    world: World, user: Headers, slot_id: str, *, people: int = 1, key: str | None = None, **answers: Any
) -> httpx2.Response:
    return world.client.post(
        f"/api/booking/slots/{slot_id}/wait",
        headers=user | {"Idempotency-Key": key or new_id()},
        json={"attendees": [{"answers": {"name": "张三"} | answers}] * people},
    )


def waiting(world: World, user: Headers, slot_id: str, *, people: int = 1, **answers: Any) -> dict[str, Any]:
    """Wait and return the wait; fail where it is refused."""
    answer = ask_to_wait(world, user, slot_id, people=people, **answers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def my_wait(world: World, user: Headers, wait_id: str) -> dict[str, Any]:
    answer = world.client.get("/api/booking/waits", headers=user, params={"limit": 100})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = next(wait for wait in answer.json()["items"] if wait["id"] == wait_id)
    return found


def outcome(world: World, user: Headers, wait_id: str) -> str | None:
    """Serve the line and return how the wait has ended, None where it goes on."""
    served(world)
    ended: str | None = my_wait(world, user, wait_id)["outcome"]
    return ended


def served(world: World) -> None:
    """Return when nothing is left to do in any line."""
    eventually(lambda: do(world, "serve_lines") == 0 and not _left_to_do(world))


def _left_to_do(world: World) -> list[str]:
    """What the task has left to the steward, who was there first."""
    with world.runtimes["booking"].db.transaction() as session:
        return lines.with_something_to_do(session, now=utcnow())


def accept(world: World, user: Headers, wait_id: str) -> httpx2.Response:
    return world.client.post(f"/api/booking/waits/{wait_id}/accept", headers=user)


def leave(world: World, user: Headers, wait_id: str) -> httpx2.Response:
    return world.client.post(f"/api/booking/waits/{wait_id}/leave", headers=user)


def waits_of(world: World, slot_id: str, staff: Headers | None = None) -> list[dict[str, Any]]:
    """Return who waits for a slot, as staff see it."""
    answer = world.client.get(f"/api/booking/staff/slots/{slot_id}/waits", headers=staff or world.staff())
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def endings(world: World) -> dict[str, list[str]]:
    """Return the outcomes that were recorded of each wait."""
    found: dict[str, list[str]] = {}
    for event in recorded(world, "wait.ended"):
        found.setdefault(event.data["wait_id"], []).append(event.data["outcome"])
    return found
