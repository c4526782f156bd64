"""The feed that exports read says what the staff's lists say, in the same order, within the same scope."""

from typing import Any

import pytest

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role, Staff, issue_staff_token
from tests.booking.builders import NAME, Place, a_slot, book, booked, cancel, checked_in, code_of, revoke
from tests.world import World, bearer

FEED = "/api/booking/staff/feed"
MOBILE = FormField(key="mobile", type=FieldType.MOBILE, label="手机号", required=False)


def everything(world: World, path: str, headers: dict[str, str], **query: Any) -> list[dict[str, Any]]:
    """Return all that a list holds, page after page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = query | ({"cursor": cursor} if cursor else {})
        answer = world.client.get(path, params=params, headers=headers)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


def an_export_token(world: World, *, role: Role = Role.SUPER_ADMIN, halls: list[str] | None = None) -> dict[str, str]:
    """Return the headers of a run that may read in clear, as admin makes them."""
    scope = None if role == Role.SUPER_ADMIN else frozenset(halls or [])
    staff = Staff(id=new_id(), name="boss", role=role, halls=scope, session_id=new_id(), unmasked=True)
    return bearer(issue_staff_token(world.runtimes["admin"].staff_keys, staff, now=utcnow()))


def three_states(world: World) -> Place:
    """A slot with a booked, a cancelled, a revoked and a checked-in join."""
    place = a_slot(world, form=[NAME, MOBILE], party_max=4, max_per_slot=50, cancel="anytime")
    user = world.user("first")
    joins = booked(world, user, place.slot_id, "张三", "李四", "王五", "赵六", mobile="13800138000")
    cancel(world, user, joins[1]["id"])
    revoke(world, joins[2]["id"])
    checked_in(world, joins[3]["id"])
    return place


def comparable(join: dict[str, Any]) -> dict[str, Any]:
    names = ("code", "status", "reason", "user_name", "answers", "created_at", "checked_in_at", "missed")
    slot = join.get("slot", join)
    return {name: join[name] for name in names} | {name: slot[name] for name in ("date", "start", "end")}


@pytest.mark.parametrize(
    "query", [{}, {"status": "cancelled"}, {"checked_in": "true"}, {"from": "2000-01-01"}, {"to": "2000-01-01"}]
)
def test_the_feed_is_the_list(world: World, query: dict[str, str]) -> None:
    three_states(world)
    staff = world.staff()

    listed = everything(world, "/api/booking/staff/joins", staff, limit=2, **query)
    fed = everything(world, f"{FEED}/joins", staff, limit=2, **query)

    assert [comparable(join) for join in fed] == [comparable(join) for join in listed]
    [counted] = world.client.get(f"{FEED}/joins/counts", params=query, headers=staff).json() or [{"joins": 0}]
    assert counted["joins"] == len(listed)


def test_sensitive_answers_are_masked_and_clear_to_an_export_alone(world: World) -> None:
    three_states(world)

    [masked] = [join for join in everything(world, f"{FEED}/joins", world.staff()) if "mobile" in join["answers"]]
    refused = world.client.get(f"{FEED}/joins", params={"unmasked": "true"}, headers=world.staff())
    clear = everything(world, f"{FEED}/joins", an_export_token(world), unmasked="true")

    assert masked["answers"]["mobile"] == "138******00"
    assert code_of(refused) == (403, "unmasked_forbidden")
    assert [join["answers"].get("mobile") for join in clear][-1] == "13800138000"


def test_what_became_sensitive_later_is_masked_in_the_feed(world: World) -> None:
    place = a_slot(world)
    booked(world, world.user("first"), place.slot_id, "张小三")
    place.change_item(form=[NAME.model_copy(update={"sensitive": True})], form_version=2)

    [join] = everything(world, f"{FEED}/joins", world.staff())
    [counted] = world.client.get(f"{FEED}/joins/counts", headers=world.staff()).json()

    assert join["answers"]["name"] == "张**"
    assert counted["form_versions"] == [1]


def test_phone_numbers_of_users_are_clear_to_an_export_alone(world: World) -> None:
    user = world.user("first")
    world.client.patch("/api/booking/me", json={"name": "林小满", "phone": "13800138000"}, headers=user)

    [listed] = everything(world, "/api/booking/staff/users", world.staff())
    [masked] = everything(world, f"{FEED}/users", world.staff())
    [clear] = everything(world, f"{FEED}/users", an_export_token(world), unmasked="true")

    assert masked == listed
    assert clear == listed | {"phone": "13800138000"}
    refused = world.client.get(f"{FEED}/users", params={"unmasked": "true"}, headers=world.staff())
    assert code_of(refused) == (403, "unmasked_forbidden")


def test_nothing_of_another_hall_changes_what_a_hall_admin_is_fed(world: World) -> None:
    mine = three_states(world)
    for who in (
        world.staff(Role.HALL_ADMIN, [mine.hall_id]),
        an_export_token(world, role=Role.HALL_ADMIN, halls=[mine.hall_id]),
    ):
        before = fed(world, who, mine)
        other = a_slot(world)
        assert book(world, world.user(new_id()), other.slot_id).status_code == 201

        assert fed(world, who, mine, other) == before
        assert everything(world, f"{FEED}/joins", who, hall_id=other.hall_id) == []
        assert everything(world, f"{FEED}/joins", who, item_id=other.item.item_id) == []


def fed(world: World, who: dict[str, str], *places: Place) -> list[Any]:
    """Return all that the feed says to somebody, asked for these slots among others."""
    lists = [everything(world, f"{FEED}/{name}", who) for name in ("joins", "items", "users")]
    counts = world.client.get(f"{FEED}/joins/counts", headers=who).json()
    slots = world.client.get(f"{FEED}/slots", params={"id": [place.slot_id for place in places]}, headers=who).json()
    return [*lists, counts, slots]
