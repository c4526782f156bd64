"""Signing in with a code beside the password."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pyotp
import pytest
import time_machine
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.principals import Right, Role
from tests.admin.builders import (
    ELSEWHERE,
    PASSWORD,
    actions,
    an_account,
    begin_factor,
    change,
    fail_to_sign_in,
    refresh,
    set_factor,
    sign_in,
    signed_in,
    trail,
    try_to_change,
)
from tests.world import World, bearer, simultaneously

FACTOR = "/api/admin/me/second-factor"
NOON = datetime.fromisoformat("2026-11-25T04:00:00+00:00")  # where a step of 30 s begins
STEP = timedelta(seconds=30)


class Phone:
    """An app that makes codes for an account, and the recovery codes on paper beside it."""

    def __init__(self, world: World, username: str = "lin") -> None:
        self.me = signed_in(world, username)
        secret, on = set_factor(world, self.me["headers"])
        self.app = pyotp.TOTP(secret)
        self.paper: list[str] = on["recovery_codes"]
        self.headers = bearer(on["token"])

    def code(self, *, steps: int = 0) -> str:
        """Return the code that the app shows, some steps from now."""
        return self.app.at(utcnow(), counter_offset=steps)

    @property
    def wrong(self) -> str:
        """Six digits that the app does not show."""
        return wrong_code(self.app)


def wrong_code(app: pyotp.TOTP) -> str:
    """Return six digits that an app shows neither now nor some steps before or after."""
    shown = {app.at(utcnow(), counter_offset=steps) for steps in range(-3, 4)}
    return next(code for code in (f"{number:06d}" for number in range(8)) if code not in shown)


def with_code(world: World, code: str | None, *, password: str = PASSWORD, client: Any = None) -> httpx2.Response:
    return sign_in(world, "lin", password, code=code, client=client)


def outcome(answer: httpx2.Response) -> Any:
    return answer.json().get("code", answer.status_code)


@pytest.fixture
def phone(world: World) -> Any:
    """The phone of an account that has just set it up; the clock stands still, and no code of its app was used since."""
    an_account(world, "lin", role=Role.SUPER_ADMIN)
    with time_machine.travel(NOON, tick=False) as clock:
        made = Phone(world)
        clock.shift(2 * STEP)
        yield made


def test_signing_in_takes_a_code_once_one_was_confirmed(world: World, phone: Phone) -> None:
    without, english = with_code(world, None), sign_in(world, "lin", language="en")
    chinese = sign_in(world, "lin", language="zh")
    right = with_code(world, phone.code())

    assert (without.status_code, without.json()["code"]) == (401, "code_needed")
    assert english.json()["detail"] == "Enter the code that your app shows, too."
    assert chinese.json()["detail"] == "请输入身份验证器中的动态验证码"
    assert right.status_code == 201
    assert right.json()["staff"]["second_factor"] is True


def test_the_secret_comes_as_text_uri_and_qr_code_and_is_nowhere_readable(world: World) -> None:
    account = an_account(world)
    headers = signed_in(world)["headers"]

    answer = world.client.post(FACTOR, json={"password": PASSWORD}, headers=headers)

    body = answer.json()
    uri = pyotp.parse_uri(body["uri"])
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert (uri.secret, uri.name, uri.issuer) == (body["secret"], "lin", "Hallpass")
    assert re.fullmatch(r"[A-Z2-7]{32}", body["secret"])
    assert body["qr_svg"].startswith("<svg")
    with world.runtimes["admin"].db.transaction() as session:
        stored = session.scalar(text("SELECT secret FROM second_factors WHERE staff_id = :id"), {"id": account["id"]})
    assert body["secret"].encode() not in bytes(stored)
    assert body["secret"] not in str(trail(world))


def test_nothing_changes_until_a_code_is_confirmed(world: World) -> None:
    an_account(world)
    headers = signed_in(world)["headers"]
    app = pyotp.TOTP(begin_factor(world, headers))

    wrong = world.client.post(f"{FACTOR}/confirm", json={"code": wrong_code(app)}, headers=headers)

    assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_code")
    assert world.client.get(FACTOR, headers=headers).json() == {"set_at": None, "recovery_codes_left": 0}
    assert sign_in(world).status_code == 201


def test_of_two_secrets_that_were_begun_the_latter_counts(world: World) -> None:
    an_account(world)
    headers = signed_in(world)["headers"]
    first, second = begin_factor(world, headers), begin_factor(world, headers)

    answers = [
        world.client.post(f"{FACTOR}/confirm", json={"code": pyotp.TOTP(secret).now()}, headers=headers)
        for secret in (first, second)
    ]

    assert [answer.status_code for answer in answers] == [422, 200]


def test_there_is_nothing_to_confirm_before_it_was_begun(world: World) -> None:
    an_account(world)

    answer = world.client.post(f"{FACTOR}/confirm", json={"code": "000000"}, headers=signed_in(world)["headers"])

    assert answer.json()["code"] == "wrong_code"


def test_setting_it_up_takes_the_password(world: World) -> None:
    an_account(world)
    headers = signed_in(world)["headers"]

    wrong = [world.client.post(FACTOR, json={"password": "a guess"}, headers=headers) for _ in range(5)]
    locked = world.client.post(FACTOR, json={"password": PASSWORD}, headers=headers)

    assert {outcome(answer) for answer in wrong} == {"wrong_password"}
    assert outcome(locked) == "account_locked"


def test_a_second_one_needs_the_first_removed(world: World, phone: Phone) -> None:
    begun = world.client.post(FACTOR, json={"password": PASSWORD}, headers=phone.headers)
    confirmed = world.client.post(f"{FACTOR}/confirm", json={"code": phone.code()}, headers=phone.headers)

    assert (begun.status_code, begun.json()["code"]) == (409, "second_factor_set")
    assert begun.json()["detail"] == "This account has a second factor. Remove it first."
    assert outcome(confirmed) == "second_factor_set"


def test_sessions_that_were_opened_without_a_code_end_and_this_one_goes_on(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    other = signed_in(world)
    phone = Phone(world)

    world.settle()
    assert refresh(world, other["refresh_token"]).status_code == 401
    assert world.client.get(ELSEWHERE, headers=other["headers"]).status_code == 401
    assert world.client.get(ELSEWHERE, headers=phone.headers).status_code == 200
    assert refresh(world, phone.me["refresh_token"]).status_code == 200


@pytest.mark.parametrize(("steps", "counts"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_one_step_off(world: World, phone: Phone, steps: int, counts: bool) -> None:
    with time_machine.travel(NOON + 10 * STEP, tick=False):
        answer = with_code(world, phone.code(steps=steps))

    assert outcome(answer) == (201 if counts else "code_refused")


def test_a_code_signs_in_once(world: World, phone: Phone) -> None:
    code = phone.code()

    first, again = with_code(world, code), with_code(world, code)
    chinese = sign_in(world, "lin", code=code, language="zh")

    assert (outcome(first), outcome(again)) == (201, "code_refused")
    assert again.status_code == 401
    assert again.json()["detail"] == "This code is wrong, or was used already."
    assert chinese.json()["detail"] == "动态验证码错误或已使用过"


def test_the_code_that_confirmed_it_does_not_sign_in(world: World) -> None:
    an_account(world)
    with time_machine.travel(NOON, tick=False):
        phone = Phone(world)

        assert outcome(with_code(world, phone.code())) == "code_refused"
        assert outcome(with_code(world, phone.code(steps=1))) == 201


def test_a_code_older_than_the_last_one_is_used_up_too(world: World, phone: Phone) -> None:
    assert outcome(with_code(world, phone.code(steps=1))) == 201
    assert outcome(with_code(world, phone.code())) == "code_refused"


def test_of_many_who_send_one_code_at_once_one_gets_in(world: World, phone: Phone) -> None:
    code = phone.code()

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously([partial(with_code, world, code, client=client)] * 4)

    assert sorted(map(outcome, answers), key=str) == [201, "code_refused", "code_refused", "code_refused"]


def test_a_recovery_code_signs_in_once_however_it_is_typed(world: World, phone: Phone) -> None:
    typed = phone.paper[0].upper().replace("-", " ")

    first, again = with_code(world, typed), with_code(world, typed)

    assert (outcome(first), outcome(again)) == (201, "code_refused")
    left = world.client.get(FACTOR, headers=bearer(first.json()["token"])).json()
    assert left["recovery_codes_left"] == len(phone.paper) - 1 == 9
    assert trail(world, action="staff.signed_in")[0]["after"]["code"] == "recovery"


def test_a_recovery_code_of_somebody_else_is_none(world: World, phone: Phone) -> None:
    an_account(world, "wu")
    other = Phone(world, "wu")

    assert outcome(with_code(world, other.paper[0])) == "code_refused"


def test_recovery_codes_are_kept_as_hashes(world: World, phone: Phone) -> None:
    with world.runtimes["admin"].db.transaction() as session:
        stored = str(session.execute(text("SELECT * FROM recovery_codes")).all())

    assert not [code for code in phone.paper if code in stored or code.replace("-", "") in stored]


def test_five_wrong_codes_lock_the_name_even_for_the_right_one(world: World, phone: Phone) -> None:
    wrong = [with_code(world, phone.wrong) for _ in range(5)]
    right = phone.code()

    locked = with_code(world, right)
    without = with_code(world, None)
    elsewhere = with_code(world, right, client=world.client_at("203.0.113.9"))

    assert {outcome(answer) for answer in wrong} == {"code_refused"}
    assert outcome(locked) == outcome(without) == "account_locked"
    assert outcome(elsewhere) == 201  # the code was not used up where the name was locked
    assert "staff.locked_out" in actions(world)


def test_the_password_alone_forgets_no_wrong_code(world: World, phone: Phone) -> None:
    for _ in range(5):
        with_code(world, phone.wrong)
        with_code(world, None)

    assert outcome(with_code(world, phone.code())) == "account_locked"


def test_without_the_password_nobody_learns_whether_there_is_a_second_factor(world: World, phone: Phone) -> None:
    an_account(world, "wu")

    answers = [sign_in(world, name, "a guess", code=code) for name in ("lin", "wu") for code in (None, "000000")]

    assert {outcome(answer) for answer in answers} == {"sign_in_failed"}


def test_a_code_that_nobody_asked_for_does_no_harm(world: World) -> None:
    an_account(world)

    assert with_code(world, "000000").status_code == 201


def test_new_recovery_codes_void_those_before(world: World, phone: Phone) -> None:
    body = {"password": PASSWORD, "code": phone.code()}

    answer = world.client.post(f"{FACTOR}/recovery-codes", json=body, headers=phone.headers)

    renewed = answer.json()["recovery_codes"]
    assert answer.headers["cache-control"] == "no-store"
    assert len({*renewed, *phone.paper}) == 20
    assert outcome(with_code(world, phone.paper[1])) == "code_refused"
    assert outcome(with_code(world, renewed[1])) == 201
    assert "staff.recovery_codes_renewed" in actions(world)


def test_removing_it_takes_password_and_code(world: World, phone: Phone) -> None:
    def remove(password: str, code: str) -> httpx2.Response:
        body = {"password": password, "code": code}
        answer: httpx2.Response = world.client.post(f"{FACTOR}/remove", json=body, headers=phone.headers)
        return answer

    wrong = [remove("a guess", phone.code()), remove(PASSWORD, phone.wrong)]
    right = remove(PASSWORD, phone.code())

    assert [outcome(answer) for answer in wrong] == ["wrong_password", "wrong_code"]
    assert right.status_code == 200
    assert right.json()["staff"]["second_factor"] is False
    assert world.client.get("/api/admin/me", headers=bearer(right.json()["token"])).status_code == 200
    assert sign_in(world).status_code == 201
    assert {"staff.second_factor_set", "staff.second_factor_removed"} <= set(actions(world))


def test_there_is_nothing_to_remove_or_renew_without_one(world: World) -> None:
    an_account(world)
    headers = signed_in(world)["headers"]
    body = {"password": PASSWORD, "code": "000000"}

    answers = [
        world.client.post(f"{FACTOR}/{what}", json=body, headers=headers) for what in ("remove", "recovery-codes")
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "second_factor_missing")}


def test_guessing_codes_to_remove_it_locks_the_name(world: World, phone: Phone) -> None:
    body = {"password": PASSWORD, "code": phone.wrong}
    for _ in range(5):
        world.client.post(f"{FACTOR}/remove", json=body, headers=phone.headers)

    assert outcome(with_code(world, phone.code())) == "account_locked"


def test_who_manages_staff_resets_it_for_who_lost_the_phone(world: World, phone: Phone) -> None:
    account = phone.me["staff"]
    seen = world.client.get(f"/api/admin/staff/{account['id']}", headers=world.staff()).json()

    changed = change(world, account, world.staff(name="The Boss"), reset_second_factor=True)

    record = trail(world, action="staff.second_factor_reset")[0]
    assert (seen["second_factor"], changed["second_factor"]) == (True, False)
    assert changed["version"] == seen["version"] + 1
    assert (record["actor_name"], record["object_id"]) == ("The Boss", account["id"])
    assert world.client.get("/api/admin/me", headers=phone.headers).status_code == 401
    assert refresh(world, phone.me["refresh_token"]).status_code == 401
    assert sign_in(world).status_code == 201


def test_nobody_resets_their_own_or_that_of_an_account_that_may_more(world: World, phone: Phone) -> None:
    hall = new_id()
    more = an_account(world, "wu", halls=[hall], rights=[Right.EXPORT_UNMASKED])
    manager = world.staff(Role.HALL_ADMIN, [hall], rights=[Right.MANAGE_STAFF])

    own = try_to_change(world, phone.me["staff"], phone.headers, reset_second_factor=True)
    beyond = try_to_change(world, more, manager, reset_second_factor=True)

    assert (outcome(own), outcome(beyond)) == ("own_account", "beyond_yours")


def test_a_reset_password_leaves_the_second_factor(world: World, phone: Phone) -> None:
    given = change(world, phone.me["staff"], reset_password=True)["password"]

    assert outcome(with_code(world, None, password=given)) == "code_needed"
    assert outcome(with_code(world, phone.code(), password=given)) == 201


def test_wrong_passwords_before_a_code_count_as_before(world: World, phone: Phone) -> None:
    fail_to_sign_in(world, times=5)

    assert outcome(with_code(world, phone.code())) == "account_locked"


WRONG_CODES: list[Any] = ["", "x" * 41, 123456, ["000000"], "nul\x00"]


def test_a_code_of_the_wrong_form_is_refused(world: World, phone: Phone) -> None:
    answers = [with_code(world, code) for code in WRONG_CODES]
    strange = [with_code(world, code) for code in ("٠٠٠٠٠٠", "é", "-", " - ")]

    assert {answer.status_code for answer in answers} == {422}
    assert {answer.status_code for answer in strange} <= {401, 422}


# --- who has to have one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/admin/me", "/api/catalog/staff/halls", "/api/booking/staff/joins", ELSEWHERE])
def test_where_it_is_required_nothing_else_is_allowed_before(make_world: Callable[..., World], path: str) -> None:
    world = make_world(second_factor_for="super_admins")
    an_account(world, "lin", role=Role.SUPER_ADMIN)
    me = signed_in(world)

    english = world.client.get(path, headers=me["headers"])
    chinese = world.client.get(path, headers=me["headers"] | {"Accept-Language": "zh"})
    refreshed = bearer(refresh(world, me["refresh_token"]).json()["token"])
    still = world.client.get(path, headers=refreshed)
    _, on = set_factor(world, me["headers"])

    assert me["staff"]["owes"] == "set_up_second_factor"
    assert (english.status_code, english.json()["code"]) == (403, "second_factor_required")
    assert english.json()["detail"] == "Set up a second factor first: your role takes one."
    assert chinese.json()["detail"] == "您的角色需要动态验证码，请先完成绑定"
    assert outcome(still) == "second_factor_required"
    assert on["staff"]["owes"] is None
    assert world.client.get(path, headers=bearer(on["token"])).status_code == 200


def test_it_is_required_of_those_roles_alone_that_the_setting_names(make_world: Callable[..., World]) -> None:
    super_admins, everybody = make_world(second_factor_for="super_admins"), make_world(second_factor_for="everybody")
    for world in (super_admins, everybody):
        an_account(world, "lin", role=Role.VERIFIER)

    assert signed_in(super_admins)["staff"]["owes"] is None
    assert signed_in(everybody)["staff"]["owes"] == "set_up_second_factor"


def test_the_password_is_changed_before_the_second_factor_is_set_up(make_world: Callable[..., World]) -> None:
    world = make_world(second_factor_for="everybody")
    an_account(world, "lin", must_change=True)
    me = signed_in(world)

    early = world.client.post(FACTOR, json={"password": PASSWORD}, headers=me["headers"])
    changed = world.client.post(
        "/api/admin/me/password", json={"current": PASSWORD, "new": "ten-green-lanterns"}, headers=me["headers"]
    ).json()

    assert outcome(early) == "password_change_required"
    assert changed["staff"]["owes"] == "set_up_second_factor"
    assert begin_factor(world, bearer(changed["token"]), "ten-green-lanterns")


def test_who_removes_a_required_one_has_to_set_up_another(make_world: Callable[..., World]) -> None:
    world = make_world(second_factor_for="everybody")
    an_account(world, "lin")
    _, on = set_factor(world, signed_in(world)["headers"])

    body = {"password": PASSWORD, "code": on["recovery_codes"][0]}
    removed = world.client.post(f"{FACTOR}/remove", json=body, headers=bearer(on["token"])).json()

    assert removed["staff"]["owes"] == "set_up_second_factor"
    assert outcome(world.client.get("/api/admin/me", headers=bearer(removed["token"]))) == "second_factor_required"
