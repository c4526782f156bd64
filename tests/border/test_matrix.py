"""Every route × everybody who may ask: who is let in, what strangers see, and that a refusal changes nothing."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from deploy import registry
from libs.contracts.principals import Right, Role
from tests.border.routes import PUBLIC, STAFF, USERS, StaffRoute, Stranger, UserRoute
from tests.border.scene import Caller, Scene
from tests.world import World

SUCCESS = 2
NEEDS_SIGN_IN = (401, "unauthenticated")
NOT_BELIEVED = (401, "token_invalid")
EXPIRED = (401, "token_expired")
ROLE_FORBIDS = (403, "role_forbids")
RIGHT_MISSING = (403, "right_missing")
CHANGE_PASSWORD_FIRST = (403, "password_change_required")
RANKS = [Role.VERIFIER, Role.HALL_ADMIN, Role.SUPER_ADMIN]
OF_STRANGER: dict[Stranger, Any] = {
    Stranger.NOT_FOUND: 404,
    Stranger.FORBIDDEN: ROLE_FORBIDS,
    Stranger.FILTERED: SUCCESS,
    Stranger.ALLOWED: SUCCESS,
    Stranger.NOTHING_TO_DO: (409, "nothing_to_check_in"),
    Stranger.NOT_BY_NAME: (422, "import_faulty"),
    Stranger.NOTHING_TO_CONFIRM: (409, "nothing_to_confirm"),
}


def staff_verdict(route: StaffRoute, caller: Caller) -> Any:
    """Return what this caller is to get from a staff route."""

    def ranked(role: Role, *rights: Right) -> Any:
        if isinstance(route.least, Right):
            return SUCCESS if route.least in rights or role == Role.SUPER_ADMIN else RIGHT_MISSING
        return SUCCESS if RANKS.index(role) >= RANKS.index(route.least) else ROLE_FORBIDS

    def stranger(role: Role, *rights: Right) -> Any:
        in_their_hall = ranked(role, *rights)
        return OF_STRANGER[route.stranger] if in_their_hall == SUCCESS else in_their_hall

    return {
        Caller.ANONYMOUS: NEEDS_SIGN_IN,
        Caller.USER: NOT_BELIEVED,
        Caller.VERIFIER: ranked(Role.VERIFIER),
        Caller.FOREIGN_ADMIN: stranger(Role.HALL_ADMIN),
        Caller.HALL_ADMIN: ranked(Role.HALL_ADMIN),
        Caller.MANAGER: ranked(Role.VERIFIER, Right.MANAGE_STAFF),
        Caller.FOREIGN_MANAGER: stranger(Role.VERIFIER, Right.MANAGE_STAFF),
        Caller.SUPER_ADMIN: SUCCESS,
        Caller.NEW_SUPER_ADMIN: SUCCESS if route.owing else CHANGE_PASSWORD_FIRST,
        Caller.DISABLED_STAFF: NOT_BELIEVED,
        Caller.EXPIRED_STAFF: EXPIRED,
    }[caller]


def user_verdict(route: UserRoute, caller: Caller) -> Any:
    """Return what this caller is to get from a user's route."""
    return {
        Caller.ANONYMOUS: NEEDS_SIGN_IN,
        Caller.USER: SUCCESS,
        Caller.ANOTHER_USER: OF_STRANGER[route.stranger],
        Caller.SUPER_ADMIN: NOT_BELIEVED,
        Caller.EXPIRED_USER: EXPIRED,
    }[caller]


STAFF_CALLERS = [
    Caller.ANONYMOUS,
    Caller.USER,
    Caller.VERIFIER,
    Caller.FOREIGN_ADMIN,
    Caller.HALL_ADMIN,
    Caller.MANAGER,
    Caller.FOREIGN_MANAGER,
    Caller.SUPER_ADMIN,
    Caller.NEW_SUPER_ADMIN,
    Caller.DISABLED_STAFF,
    Caller.EXPIRED_STAFF,
]
STRANGERS = (Caller.FOREIGN_ADMIN, Caller.FOREIGN_MANAGER)
USER_CALLERS = [Caller.ANONYMOUS, Caller.USER, Caller.ANOTHER_USER, Caller.SUPER_ADMIN, Caller.EXPIRED_USER]


def documented(world: World) -> Iterator[tuple[str, str]]:
    """Yield every route of the OpenAPI documents with who it is for: staff, user or anyone."""
    for service in registry.every():
        document = world.client.get(f"{service.prefix}/openapi.json").json()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                schemes = [name for demand in operation.get("security", []) for name in demand]
                yield f"{method.upper()} {path}", " and ".join(schemes) or "anyone"


def test_every_route_is_in_the_table_of_those_it_is_for(shared_world: World) -> None:
    decided = dict.fromkeys(STAFF, "staff") | dict.fromkeys(USERS, "user") | dict.fromkeys(PUBLIC, "anyone")

    assert dict(documented(shared_world)) == decided


@pytest.mark.parametrize("caller", STAFF_CALLERS)
@pytest.mark.parametrize("route", STAFF)
def test_a_staff_route_lets_in_who_may_and_nobody_else(scene: Scene, route: str, caller: Caller) -> None:
    entry = STAFF[route]
    who = scene.newcomer(caller) if entry.spends else scene.headers(caller)
    ask = entry.asking(scene, who)
    wanted = staff_verdict(entry, caller)

    before = scene.data_of(route)
    answer = scene.send(route, ask, who)
    changed = scene.data_of(route) != before

    assert verdict_of(answer, wanted) == wanted, answer.text
    assert changed == (wanted == SUCCESS and not route.startswith("GET ") and not entry.tries)
    if wanted == SUCCESS:
        assert (ask.shows in answer.text) == (caller not in STRANGERS or entry.stranger == Stranger.ALLOWED)


@pytest.mark.parametrize("caller", USER_CALLERS)
@pytest.mark.parametrize("route", USERS)
def test_a_users_route_is_about_its_user_alone(scene: Scene, route: str, caller: Caller) -> None:
    entry = USERS[route]
    ask = entry.ask(scene)
    wanted = user_verdict(entry, caller)

    before, seen = scene.data_of(route), scene.seen_by_the_first_user()
    answer = scene.send(route, ask, scene.newcomer(caller) if entry.spends else scene.headers(caller))

    assert verdict_of(answer, wanted) == wanted, answer.text
    assert wanted == SUCCESS or scene.data_of(route) == before
    assert caller == Caller.USER or scene.seen_by_the_first_user() == seen
    if wanted == SUCCESS:
        assert (ask.shows in answer.text) == (caller == Caller.USER or entry.stranger == Stranger.ALLOWED)


@pytest.mark.parametrize("route", PUBLIC)
def test_a_public_route_is_for_everybody(scene: Scene, route: str) -> None:
    answer = scene.send(route, PUBLIC[route](scene), scene.headers(Caller.ANONYMOUS))

    assert answer.is_success, answer.text


def verdict_of(answer: httpx2.Response, wanted: Any) -> Any:
    """Return the answer's verdict in the form of the wanted one."""
    if answer.is_success:
        return SUCCESS
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return answer.status_code if isinstance(wanted, int) else (answer.status_code, problem["code"])
