"""Signing in, and being locked out."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import httpx2
import pytest
import time_machine
from argon2 import Parameters, PasswordHasher, extract_parameters

from libs.common.clock import utcnow
from libs.common.ratelimit import RateLimiter
from libs.contracts.principals import Role
from tests.admin.builders import ELSEWHERE, PASSWORD, an_account, change, fail_to_sign_in, sign_in, signed_in
from tests.world import World, bearer, simultaneously


def test_signing_in_answers_with_a_token_and_who_it_is_for(world: World) -> None:
    account = an_account(world, "lin", name="林悦")

    answer = sign_in(world, "lin")

    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert set(body) == {"token", "expires_in", "refresh_token", "staff"}
    assert body["expires_in"] == 900
    assert body["staff"] == {
        "id": account["id"],
        "username": "lin",
        "name": "林悦",
        "role": "hall_admin",
        "halls": account["halls"],
        "rights": ["override_check_in"],
        "second_factor": False,
        "must_change_password": False,
        "owes": None,
    }


def test_the_token_opens_the_other_services(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)

    headers = signed_in(world)["headers"]

    assert world.client.get(ELSEWHERE, headers=headers).status_code == 200


def test_a_super_admin_is_for_all_halls(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)

    assert signed_in(world)["staff"]["halls"] is None


def test_capitals_in_the_name_make_no_difference(world: World) -> None:
    an_account(world, "Lin.Yue")

    assert sign_in(world, "LIN.yue").status_code == 201


@pytest.mark.parametrize(
    ("language", "sentence"), [("en", "The name or the password is wrong."), ("zh-CN", "账号或密码错误")]
)
def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(world: World, language: str, sentence: str) -> None:
    an_account(world, "lin")

    wrong = sign_in(world, "lin", "not the password", language=language)
    unknown = sign_in(world, "nobody", "not the password", language=language)

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["detail"] == sentence
    assert {**wrong.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    assert wrong.json()["code"] == "sign_in_failed"


def test_an_unknown_name_costs_what_a_wrong_password_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes the time is argon2: nobody is to be told apart by it."""
    an_account(world, "lin")

    costs: list[Parameters] = []
    verify = PasswordHasher.verify

    def noted(hasher: PasswordHasher, stored: str, password: str) -> bool:
        costs.append(extract_parameters(stored))
        return bool(verify(hasher, stored, password))

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    for username in ("lin", "nobody"):
        fail_to_sign_in(world, username)

    of_known, of_unknown = costs
    assert of_unknown == of_known


def test_five_failures_lock_the_name_even_for_the_right_password(world: World) -> None:
    an_account(world)
    with time_machine.travel(utcnow(), tick=False):
        fifth = fail_to_sign_in(world, times=5)

        english, chinese = sign_in(world), sign_in(world, language="zh-CN")

    assert fifth.status_code == 401
    assert english.status_code == 429
    assert english.json()["code"] == "account_locked"
    assert english.json()["params"]["minutes"] == 15
    assert english.json()["detail"] == "Too many failed sign-ins under this name. Try again in 15 min."
    assert chinese.json()["detail"] == "该账号登录失败次数过多，请15分钟后再试"
    assert english.headers["retry-after"] == "900"


def test_a_stranger_locks_the_name_for_their_own_address_only(world: World) -> None:
    an_account(world)
    stranger = world.client_at("203.0.113.9")
    fail_to_sign_in(world, times=5, client=stranger)

    theirs, ours = sign_in(world, client=stranger), sign_in(world)

    assert (theirs.status_code, theirs.json()["code"]) == (429, "account_locked")
    assert ours.status_code == 201


def test_one_network_of_ipv6_counts_as_one_address(world: World) -> None:
    an_account(world)
    for host in range(1, 6):
        fail_to_sign_in(world, client=world.client_at(f"2001:db8:0:1::{host}"))

    same, next_door = sign_in(world, client=world.client_at("2001:db8:0:1::9")), world.client_at("2001:db8:0:2::9")

    assert same.status_code == 429
    assert sign_in(world, client=next_door).status_code == 201


def test_a_hundred_failures_from_many_addresses_lock_the_name_for_everybody(world: World) -> None:
    an_account(world)
    before = fail_to_sign_in(world, times=4)
    for number in range(24):
        before = fail_to_sign_in(world, times=4, client=world.client_at(f"203.0.113.{number}"))

    everybody = [sign_in(world), sign_in(world, client=world.client_at("198.51.100.1"))]
    with time_machine.travel(utcnow() + timedelta(minutes=16)):
        later = sign_in(world)

    assert before.status_code == 401
    assert [answer.json()["code"] for answer in everybody] == ["account_locked"] * 2
    assert later.status_code == 201


def test_failures_from_many_addresses_count_for_an_hour(world: World) -> None:
    an_account(world)
    for number in range(24):
        fail_to_sign_in(world, times=4, client=world.client_at(f"203.0.113.{number}"))

    with time_machine.travel(utcnow() + timedelta(minutes=61)):
        fail_to_sign_in(world, times=4, client=world.client_at("203.0.113.24"))
        answer = sign_in(world)

    assert answer.status_code == 201


def test_a_name_that_nobody_has_is_locked_just_the_same(world: World) -> None:
    an_account(world, "lin")
    fail_to_sign_in(world, "lin", times=5)
    fail_to_sign_in(world, "nobody", times=5)

    known, unknown = sign_in(world, "lin", "a guess"), sign_in(world, "nobody", "a guess")

    assert known.status_code == unknown.status_code == 429
    assert known.json()["code"] == unknown.json()["code"] == "account_locked"
    assert known.json()["detail"] == unknown.json()["detail"]


