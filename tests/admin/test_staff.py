"""Staff accounts: made, found, changed, and guarded."""

from functools import partial
from typing import Any

import httpx2
import pytest

from libs.contracts.principals import Role
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
    trail,
    try_to_change,
)
from tests.world import World, simultaneously

HALL = "0198f000-0000-7000-8000-00000000000a"


def create(world: World, language: str = "en", **fields: Any) -> httpx2.Response:
    body = {"username": "lin", "name": "Lin Yue", "role": "verifier", "halls": [HALL]} | fields
    answer: httpx2.Response = world.client.post(
        "/api/admin/staff", json=body, headers=world.staff() | {"Accept-Language": language}
    )
    return answer


def get(world: World, account: dict[str, Any]) -> httpx2.Response:
    answer: httpx2.Response = world.client.get(f"/api/admin/staff/{account['id']}", headers=world.staff())
    return answer


def usernames(world: World, **query: Any) -> list[str]:
    answer = world.client.get("/api/admin/staff", params=query, headers=world.staff())
    assert answer.status_code == 200, answer.text
    return [account["username"] for account in answer.json()["items"]]


def test_an_account_without_a_password_gets_a_random_one_that_is_shown_once(world: World) -> None:
    answer = create(world)

    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["etag"] == '"1"'
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

    with world.serve() as address, httpx2.Client(base_url=address) as client:
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
def test_only_super_admins_see_accounts(world: World, role: Role) -> None:
    account = an_account(world)
    headers = world.staff(role, [HALL])

    answers = [
        world.client.get("/api/admin/staff", headers=headers),
        world.client.get(f"/api/admin/staff/{account['id']}", headers=headers),
        world.client.post("/api/admin/staff", json={}, headers=headers),
        try_to_change(world, account, headers, name="x"),
    ]

    assert {answer.json()["code"] for answer in answers} == {"role_forbids"}
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


@pytest.mark.parametrize("wish", [{"role": "verifier"}, {"halls": [HALL]}])
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


def test_nobody_changes_their_own_role_or_disables_themselves(world: World) -> None:
    account = an_account(world, "lin", role=Role.SUPER_ADMIN)
    an_account(world, "wu", role=Role.SUPER_ADMIN)
    mine = signed_in(world, "lin")["headers"]

    demoted = try_to_change(world, account, mine, role="verifier", halls=[HALL])
    disabled = try_to_change(world, account, mine | {"Accept-Language": "zh"}, disabled=True)

    assert (demoted.status_code, demoted.json()["code"]) == (403, "own_account")
    assert disabled.json()["detail"] == "不能修改自己的角色或停用自己的账号，请由其他超级管理员操作"
    assert change(world, account, mine, name="Lin")["name"] == "Lin"


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

    with world.serve() as address, httpx2.Client(base_url=address) as client:
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

    with world.serve() as address, httpx2.Client(base_url=address) as client:
        answers = simultaneously(
            [
                partial(client.patch, f"/api/admin/staff/{account['id']}", json=wish, headers=boss)
                for account, wish in wishes * 4
            ]
        )

    assert len(usernames(world, role="super_admin", disabled=False)) == 1
    assert {answer.status_code for answer in answers} == {200, 409}


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


NO_ETAGS = ['"x"', "", '"99999999999999999999999999"', '"-1"']


def test_an_etag_we_never_gave_out_matches_nothing(world: World) -> None:
    account = an_account(world)

    answers = [try_to_change(world, account, world.staff() | {"If-Match": etag}, name="x") for etag in NO_ETAGS]

    assert {answer.status_code for answer in answers} == {412}
