"""Users whom staff disable, and enable again."""

from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.booking.builders import Headers, a_slot, book, booked, code_of, my_join, recorded, set_user, user_id
from tests.world import World


def test_a_user_is_disabled_and_enabled_again_on_record(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    found = user_id(world, user)

    disabled = set_user(world, found, disabled=True, reason="多次爽约")
    while_disabled = book(world, user, place.slot_id)
    enabled = set_user(world, found, disabled=False, reason="已申诉")
    then = book(world, user, place.slot_id)

    assert (disabled.json()["disabled"], disabled.json()["disabled_reason"]) == (True, "多次爽约")
    assert code_of(while_disabled) == (403, "user_disabled")
    assert (enabled.json()["disabled"], enabled.json()["disabled_reason"]) == (False, "")
    assert then.status_code == 201
    assert my_join(world, user, join["id"])["status"] == "booked"
    audited = [row.data for row in recorded(world, "audit.recorded")]
    assert [(row["action"], row["reason"], row["before"], row["after"]) for row in audited] == [
        ("user.disabled", "多次爽约", {"disabled": False}, {"disabled": True}),
        ("user.enabled", "已申诉", {"disabled": True}, {"disabled": False}),
    ]


def test_disabled_users_are_listed_and_exported_by_themselves(world: World) -> None:
    place, gone, well = a_slot(world), world.user("wang"), world.user("li")
    for user in (gone, well):
        booked(world, user, place.slot_id)
    of = {True: user_id(world, gone), False: user_id(world, well)}
    set_user(world, of[True], disabled=True, reason="多次爽约")
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])

    for disabled, expected in of.items():
        query = {"disabled": disabled}
        for path in ("users", "feed/users"):
            page = world.client.get(f"/api/booking/staff/{path}", params=query, headers=admin).json()
            assert [user["id"] for user in page["items"]] == [expected]
        count = world.client.get("/api/booking/staff/feed/users/count", params=query, headers=admin).json()
        assert count == {"users": 1}


def test_why_somebody_is_disabled_is_for_super_admins_alone(world: World) -> None:
    place, user = a_slot(world), world.user("wang")
    booked(world, user, place.slot_id)
    wang = user_id(world, user)
    set_user(world, wang, disabled=True, reason="在乙厅闹事")
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])
    path = "/api/booking/staff"

    def shown(staff: Headers) -> list[tuple[bool, str]]:
        [listed] = world.client.get(f"{path}/users", headers=staff).json()["items"]
        [exported] = world.client.get(f"{path}/feed/users", headers=staff).json()["items"]
        one = world.client.get(f"{path}/users/{wang}", headers=staff).json()
        clear = world.client.post(f"{path}/users/{wang}/unmask", json={"reason": "联系本人"}, headers=staff).json()
        return [(seen["disabled"], seen["disabled_reason"]) for seen in (listed, exported, one, clear)]

    assert shown(world.staff()) == [(True, "在乙厅闹事")] * 4
    assert shown(admin) == [(True, "")] * 4


def test_only_a_super_admin_disables_users(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    found = user_id(world, user)

    for role in (Role.HALL_ADMIN, Role.VERIFIER):
        answer = set_user(world, found, world.staff(role, [place.hall_id]), disabled=True, reason="多次爽约")
        assert code_of(answer) == (403, "role_forbids")
    assert code_of(set_user(world, new_id(), disabled=True, reason="多次爽约")) == (404, "not_found")
    assert code_of(set_user(world, found, disabled=True)) == (422, "invalid")