def test_a_lock_ends_after_a_quarter_of_an_hour(world: World) -> None:
    an_account(world)
    fail_to_sign_in(world, times=5)

    with time_machine.travel(utcnow() + timedelta(minutes=14)):
        early = sign_in(world)
    with time_machine.travel(utcnow() + timedelta(minutes=16)):
        late = sign_in(world)

    assert (early.status_code, late.status_code) == (429, 201)


def test_each_further_lock_lasts_longer_up_to_two_hours(world: World) -> None:
    an_account(world)
    minutes = []

    with time_machine.travel(utcnow()) as clock:
        for _ in range(5):
            fail_to_sign_in(world, times=5)
            minutes.append(sign_in(world).json()["params"]["minutes"])
            clock.shift(timedelta(minutes=minutes[-1], seconds=1))

    assert minutes == [15, 30, 60, 120, 120]


def test_a_success_forgets_the_failures_before_it(world: World) -> None:
    an_account(world)
    fail_to_sign_in(world, times=4)
    signed_in(world)

    answer = fail_to_sign_in(world, times=4)

    assert answer.status_code == 401
    assert sign_in(world).status_code == 201


def test_failures_of_yesterday_do_not_count(world: World) -> None:
    an_account(world)
    fail_to_sign_in(world, times=4)

    with time_machine.travel(utcnow() + timedelta(hours=25)):
        fail_to_sign_in(world)
        answer = sign_in(world)

    assert answer.status_code == 201


def test_guesses_made_at_once_get_no_more_than_five_verdicts(world: World) -> None:
    an_account(world)

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously([partial(sign_in, world, "lin", "a guess", client=client) for _ in range(16)])

    codes = [answer.json()["code"] for answer in answers]
    assert codes.count("sign_in_failed") == 5
    assert codes.count("account_locked") == 11


def test_people_who_share_an_account_can_sign_in_at_once(world: World) -> None:
    an_account(world)

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously([partial(sign_in, world, client=client) for _ in range(10)])

    assert [answer.status_code for answer in answers] == [201] * 10


def test_one_address_can_try_only_so_often(make_world: Callable[..., World]) -> None:
    world = make_world(sign_in_rate="3/hour")
    for name in ("one", "two", "three"):
        fail_to_sign_in(world, name)

    answer = fail_to_sign_in(world, "four")

    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_requests"
    assert int(answer.headers["retry-after"]) > 0


def test_without_redis_people_sign_in_and_names_are_still_locked(make_world: Callable[..., World]) -> None:
    world = make_world(sign_in_rate="3/hour")
    world.runtimes["admin"].limiter = RateLimiter("redis://127.0.0.1:1/0", service="admin")
    an_account(world, "lin")
    an_account(world, "wu")

    fail_to_sign_in(world, "lin", times=5)

    assert sign_in(world, "lin").json()["code"] == "account_locked"
    assert sign_in(world, "wu").status_code == 201


def test_only_who_knows_the_password_is_told_that_the_account_is_disabled(world: World) -> None:
    account = an_account(world)
    change(world, account, disabled=True)

    wrong, right = fail_to_sign_in(world), sign_in(world)
    chinese = sign_in(world, language="zh-CN")

    assert (wrong.status_code, wrong.json()["code"]) == (401, "sign_in_failed")
    assert (right.status_code, right.json()["code"]) == (403, "account_disabled")
    assert right.json()["detail"] == "This account is disabled. Ask an administrator to enable it."
    assert chinese.json()["detail"] == "该账号已停用，请联系管理员启用"


WRONG_SIGN_INS: list[dict[str, object]] = [
    {},
    {"username": "lin"},
    {"username": "", "password": PASSWORD},
    {"username": "lin", "password": ""},
    {"username": "lin\x00", "password": PASSWORD},
    {"username": "lin", "password": "\ud800"},
    {"username": "\udfff", "password": PASSWORD},
    {"username": ["lin"], "password": PASSWORD},
    {"username": "lin", "password": 12345678901},
    {"username": "x" * 101, "password": PASSWORD},
    {"username": "lin", "password": "x" * 201},
    {"username": "lin", "password": PASSWORD, "remember": True},
    {"username": "lin", "password": PASSWORD, "\ud800": True},
]


def test_a_sign_in_of_the_wrong_form_is_refused(world: World) -> None:
    headers = {"Content-Type": "application/json"}
    written = [json.dumps(body) for body in WRONG_SIGN_INS]  # in ASCII, as a client can spell what is no text

    answers = [world.client.post("/api/admin/sessions", content=body, headers=headers) for body in written]

    assert [answer.status_code for answer in answers] == [422] * len(WRONG_SIGN_INS)
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


def test_spaces_belong_to_a_password(world: World) -> None:
    an_account(world, password="  two spaces  ")

    assert sign_in(world, password="  two spaces  ").status_code == 201
    assert sign_in(world, password="two spaces").status_code == 401


def test_me_shows_the_account_as_it_is_now(world: World) -> None:
    account = an_account(world, name="Lin Yue")
    before = signed_in(world)
    change(world, account, name="Lin Yue-Chen")

    answer = world.client.get("/api/admin/me", headers=before["headers"])

    assert answer.json() == before["staff"] | {"name": "Lin Yue-Chen"}


def test_a_token_of_an_account_that_is_not_here_shows_nobody(world: World) -> None:
    answer = world.client.get("/api/admin/me", headers=world.staff())

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_without_a_token_me_is_refused(world: World) -> None:
    assert world.client.get("/api/admin/me").status_code == 401
    assert world.client.get("/api/admin/me", headers=bearer("nonsense")).status_code == 401
