"""What goes on in another hall can't be seen, counted or inferred: every answer is the same as before it happened."""

from datetime import timedelta
from typing import Any

import pytest

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, MissedPolicy
from libs.contracts.principals import Role
from tests.booking.builders import (
    NAME,
    Headers,
    Place,
    a_slot,
    booked,
    checked_in,
    do,
    revoke,
    user_id,
)
from tests.world import World

PHONE = FormField(key="phone", type=FieldType.MOBILE, label="手机号", required=False)
SLOT: dict[str, Any] = {
    "form": [NAME, PHONE],
    "max_per_slot": 99,
    "starts_in": timedelta(minutes=-5),
    "lasts": timedelta(hours=1),
    "cancel": "anytime",
}


def everything(world: World, staff: Headers, mine: Place, foreign: Place, *, person: str) -> dict[str, Any]:
    """Return every answer of the staff's reading routes, asked in every way that could touch the other hall."""
    day = mine.slot.date.isoformat()
    joins: list[dict[str, Any]] = [
        {},
        {"hall_id": foreign.hall_id},
        {"item_id": foreign.item.item_id},
        {"slot_id": foreign.slot_id},
        {"from": day, "to": day},
        {"status": "booked"},
        {"status": "revoked"},
        {"checked_in": True},
        {"missed": True},
        {"q": "护照"},
        {"person": "王小明"},
        {"person": "13800138000"},
        {"person": "13900139000"},
        {"user_id": person},
    ]
    users: list[dict[str, Any]] = [{}, {"q": "王"}, {"q": "13800138000"}]
    asked = [("joins", query) for query in joins]
    asked += [(path, query) for path in ("feed/joins", "feed/joins/counts") for query in joins]
    asked += [(path, query) for path in ("users", "feed/users", "feed/users/count") for query in users]
    asked += [
        ("feed/items", {}),
        ("feed/slots", {"id": foreign.slot_id}),
        (f"users/{person}", {}),
        (f"users/{person}/standing", {}),
    ]
    asked += [(f"slots/{place.slot_id}{end}", {}) for place in (mine, foreign) for end in ("", "/door")]
    asked += [("affected", {"hall_id": place.hall_id}) for place in (mine, foreign)]
    answers = {}
    for path, query in asked:
        answer = world.client.get(f"/api/booking/staff/{path}", params=query, headers=staff)
        body = answer.json()
        body.pop("request_id", None) if isinstance(body, dict) else None
        answers[f"{path} {query}"] = (answer.status_code, answer.headers.get("ETag"), body)
    return answers


@pytest.mark.parametrize("role", [Role.HALL_ADMIN, Role.VERIFIER])
def test_nothing_of_another_hall_shows_in_any_answer(world: World, role: Role) -> None:
    mine, foreign = a_slot(world, **SLOT), a_slot(world, **SLOT)
    for place in (mine, foreign):
        place.change_hall(missed_policy=MissedPolicy(missed=3, within_days=30, pause_days=14))
    wang, li = world.user("wang"), world.user("li")
    world.client.patch("/api/booking/me", json={"name": "王小明", "phone": "13800138000"}, headers=wang)
    booked(world, wang, mine.slot_id, "王小明", phone="13800138000")
    do(world, "find")
    staff, person = world.staff(role, [mine.hall_id]), user_id(world, wang)

    before = everything(world, staff, mine, foreign, person=person)
    world.client.patch("/api/booking/me", json={"name": "王五", "phone": "13900139000"}, headers=li)
    for user in (wang, li):  # one who is known here, and one who is not
        come, gone, _ = (booked(world, user, foreign.slot_id, "王小明", phone="13900139000")[0] for _ in range(3))
        checked_in(world, come["id"])
        revoke(world, gone["id"])
    path = f"/api/booking/staff/slots/{foreign.slot_id}/joins"
    body = {"attendees": [{"answers": {"name": "王小明"}}]}
    assert world.client.post(path, json=body, headers=world.staff() | {"Idempotency-Key": new_id()}).is_success
    do(world, "find")
    after = everything(world, staff, mine, foreign, person=person)

    assert after == before
    assert everything(world, world.staff(), mine, foreign, person=person) != before


def test_who_booked_elsewhere_alone_is_nobody_here(world: World) -> None:
    mine, foreign = a_slot(world, **SLOT), a_slot(world, **SLOT)
    li = world.user("li")
    staff = world.staff(Role.HALL_ADMIN, [mine.hall_id])

    before = everything(world, staff, mine, foreign, person=user_id(world, li))
    world.client.patch("/api/booking/me", json={"name": "王五", "phone": "13800138000"}, headers=li)
    booked(world, li, foreign.slot_id, "王小明", phone="13800138000")
    do(world, "find")

    assert everything(world, staff, mine, foreign, person=user_id(world, li)) == before
