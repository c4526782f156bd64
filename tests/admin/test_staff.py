"""Staff accounts: made, found, changed, and guarded."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy.orm import Session

from libs.common.ids import new_id
from libs.contracts.principals import Right, Role, Staff
from services.admin import reach
from services.admin.models import StaffAccount
from tests.admin.builders import (
    ELSEWHERE,
    PASSWORD,
    actions,
    an_account,
    change,
    fail_to_sign_in,
    refresh,
    sign_in,
    signed_in,
    there_are,
    trail,
    try_to_change,
)
from tests.catalog.builders import a_hall
from tests.world import World, simultaneously

HALL = "0198f000-0000-7000-8000-00000000000a"
NEXT_HALL = "0198f000-0000-7000-8000-00000000000b"
# What a list of accounts may be asked for: a part of a name, a role, a hall, a state.
LOOKS = [("q", "n"), ("role", "super_admin"), ("role", "hall_admin"), ("hall_id", HALL), ("hall_id", NEXT_HALL)]


@pytest.fixture(autouse=True)
def _halls(world: World) -> None:
    there_are(world, HALL, NEXT_HALL)


def create(world: World, language: str = "en", headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
    body = {"username": "lin", "name": "Lin Yue", "role": "verifier", "halls": [HALL]} | fields
    answer: httpx2.Response = world.client.post(
        "/api/admin/staff", json=body, headers=(headers or world.staff()) | {"Accept-Language": language}
    )
    return answer


def get(world: World, account: dict[str, Any]) -> httpx2.Response:
    answer: httpx2.Response = world.client.get(f"/api/admin/staff/{account['id']}", headers=world.staff())
    return answer


def usernames(world: World, headers: dict[str, str] | None = None, **query: Any) -> list[str]:
    answer = world.client.get("/api/admin/staff", params=query, headers=headers or world.staff())
    assert answer.status_code == 200, answer.text
    return [account["username"] for account in answer.json()["items"]]


def test_an_account_without_a_password_gets_a_random_one_that_is_shown_once(world: World) -> None:
    answer = create(world)

    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["etag"] == f'"{made["id"]}.1"'
    assert made["halls"] == [HALL]
    assert signed_in(world, "lin", made["password"])["staff"]["must_change_password"] is True
    assert "password" not in get(world, made).json()


def test_a_given_password_is_not_repeated(world: World) -> None:
    assert create(world, password=PASSWORD).json()["password"] is None


def test_a_name_can_be_taken_once_however_it_is_typed(world: World) -> None:
    create(world, username="Lin")

    english, chinese = create(world, username="LIN"), create(world, username="lin", language="zh")

    assert (english.status_code, english.json()["code"]) == (409, "username_taken")
    assert english.json()["detail"] == "There is an account with the name lin already."
    assert chinese.json()["detail"] == "账号名 lin 已被使用"


def test_of_two_who_make_the_same_name_at_once_one_succeeds(world: World) -> None:
    boss = world.staff()
    body = {"username": "lin", "name": "Lin", "role": "verifier", "halls": [HALL], "password": PASSWORD}

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously([partial(client.post, "/api/admin/staff", json=body, headers=boss)] * 4)

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


@pytest.mark.parametrize("role", ["hall_admin", "verifier"])
def test_who_is_no_super_admin_needs_a_hall(world: World, role: str) -> None:
    english, chinese = create(world, role=role, halls=[]), create(world, role=role, halls=[], language="zh")

    assert (english.status_code, english.json()["code"]) == (422, "halls_needed")
    assert english.json()["detail"] == "Name at least one hall that this account is for."
    assert chinese.json()["detail"] == "请至少选择一个服务厅"


def test_a_super_admin_names_no_halls(world: World) -> None:
    refused = create(world, role="super_admin", halls=[HALL])
    made = create(world, role="super_admin", halls=[])

    assert (refused.status_code, refused.json()["code"]) == (422, "halls_not_taken")
    assert made.json()["halls"] is None


def test_an_account_is_for_halls_that_there_are(world: World) -> None:
    slip = new_id()

    english, chinese = create(world, halls=[HALL, slip]), create(world, halls=[slip], language="zh")

    assert (english.status_code, english.json()["code"]) == (422, "halls_unknown")
    assert english.json()["params"] == {"halls": slip}
    assert english.json()["detail"].startswith(f"There is no hall {slip}. ")
    assert chinese.json()["detail"].startswith(f"服务厅 {slip} 不存在")
    there_are(world, slip)
    assert create(world, halls=[HALL, slip]).status_code == 201


def test_an_account_gets_no_hall_that_there_is_not_and_keeps_what_it_had(world: World) -> None:
    account, slip = an_account(world, halls=[HALL]), new_id()
    with world.runtimes["admin"].db.engine.begin() as connection:  # made before anybody looked at it
        connection.exec_driver_sql(f"UPDATE staff_halls SET hall_id = '{slip}'")

    refused = try_to_change(world, account, halls=[slip, new_id()])

    assert (refused.status_code, refused.json()["code"]) == (422, "halls_unknown")
    assert change(world, account, name="Lin")["halls"] == [slip]
    assert change(world, account, halls=[NEXT_HALL])["halls"] == [NEXT_HALL]


def test_whether_there_is_a_hall_is_nobodys_business_who_is_not_for_it(world: World) -> None:
    manager = world.staff(Role.HALL_ADMIN, [HALL], rights=[Right.MANAGE_STAFF])

    answers = [create(world, halls=[hall], headers=manager) for hall in (NEXT_HALL, new_id())]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")] * 2


def test_a_hall_that_catalog_has_told_of_can_be_named(world: World) -> None:
    hall = a_hall(world)
    world.settle()

    assert create(world, halls=[hall["id"]]).json()["halls"] == [hall["id"]]


def test_a_hall_named_twice_counts_once(world: World) -> None:
    assert create(world, halls=[HALL, HALL.upper()]).json()["halls"] == [HALL]


WRONG_FIELDS: list[dict[str, Any]] = [
    {"username": "a"},
    {"username": "has space"},
    {"username": "林悦林悦"},
    {"username": "x" * 41},
    {"username": ".dot"},
    {"username": None},
    {"name": ""},
    {"name": "   "},
    {"name": "x" * 61},
    {"name": "nul\x00"},
    {"name": "line\nbreak"},
    {"role": "owner"},
    {"halls": ["no-id"]},
    {"halls": [HALL] * 101},
    {"halls": HALL},
    {"rights": ["fly"]},
    {"rights": "manage_staff"},
    {"rights": ["manage_staff"] * 21},
    {"password": ""},
    {"password": "x" * 201},
    {"token_version": 1},
]


def test_an_account_of_the_wrong_form_is_refused(world: World) -> None:
    answers = [create(world, **fields) for fields in WRONG_FIELDS]

    assert {(answer.status_code, answer.json().get("code")) for answer in answers} == {(422, "invalid")}


def test_a_weak_password_is_refused_when_an_account_is_made(world: World) -> None:
    assert create(world, password="short").json()["code"] == "password_too_short"
    assert create(world, username="linyue.2026", password="LinYue.2026").json()["code"] == "password_is_name"
    assert create(world, password="Password123").json()["code"] == "password_too_common"


@pytest.mark.parametrize("role", [Role.HALL_ADMIN, Role.VERIFIER])
def test_who_does_not_manage_staff_sees_no_accounts(world: World, role: Role) -> None:
    account = an_account(world)
    headers = world.staff(role, [HALL])

    answers = [
        world.client.get("/api/admin/staff", headers=headers),
        world.client.get(f"/api/admin/staff/{account['id']}", headers=headers),
        world.client.post("/api/admin/staff", json={}, headers=headers),
        try_to_change(world, account, headers, name="x"),
    ]

    assert {answer.json()["code"] for answer in answers} == {"right_missing"}
    assert {answer.status_code for answer in answers} == {403}


def test_accounts_are_listed_by_name_page_by_page(world: World) -> None:
    for username in ("chen", "abe", "bai"):
        an_account(world, username)

    first = world.client.get("/api/admin/staff", params={"limit": 2}, headers=world.staff()).json()
    second = world.client.get(
        "/api/admin/staff", params={"limit": 2, "cursor": first["next_cursor"]}, headers=world.staff()
    ).json()

    assert [account["username"] for account in first["items"]] == ["abe", "bai"]
    assert [account["username"] for account in second["items"]] == ["chen"]
    assert second["next_cursor"] is None


def test_accounts_are_found_by_name_role_hall_and_state(world: World) -> None:
    an_account(world, "lin", name="林悦", halls=[HALL])
    an_account(world, "wu_50", name="Wu", role=Role.VERIFIER)
    disabled = an_account(world, "zhao", name="Zhao", role=Role.SUPER_ADMIN)
    an_account(world, "boss", name="Boss", role=Role.SUPER_ADMIN)
    change(world, disabled, disabled=True)

    assert usernames(world, q="悦") == ["lin"]
    assert usernames(world, q="WU") == ["wu_50"]
    assert usernames(world, q="_") == ["wu_50"]
    assert usernames(world, q="%") == []
    assert usernames(world, role="verifier") == ["wu_50"]
    assert usernames(world, hall_id=HALL) == ["lin"]
    assert usernames(world, disabled=True) == ["zhao"]
    assert usernames(world, disabled=False, role="super_admin") == ["boss"]


WRONG_QUERIES = [
    "q=%00",
    "q=" + "x" * 101,
    "limit=0",
    "limit=101",
    "limit=99999999999999999999",
    "cursor=x",
    "role=boss",
    "hall_id=x",
    "disabled=perhaps",
]


def test_a_list_asked_for_wrongly_is_refused(world: World) -> None:
    answers = [world.client.get(f"/api/admin/staff?{query}", headers=world.staff()) for query in WRONG_QUERIES]

    assert {answer.status_code for answer in answers} == {422}


NOBODYS_IDS = ["x", "0198f000-0000-7000-8000-000000000000", "%00", "1" * 300]


def test_an_account_that_is_not_there_is_not_found(world: World) -> None:
    answers = [world.client.get(f"/api/admin/staff/{nobody}", headers=world.staff()) for nobody in NOBODYS_IDS]
    answers += [try_to_change(world, {"id": nobody}, name="x") for nobody in NOBODYS_IDS]

    assert {answer.status_code for answer in answers} == {404}


def test_a_new_name_leaves_everybody_signed_in(world: World) -> None:
    account = an_account(world)
    mine = signed_in(world)

    changed = change(world, account, name="Lin Yue-Chen")

    assert changed["name"] == "Lin Yue-Chen"
    assert changed["version"] == 2
    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 200


def test_a_change_that_changes_nothing_leaves_no_trace(world: World) -> None:
    account = an_account(world)
    mine = signed_in(world)

    changed = change(world, account, name=account["name"], role=account["role"], halls=account["halls"])

    assert changed["version"] == account["version"]
    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 200
    assert "staff.changed" not in actions(world)


@pytest.mark.parametrize("wish", [{"role": "verifier"}, {"halls": [HALL]}, {"rights": ["export_unmasked"]}])
def test_changed_rights_void_tokens_but_not_the_session(world: World, wish: dict[str, Any]) -> None:
    account = an_account(world)
    mine = signed_in(world)

    change(world, account, **wish)

    world.settle()
    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 401
    assert world.client.get(ELSEWHERE, headers=mine["headers"]).status_code == 401
    assert refresh(world, mine["refresh_token"]).status_code == 200


def test_who_becomes_super_admin_leaves_their_halls_behind(world: World) -> None:
    account = an_account(world, halls=[HALL])

    raised = change(world, account, role="super_admin")
    refused = try_to_change(world, account, role="verifier")

    assert raised["halls"] is None
    assert refused.json()["code"] in ("halls_needed", "last_super_admin")


def test_halls_can_not_be_taken_away_altogether(world: World) -> None:
    account = an_account(world)

    assert try_to_change(world, account, halls=[]).json()["code"] == "halls_needed"


def test_a_change_is_recorded_with_before_and_after(world: World) -> None:
    account = an_account(world, halls=[HALL])

    change(world, account, world.staff(name="The Boss"), role="verifier", name="Lin")

    record = trail(world, action="staff.changed")[0]
    assert record["actor_name"] == "The Boss"
    assert record["object_id"] == account["id"]
    assert record["before"] == {"name": "Lin Yue", "role": "hall_admin"}
    assert record["after"] == {"name": "Lin", "role": "verifier"}


def test_a_reset_password_is_shown_once_ends_sessions_and_lifts_a_lock(world: World) -> None:
    account = an_account(world)
    mine = signed_in(world)
    fail_to_sign_in(world, times=5)
    locked = get(world, account).json()

    changed = change(world, account, reset_password=True)

    assert locked["locked_until"] is not None
    assert changed["locked_until"] is None
    assert sign_in(world, "lin", PASSWORD).status_code == 401
    assert signed_in(world, "lin", changed["password"])["staff"]["must_change_password"] is True
    assert refresh(world, mine["refresh_token"]).status_code == 401
    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 401


OWN: list[dict[str, Any]] = [
    {"role": "verifier"},
    {"role": "super_admin"},
    {"halls": [HALL, NEXT_HALL]},
    {"rights": ["manage_staff", "export_unmasked"]},
    {"rights": []},
    {"reset_password": True},
    {"disabled": True},
]


def test_nobody_gives_themselves_anything_or_takes_it(world: World) -> None:
    account = an_account(world, "lin", halls=[HALL], rights=[Right.MANAGE_STAFF])
    mine = signed_in(world, "lin")["headers"]

    english = [try_to_change(world, account, mine, **wish) for wish in OWN]
    chinese = try_to_change(world, account, mine | {"Accept-Language": "zh"}, disabled=True)

    assert {(answer.status_code, answer.json()["code"]) for answer in english} == {(403, "own_account")}
    assert english[0].json()["detail"].startswith("You can't change your own role, halls or rights")
    assert chinese.json()["detail"].startswith("不能修改自己的角色、服务厅或权限")
    assert change(world, account, mine, name="Lin")["rights"] == ["manage_staff"]


def test_a_super_admin_does_not_give_up_their_own_role(world: World) -> None:
    account = an_account(world, "lin", role=Role.SUPER_ADMIN)
    an_account(world, "wu", role=Role.SUPER_ADMIN)
    mine = signed_in(world, "lin")["headers"]

    demoted = try_to_change(world, account, mine, role="verifier", halls=[HALL])
    disabled = try_to_change(world, account, mine, disabled=True)

    assert demoted.json()["code"] == disabled.json()["code"] == "own_account"


def a_manager(world: World) -> dict[str, str]:
    """Sign in a hall admin of HALL who manages staff and has no other right."""
    an_account(world, "manager", halls=[HALL], rights=[Right.MANAGE_STAFF])
    headers: dict[str, str] = signed_in(world, "manager")["headers"]
    return headers


def test_who_manages_staff_of_a_hall_makes_and_changes_accounts_for_it(world: World) -> None:
    manager = a_manager(world)

    made = create(world, headers=manager, rights=["override_check_in"])
    changed = change(world, made.json(), manager, role="hall_admin", rights=["manage_staff"], reset_password=True)

    assert made.status_code == 201
    assert made.json()["rights"] == ["override_check_in"]
    assert (changed["role"], changed["rights"]) == ("hall_admin", ["manage_staff"])
    assert signed_in(world, "lin", changed["password"])["staff"]["rights"] == ["override_check_in", "manage_staff"]


def test_nobody_makes_an_account_that_may_more_than_they(world: World) -> None:
    manager = a_manager(world)

    higher = create(world, headers=manager, role="super_admin", halls=[])
    more = create(world, headers=manager, rights=["export_unmasked"])
    elsewhere = create(world, headers=manager, halls=[HALL, NEXT_HALL])

    assert (higher.status_code, higher.json()["code"]) == (403, "beyond_yours")
    assert (more.status_code, more.json()["code"]) == (403, "beyond_yours")
    assert elsewhere.status_code == 404
    assert usernames(world) == ["manager"]


def test_a_verifier_who_manages_staff_makes_no_hall_admins(world: World) -> None:
    verifier = world.staff(Role.VERIFIER, [HALL], rights=[Right.MANAGE_STAFF])

    refused = create(world, headers=verifier, role="hall_admin")
    overriding = create(world, headers=verifier, rights=["override_check_in"])
    made = create(world, headers=verifier)

    assert refused.json()["code"] == overriding.json()["code"] == "beyond_yours"
    assert made.status_code == 201


BEYOND: list[dict[str, Any]] = [
    {"role": "super_admin"},
    {"rights": ["export_unmasked"]},
    {"rights": ["override_check_in", "export_unmasked"]},
]


def test_nobody_gives_what_they_do_not_have(world: World) -> None:
    manager = a_manager(world)
    account = an_account(world, halls=[HALL])

    beyond = [try_to_change(world, account, manager, **wish) for wish in BEYOND]
    elsewhere = try_to_change(world, account, manager, halls=[HALL, NEXT_HALL])
    chinese = try_to_change(world, account, manager | {"Accept-Language": "zh"}, **BEYOND[1])

    assert {(answer.status_code, answer.json()["code"]) for answer in beyond} == {(403, "beyond_yours")}
    assert beyond[0].json()["detail"] == (
        "This account has, or would get, a role or right that you do not have yourself."
    )
    assert chinese.json()["detail"] == "该账号拥有（或将获得）您自己没有的角色或权限，无法操作"
    assert elsewhere.status_code == 404
    assert get(world, account).json()["version"] == 1


@pytest.mark.parametrize("wish", [{"reset_password": True}, {"rights": []}, {"name": "x"}, {"disabled": True}])
def test_nobody_touches_an_account_that_may_more_than_they(world: World, wish: dict[str, Any]) -> None:
    manager = a_manager(world)
    account = an_account(world, halls=[HALL], rights=[Right.EXPORT_UNMASKED])

    answer = try_to_change(world, account, manager, **wish)

    assert (answer.status_code, answer.json()["code"]) == (403, "beyond_yours")


def test_who_manages_staff_of_a_hall_learns_nothing_of_others(world: World) -> None:
    manager = a_manager(world)
    seen = {query: usernames(world, manager, **dict([query])) for query in LOOKS}

    hidden = [
        an_account(world, "chief", role=Role.SUPER_ADMIN),
        an_account(world, "next-door", halls=[NEXT_HALL]),
        an_account(world, "both", halls=[HALL, NEXT_HALL]),
    ]

    assert {query: usernames(world, manager, **dict([query])) for query in LOOKS} == seen
    for account in hidden:
        answers = [
            world.client.get(f"/api/admin/staff/{account['id']}", headers=manager),
            try_to_change(world, account, manager, name="x"),
        ]
        assert {answer.status_code for answer in answers} == {404}


def test_who_lost_a_right_a_moment_ago_uses_it_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = a_manager(world)
    account = an_account(world, halls=[HALL])
    boss = world.staff()
    him = world.client.get("/api/admin/me", headers=manager).json()
    lock = reach.lock_beside_super_admins

    def after_the_boss(session: Session, actor: Staff, staff_id: str) -> tuple[StaffAccount, int]:
        monkeypatch.setattr(reach, "lock_beside_super_admins", lock)
        change(world, him, boss, rights=[])
        return lock(session, actor, staff_id)

    monkeypatch.setattr(reach, "lock_beside_super_admins", after_the_boss)
    answer = try_to_change(world, account, manager, disabled=True)

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert get(world, account).json()["disabled"] is False


@pytest.mark.parametrize("wish", [{"disabled": True}, {"role": "verifier", "halls": [HALL]}])
def test_the_last_enabled_super_admin_stays(world: World, wish: dict[str, Any]) -> None:
    last = an_account(world, "lin", role=Role.SUPER_ADMIN)
    disabled = an_account(world, "wu", role=Role.SUPER_ADMIN)
    change(world, disabled, disabled=True)

    english = try_to_change(world, last, **wish)
    chinese = try_to_change(world, last, world.staff() | {"Accept-Language": "zh"}, **wish)

    assert (english.status_code, english.json()["code"]) == (409, "last_super_admin")
    assert english.json()["detail"] == "This is the last enabled super admin. Make another one first."
    assert chinese.json()["detail"] == "这是最后一个启用的超级管理员，请先添加另一个"
    assert get(world, last).json()["disabled"] is False


def test_of_super_admins_who_disable_each_other_at_once_one_remains(world: World) -> None:
    accounts = [an_account(world, name, role=Role.SUPER_ADMIN) for name in ("abe", "bai", "chen", "dai")]
    headers = [signed_in(world, account["username"])["headers"] for account in accounts]
    wish = {"disabled": True}

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously(
            [
                partial(client.patch, f"/api/admin/staff/{target['id']}", json=wish, headers=headers[index - 1])
                for index, target in enumerate(accounts)
            ]
        )

    enabled = usernames(world, role="super_admin", disabled=False)
    assert len(enabled) >= 1
    assert [answer.status_code for answer in answers].count(200) == 4 - len(enabled)
    assert {answer.status_code for answer in answers} <= {200, 401, 409}


def test_the_last_two_super_admins_can_not_both_be_taken_away_at_once(world: World) -> None:
    first, second = (an_account(world, name, role=Role.SUPER_ADMIN) for name in ("abe", "bai"))
    boss = world.staff()
    wishes = [(first, {"disabled": True}), (second, {"role": "verifier", "halls": [HALL]})]

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously(
            [
                partial(client.patch, f"/api/admin/staff/{account['id']}", json=wish, headers=boss)
                for account, wish in wishes * 4
            ]
        )

    assert len(usernames(world, role="super_admin", disabled=False)) == 1
    assert {answer.status_code for answer in answers} == {200, 409}


def test_without_locks_the_same_race_leaves_no_super_admin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one looks, the other looks and writes, and only then the first writes."""
    first, second = (an_account(world, name, role=Role.SUPER_ADMIN) for name in ("abe", "bai"))
    without_locks(monkeypatch, meanwhile=lambda: change(world, second, disabled=True))

    change(world, first, disabled=True)

    assert usernames(world, role="super_admin", disabled=False) == []


