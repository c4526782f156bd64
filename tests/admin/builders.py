"""Staff accounts, made and signed in as people would do it."""

from collections.abc import Iterable
from typing import Any

import httpx2
import pyotp
from sqlalchemy import update

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.contracts.catalog import HallChanged, HallStatus
from libs.contracts.principals import Right, Role
from services.admin.handlers import consumer
from services.admin.models import StaffAccount
from tests.world import World, bearer

PASSWORD = "nine-red-lanterns"
ELSEWHERE = "/api/notify/staff/announcements"  # a staff route of another service


def there_are(world: World, *halls: str) -> None:
    """Let admin hear of halls from catalog."""
    for hall_id in halls:
        fact = HallChanged(
            version=1, hall_id=hall_id, name="厅", address="", timezone="Asia/Shanghai", status=HallStatus.OPEN
        )
        message = Message(
            id=new_id(),
            type=fact.type,
            source="catalog",
            subject=hall_id,
            time=utcnow(),
            version=1,
            data=fact.model_dump(mode="json"),
        )
        consumer.receive(world.runtimes["admin"].db, message)


def an_account(
    world: World,
    username: str = "lin",
    *,
    role: Role = Role.HALL_ADMIN,
    halls: list[str] | None = None,
    rights: Iterable[Right] = (),
    name: str = "Lin Yue",
    password: str = PASSWORD,
    must_change: bool = False,
) -> dict[str, Any]:
    """Let a super admin make an account for halls that there are, and return it; a hall admin or verifier without halls gets one.

    The password counts as chosen by its owner, unless they are to find that they `must_change` it.
    """
    if halls is None:
        halls = [] if role == Role.SUPER_ADMIN else [new_id()]
    there_are(world, *halls)
    body = {"username": username, "name": name, "role": role, "halls": halls, "password": password}
    body |= {"rights": list(rights)}
    answer = world.client.post("/api/admin/staff", json=body, headers=world.staff())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    if not must_change:
        with world.runtimes["admin"].db.transaction() as session:
            session.execute(
                update(StaffAccount).where(StaffAccount.id == made["id"]).values(must_change_password=False)
            )
    return made | {"must_change_password": must_change}


def sign_in(
    world: World,
    username: str = "lin",
    password: str = PASSWORD,
    *,
    code: Any = None,
    language: str = "en",
    client: Any = None,
) -> httpx2.Response:
    """Try to sign in."""
    body = {"username": username, "password": password} | ({} if code is None else {"code": code})
    answer: httpx2.Response = (client or world.client).post(
        "/api/admin/sessions",
        json=body,
        headers={"Accept-Language": language},
    )
    return answer


def signed_in(world: World, username: str = "lin", password: str = PASSWORD) -> dict[str, Any]:
    """Sign in and return the answer, with the headers for further requests beside it."""
    answer = sign_in(world, username, password)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body | {"headers": bearer(body["token"])}


def fail_to_sign_in(world: World, username: str = "lin", *, times: int = 1, client: Any = None) -> httpx2.Response:
    """Sign in with a wrong password, and return the last answer."""
    return [sign_in(world, username, "not the password", client=client) for _ in range(times)][-1]


def begin_factor(world: World, headers: dict[str, str], password: str = PASSWORD) -> str:
    """Begin to set up a second factor, and return its secret."""
    answer = world.client.post("/api/admin/me/second-factor", json={"password": password}, headers=headers)
    assert answer.status_code == 201, answer.text
    secret: str = answer.json()["secret"]
    return secret


def set_factor(world: World, headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Set up a second factor; return its secret, and the answer with the next token and the recovery codes."""
    secret = begin_factor(world, headers)
    body = {"code": pyotp.TOTP(secret).at(utcnow())}
    answer = world.client.post("/api/admin/me/second-factor/confirm", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return secret, answer.json()


def refresh(world: World, token: str, *, client: Any = None) -> httpx2.Response:
    """Exchange a refresh token."""
    answer: httpx2.Response = (client or world.client).post(
        "/api/admin/sessions/refresh", json={"refresh_token": token}, headers={"Accept-Language": "en"}
    )
    return answer


def try_to_change(
    world: World, account: dict[str, Any], headers: dict[str, str] | None = None, **wish: Any
) -> httpx2.Response:
    """Let a super admin (or whose headers these are) try to change an account."""
    answer: httpx2.Response = world.client.patch(
        f"/api/admin/staff/{account['id']}", json=wish, headers=headers or world.staff()
    )
    return answer


def change(world: World, account: dict[str, Any], headers: dict[str, str] | None = None, **wish: Any) -> dict[str, Any]:
    """Change an account, to halls that there are, and return it."""
    there_are(world, *wish.get("halls", []))
    answer = try_to_change(world, account, headers, **wish)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


def trail(world: World, headers: dict[str, str] | None = None, **query: Any) -> list[dict[str, Any]]:
    """Let everything arrive and return the audit trail, newest first."""
    world.settle()
    answer = world.client.get("/api/admin/audit", params={"limit": 100} | query, headers=headers or world.staff())
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def actions(world: World, **query: Any) -> list[str]:
    """Return what was done, oldest first."""
    return [record["action"] for record in reversed(trail(world, **query))]
