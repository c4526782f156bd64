"""Which staff tokens are believed."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.tokens import TokenKeys, new_shared_key, new_signing_key, public_part
from libs.contracts.principals import Role, Staff, issue_staff_token
from tests.admin.builders import an_account, signed_in
from tests.world import KEYS, World, bearer


def a_token(*keys: dict[str, Any], age: timedelta = timedelta(0), audience: str = "staff") -> str:
    staff = Staff(id=new_id(), name="boss", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
    signer = TokenKeys(list(keys), algorithm="Ed25519", audience=audience)
    return issue_staff_token(signer, staff, now=utcnow() - age)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def the_claims() -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(a_token(*KEYS["staff_token_keys"]).split(".")[1] + "==")))


def status_and_code(world: World, token: str) -> tuple[int, str]:
    answer = world.client.get("/api/admin/staff", headers=bearer(token))
    if answer.status_code == 200:
        return 200, ""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status_code, answer.json()["code"]


def test_a_token_of_an_older_key_is_believed_while_the_key_is_listed(make_world: Callable[..., World]) -> None:
    old, new = new_signing_key("2025"), new_signing_key("2026")
    world = make_world(staff_token_keys=[new, public_part(old)])

    assert status_and_code(world, a_token(old)) == (200, "")
    assert status_and_code(world, a_token(new)) == (200, "")


def test_new_tokens_are_signed_by_the_first_key_that_can(make_world: Callable[..., World]) -> None:
    old, new = new_signing_key("2025"), new_signing_key("2026")
    world = make_world(staff_token_keys=[public_part(new), old])
    an_account(world)

    token = signed_in(world)["token"]

    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header["kid"] == "2025"
    assert world.client.get("/api/admin/me", headers=bearer(token)).status_code == 200


def test_a_token_of_a_key_that_is_not_listed_is_refused(world: World) -> None:
    assert status_and_code(world, a_token(new_signing_key("unknown"))) == (401, "token_invalid")


def test_a_token_that_only_claims_our_key_is_refused(world: World) -> None:
    assert status_and_code(world, a_token(new_signing_key("staff-1"))) == (401, "token_invalid")


UNSIGNED = ["none", "None", "NONE"]


def test_an_unsigned_token_is_refused(world: World) -> None:
    tokens = [f"{part({'alg': algorithm, 'kid': 'staff-1'})}.{part(the_claims())}." for algorithm in UNSIGNED]

    assert {status_and_code(world, token) for token in tokens} == {(401, "token_invalid")}


def test_a_token_signed_with_our_public_key_as_a_secret_is_refused(world: World) -> None:
    public = base64.urlsafe_b64decode(KEYS["staff_token_keys"][0]["x"] + "==")
    key = OctKey.import_key(public)

    token = jwt.encode({"alg": "HS256", "kid": "staff-1"}, the_claims(), key, algorithms=["HS256"])

    assert status_and_code(world, token) == (401, "token_invalid")


def test_an_expired_token_is_refused(world: World) -> None:
    token = a_token(*KEYS["staff_token_keys"], age=timedelta(minutes=15))

    assert status_and_code(world, token) == (401, "token_expired")


def test_an_altered_token_is_refused(world: World) -> None:
    header, _, signature = a_token(*KEYS["staff_token_keys"]).split(".")

    token = f"{header}.{part(the_claims() | {'name': 'somebody else'})}.{signature}"

    assert status_and_code(world, token) == (401, "token_invalid")


def test_a_token_for_another_audience_is_refused(world: World) -> None:
    token = a_token(*KEYS["staff_token_keys"], audience="user")

    assert status_and_code(world, token) == (401, "token_invalid")


def test_a_users_token_is_refused(world: World) -> None:
    signer = TokenKeys([new_shared_key("user-1")], algorithm="HS256", audience="user")
    token = signer.sign({"sub": new_id()}, now=utcnow(), lifetime=timedelta(days=1))

    assert status_and_code(world, token) == (401, "token_invalid")


NO_TOKENS = ["x", "a.b.c", "..", "e30.e30.e30", "W10.W10.AA", "." * 5000]


def test_what_is_no_token_is_refused(world: World) -> None:
    assert {status_and_code(world, token) for token in NO_TOKENS} == {(401, "token_invalid")}