def without_locks(monkeypatch: pytest.MonkeyPatch, *, meanwhile: Callable[[], object]) -> None:
    """Let something happen between the next look at the super admins and what is written after it."""
    lock = reach.lock_beside_super_admins

    def look(session: Session, actor: Staff, staff_id: str) -> tuple[StaffAccount, int]:
        monkeypatch.setattr(reach, "lock_beside_super_admins", lock)
        found = lock(session, actor, staff_id)
        session.rollback()  # gives the locks back
        meanwhile()
        return session.get_one(StaffAccount, staff_id), found[1]

    monkeypatch.setattr(reach, "lock_beside_super_admins", look)


def test_an_outdated_change_is_refused(world: World) -> None:
    account = an_account(world)
    seen = get(world, account).headers["etag"]
    change(world, account, name="Somebody else's wish")

    stale = try_to_change(world, account, world.staff() | {"If-Match": seen}, name="Mine")
    fresh = try_to_change(
        world, account, world.staff() | {"If-Match": get(world, account).headers["etag"]}, name="Mine"
    )

    assert (stale.status_code, stale.json()["code"]) == (412, "changed_meanwhile")
    assert fresh.json()["name"] == "Mine"


def test_an_etag_that_a_gateway_has_weakened_is_the_same(world: World) -> None:
    account = an_account(world)
    weakened = world.staff() | {"If-Match": "W/" + get(world, account).headers["etag"]}

    saved, late = (try_to_change(world, account, weakened, name=name) for name in ("Mine", "Yours"))

    assert (saved.status_code, late.status_code) == (200, 412)


NO_ETAGS = ['"x"', "", '"99999999999999999999999999"', '"-1"']


def test_an_etag_we_never_gave_out_matches_nothing(world: World) -> None:
    account = an_account(world)

    answers = [try_to_change(world, account, world.staff() | {"If-Match": etag}, name="x") for etag in NO_ETAGS]

    assert {answer.status_code for answer in answers} == {412}
