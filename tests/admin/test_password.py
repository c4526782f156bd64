"""Changing one's own password."""

from typing import Any

import httpx2
import pytest

from libs.contracts.principals import Role
from tests.admin.builders import ELSEWHERE, PASSWORD, actions, an_account, change, refresh, sign_in, signed_in
from tests.world import World, bearer

NEW = "ten-green-lanterns"


def change_password(
    world: World, me: dict[str, Any], *, current: str = PASSWORD, new: str = NEW, language: str = "en"
) -> httpx2.Response:
    answer: httpx2.Response = world.client.post(
        "/api/admin/me/password",
        json={"current": current, "new": new},
        headers=me["headers"] | {"Accept-Language": language},
    )
    return answer


def test_a_changed_password_is_the_only_one_that_signs_in(world: World) -> None:
    an_account(world)

    answer = change_password(world, signed_in(world))

    assert answer.status_code == 200
    assert answer.json()["staff"]["must_change_password"] is False
    assert sign_in(world, password=PASSWORD).status_code == 401
    assert sign_in(world, password=NEW).status_code == 201
    assert "staff.password_changed" in actions(world)


@pytest.mark.parametrize("path", ["/api/admin/me", "/api/catalog/staff/halls", "/api/booking/staff/joins", ELSEWHERE])
def test_until_a_given_password_is_changed_nothing_else_is_allowed(world: World, path: str) -> None:
    an_account(world, role=Role.SUPER_ADMIN, must_change=True)
    me = signed_in(world)

    english = world.client.get(path, headers=me["headers"])
    chinese = world.client.get(path, headers=me["headers"] | {"Accept-Language": "zh"})
    changed = bearer(change_password(world, me).json()["token"])
    refreshed = bearer(refresh(world, me["refresh_token"]).json()["token"])

    assert (english.status_code, english.json()["code"]) == (403, "password_change_required")
    assert english.json()["detail"] == "Change your password first."
    assert chinese.json()["detail"] == "请先修改密码"
    assert world.client.get(path, headers=changed).status_code == 200
    assert world.client.get(path, headers=refreshed).status_code == 200


def test_a_refresh_does_not_lead_past_the_change(world: World) -> None:
    an_account(world, must_change=True)

    token = refresh(world, signed_in(world)["refresh_token"]).json()["token"]

    assert world.client.get("/api/admin/me", headers=bearer(token)).json()["code"] == "password_change_required"


def test_a_reset_password_has_to_be_changed(world: World) -> None:
    account = an_account(world)

    given = change(world, account, reset_password=True)["password"]

    headers = signed_in(world, "lin", given)["headers"]
    assert world.client.get("/api/admin/me", headers=headers).json()["code"] == "password_change_required"


def test_who_does_not_change_the_password_can_sign_out(world: World) -> None:
    an_account(world, must_change=True)
    here, everywhere = signed_in(world)["headers"], signed_in(world)["headers"]

    assert world.client.delete("/api/admin/sessions/current", headers=here).status_code == 204
    assert world.client.post("/api/admin/sessions/sign-out-everywhere", headers=everywhere).status_code == 204


def test_this_session_goes_on_and_the_others_end(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    mine, other = signed_in(world), signed_in(world)

    token = change_password(world, mine).json()["token"]

    world.settle()
    assert world.client.get("/api/admin/me", headers=bearer(token)).status_code == 200
    assert world.client.get(ELSEWHERE, headers=bearer(token)).status_code == 200
    assert refresh(world, mine["refresh_token"]).status_code == 200
    assert refresh(world, other["refresh_token"]).status_code == 401
    assert world.client.get("/api/admin/me", headers=other["headers"]).status_code == 401
    assert world.client.get(ELSEWHERE, headers=other["headers"]).status_code == 401


def test_a_wrong_current_password_changes_nothing(world: World) -> None:
    an_account(world)
    me = signed_in(world)

    english = change_password(world, me, current="not the password")
    chinese = change_password(world, me, current="not the password", language="zh")

    assert (english.status_code, english.json()["code"]) == (422, "wrong_password")
    assert english.json()["detail"] == "The current password is wrong."
    assert chinese.json()["detail"] == "当前密码错误"
    assert sign_in(world).status_code == 201


def test_guessing_the_current_password_locks_the_account(world: World) -> None:
    an_account(world)
    me = signed_in(world)
    for _ in range(5):
        change_password(world, me, current="a guess")

    answer = change_password(world, me)

    assert (answer.status_code, answer.json()["code"]) == (429, "account_locked")
    assert sign_in(world).json()["code"] == "account_locked"


WEAK = [
    ("ninechars", "password_too_short", "A password has at least 10 characters.", "密码至少需要10个字符"),
    (
        "Lin.Yue.2026",
        "password_is_name",
        "The password may not be the account's name.",
        "密码不能与账号相同",
    ),
    (
        "QwertyUiop",
        "password_too_common",
        "This password is among the first that are guessed. Choose another.",
        "密码过于常见，请换一个",
    ),
    (
        "1111111111",
        "password_too_common",
        "This password is among the first that are guessed. Choose another.",
        "密码过于常见，请换一个",
    ),
    (
        PASSWORD,
        "password_unchanged",
        "The new password is the present one. Choose another.",
        "新密码不能与当前密码相同",
    ),
]


def test_a_weak_password_is_refused(world: World) -> None:
    an_account(world, "lin.yue.2026")
    me = signed_in(world, "lin.yue.2026")

    for new, code, english, chinese in WEAK:
        answer = change_password(world, me, new=new)

        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert answer.json()["detail"] == english
        assert change_password(world, me, new=new, language="zh").json()["detail"] == chinese
    assert sign_in(world, "lin.yue.2026").status_code == 201


def test_a_session_that_has_ended_can_not_change_the_password(world: World) -> None:
    an_account(world)
    me = signed_in(world)
    world.client.delete("/api/admin/sessions/current", headers=me["headers"])

    assert change_password(world, me).status_code == 401


WRONG_BODIES: list[Any] = [{}, {"current": PASSWORD}, {"current": PASSWORD, "new": "x" * 201}, [], None, "x"]


def test_a_change_of_the_wrong_form_is_refused(world: World) -> None:
    an_account(world)
    me = signed_in(world)["headers"]

    answers = [world.client.post("/api/admin/me/password", json=body, headers=me) for body in WRONG_BODIES]

    assert {answer.status_code for answer in answers} == {422}
