"""Staying signed in, signing out, and what becomes of stolen tokens."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
import time_machine
from sqlalchemy import delete

from libs.common import outbox
from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.sign_ins import EndedSignIn
from libs.contracts.admin import StaffSignedOut
from libs.contracts.principals import Right, Role
from services.admin import staff
from tests.admin.builders import ELSEWHERE, actions, an_account, change, refresh, sign_in, signed_in, trail
from tests.world import World, bearer, simultaneously

NOBODYS = "0198f000-0000-7000-8000-000000000000"


def test_a_refresh_token_gets_the_next_pair(world: World) -> None:
    an_account(world)
    first = signed_in(world)

    with time_machine.travel(utcnow() + timedelta(minutes=20)):
        expired = world.client.get("/api/admin/me", headers=first["headers"])
        answer = refresh(world, first["refresh_token"])
        again = world.client.get("/api/admin/me", headers=bearer(answer.json()["token"]))

    assert expired.json()["code"] == "token_expired"
    assert answer.status_code == 200
    assert answer.json()["staff"] == first["staff"]
    assert answer.json()["refresh_token"] != first["refresh_token"]
    assert again.status_code == 200


def test_a_refreshed_token_carries_the_present_role_and_halls(world: World) -> None:
    account = an_account(world, role=Role.VERIFIER)
    first = signed_in(world)
    hall = new_id()
    change(world, account, role="hall_admin", halls=[hall])

    second = refresh(world, first["refresh_token"]).json()

    assert second["staff"]["role"] == "hall_admin"
    assert second["staff"]["halls"] == [hall]
    assert world.client.get("/api/admin/audit", headers=bearer(second["token"])).status_code == 200


@pytest.fixture
def still() -> Iterator[None]:
    """Let time stand still: what is asked for again is asked for at once."""
    with time_machine.travel(utcnow(), tick=False):
        yield


@pytest.mark.usefixtures("still")
def test_a_lost_answer_can_be_asked_for_again_at_once(world: World) -> None:
    an_account(world)
    first = signed_in(world)["refresh_token"]

    lost = refresh(world, first).json()["refresh_token"]
    repeated = refresh(world, first).json()["refresh_token"]

    assert repeated == lost
    assert refresh(world, repeated).status_code == 200


@pytest.mark.usefixtures("still")
def test_two_tabs_that_refresh_at_once_both_stay_signed_in(world: World) -> None:
    an_account(world)
    first = signed_in(world)["refresh_token"]

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        answers = simultaneously([partial(refresh, world, first, client=client) for _ in range(6)])

    tokens = {answer.json()["refresh_token"] for answer in answers}
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(tokens) == 1
    assert refresh(world, tokens.pop()).status_code == 200


def test_a_refresh_token_used_again_later_ends_the_session(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    first = signed_in(world)["refresh_token"]
    second = refresh(world, first).json()

    with time_machine.travel(utcnow() + timedelta(seconds=30)):
        reused = refresh(world, first)
        honest = refresh(world, second["refresh_token"])
        world.settle()
        here = world.client.get("/api/admin/me", headers=bearer(second["token"]))
        elsewhere = world.client.get(ELSEWHERE, headers=bearer(second["token"]))

    assert (reused.status_code, reused.json()["code"]) == (401, "session_ended")
    assert (honest.status_code, honest.json()["code"]) == (401, "session_ended")
    assert here.status_code == elsewhere.status_code == 401
    assert "staff.token_reused" in actions(world)


def test_an_old_refresh_token_ends_the_session_however_soon_it_comes(world: World) -> None:
    an_account(world)
    first = signed_in(world)["refresh_token"]
    second = refresh(world, first).json()["refresh_token"]
    third = refresh(world, second).json()["refresh_token"]

    assert refresh(world, first).status_code == 401
    assert refresh(world, third).status_code == 401


def test_a_theft_on_one_device_leaves_the_sessions_of_the_others(world: World) -> None:
    an_account(world)
    phone, desk = signed_in(world)["refresh_token"], signed_in(world)["refresh_token"]
    refresh(world, phone)
    with time_machine.travel(utcnow() + timedelta(seconds=30)):
        refresh(world, phone)

        assert refresh(world, desk).status_code == 200


def test_a_session_ends_after_a_week_without_use(world: World) -> None:
    an_account(world)
    token = signed_in(world)["refresh_token"]

    with time_machine.travel(utcnow() + timedelta(days=7, seconds=1)):
        answer = refresh(world, token)

    assert answer.json()["code"] == "session_ended"
    assert answer.json()["detail"] == "Your sign-in has ended. Sign in again."


def test_a_session_ends_after_a_month_however_often_it_is_used(world: World) -> None:
    an_account(world)
    token = signed_in(world)["refresh_token"]
    days = 0

    with time_machine.travel(utcnow()) as clock:
        while (answer := refresh(world, token)).status_code == 200:
            token = answer.json()["refresh_token"]
            days += 3
            clock.shift(timedelta(days=3))

    assert days == 30


NO_REFRESH_TOKENS = ["nonsense", ".", f"{NOBODYS}.secret", NOBODYS, "é" * 36 + ".x"]


def test_what_is_no_refresh_token_is_refused(world: World) -> None:
    answers = [refresh(world, token) for token in NO_REFRESH_TOKENS]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "session_ended")}


def test_signing_out_ends_this_session_and_no_other(world: World) -> None:
    an_account(world)
    phone, desk = signed_in(world), signed_in(world)

    answer = world.client.delete("/api/admin/sessions/current", headers=phone["headers"])
    again = world.client.delete("/api/admin/sessions/current", headers=phone["headers"])

    assert answer.status_code == again.status_code == 204
    assert refresh(world, phone["refresh_token"]).status_code == 401
    assert refresh(world, desk["refresh_token"]).status_code == 200
    assert actions(world).count("staff.signed_out") == 1


def test_signing_out_everywhere_voids_all_tokens_of_the_account_in_every_service(world: World) -> None:
    an_account(world, "lin", role=Role.SUPER_ADMIN)
    an_account(world, "wu", role=Role.SUPER_ADMIN)
    phone, desk, other = signed_in(world, "lin"), signed_in(world, "lin"), signed_in(world, "wu")

    answer = world.client.post("/api/admin/sessions/sign-out-everywhere", headers=phone["headers"])

    assert answer.status_code == 204
    assert world.client.get("/api/admin/me", headers=desk["headers"]).status_code == 401
    assert refresh(world, phone["refresh_token"]).status_code == 401
    assert refresh(world, desk["refresh_token"]).status_code == 401
    world.settle()
    assert world.client.get(ELSEWHERE, headers=desk["headers"]).json()["code"] == "token_invalid"
    assert world.client.get(ELSEWHERE, headers=other["headers"]).status_code == 200


def test_a_service_that_lost_its_memory_of_void_tokens_can_be_told_again(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    mine = signed_in(world)
    world.client.post("/api/admin/sessions/sign-out-everywhere", headers=mine["headers"])
    world.settle()
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(delete(EndedSignIn))
    forgotten = world.client.get(ELSEWHERE, headers=mine["headers"])

    outbox.republish(world.runtimes["admin"].db, staff.facts)
    world.settle()

    assert forgotten.status_code == 200
    assert world.client.get(ELSEWHERE, headers=mine["headers"]).status_code == 401


def test_after_signing_out_everywhere_one_can_sign_in_again(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    world.client.post("/api/admin/sessions/sign-out-everywhere", headers=signed_in(world)["headers"])
    world.settle()

    headers = signed_in(world)["headers"]

    assert world.client.get("/api/admin/me", headers=headers).status_code == 200
    assert world.client.get(ELSEWHERE, headers=headers).status_code == 200


def test_a_disabled_account_is_out_everywhere(world: World) -> None:
    account = an_account(world, role=Role.SUPER_ADMIN)
    an_account(world, "the-other", role=Role.SUPER_ADMIN)
    mine = signed_in(world)

    change(world, account, disabled=True)

    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 401
    assert refresh(world, mine["refresh_token"]).status_code == 401
    world.settle()
    assert world.client.get(ELSEWHERE, headers=mine["headers"]).status_code == 401


def test_an_enabled_account_signs_in_again_but_its_old_session_stays_ended(world: World) -> None:
    account = an_account(world)
    mine = signed_in(world)
    change(world, account, disabled=True)

    change(world, account, disabled=False)

    assert sign_in(world).status_code == 201
    assert refresh(world, mine["refresh_token"]).status_code == 401
    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 401


def test_signing_in_and_being_disabled_at_once_leaves_nobody_signed_in(world: World) -> None:
    account = an_account(world)
    boss = world.staff()

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:

        def disable() -> httpx2.Response:
            return client.patch(f"/api/admin/staff/{account['id']}", json={"disabled": True}, headers=boss)

        *tries, disabled = simultaneously([*(partial(sign_in, world, client=client) for _ in range(6)), disable])

    opened = [answer.json() for answer in tries if answer.status_code == 201]
    assert disabled.status_code == 200
    assert {refresh(world, body["refresh_token"]).status_code for body in opened} <= {401}
    assert {world.client.get("/api/admin/me", headers=bearer(body["token"])).status_code for body in opened} <= {401}


# --- seen and ended one by one ---


def sessions_of(world: World, headers: dict[str, str], staff_id: str | None = None) -> list[dict[str, Any]]:
    """List one's own sessions, or those of an account."""
    path = "/api/admin/sessions" if staff_id is None else f"/api/admin/staff/{staff_id}/sessions"
    answer = world.client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_everybody_sees_where_they_are_signed_in(world: World) -> None:
    an_account(world, "lin")
    an_account(world, "wu")
    signed_in(world, "wu")
    desk = signed_in(world, "lin")
    phone = sign_in(world, "lin", client=world.client_at("203.0.113.9")).json()

    found = sessions_of(world, desk["headers"])

    assert [(one["address"], one["current"]) for one in found] == [("203.0.113.9", False), ("testclient", True)]
    assert [one["current"] for one in sessions_of(world, bearer(phone["token"]))] == [True, False]
    assert not {"token_hash", "seed"} & set(found[0])


def test_a_session_that_is_over_is_not_listed(world: World) -> None:
    an_account(world)
    signed_out, forgotten = signed_in(world), signed_in(world)
    world.client.delete("/api/admin/sessions/current", headers=signed_out["headers"])

    with time_machine.travel(utcnow() + timedelta(days=8)):
        mine = signed_in(world)
        found = sessions_of(world, mine["headers"])

    assert forgotten["staff"] == mine["staff"]
    assert [one["current"] for one in found] == [True]


def test_a_lost_phone_is_out_at_once_and_the_desk_goes_on(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    phone, desk = signed_in(world), signed_in(world)
    [lost] = [one["id"] for one in sessions_of(world, desk["headers"]) if not one["current"]]

    answer = world.client.delete(f"/api/admin/sessions/{lost}", headers=desk["headers"])

    world.settle()
    assert answer.status_code == 204
    assert refresh(world, phone["refresh_token"]).status_code == 401
    assert world.client.get("/api/admin/me", headers=phone["headers"]).status_code == 401
    assert world.client.get(ELSEWHERE, headers=phone["headers"]).status_code == 401
    again = bearer(refresh(world, desk["refresh_token"]).json()["token"])
    assert world.client.get(ELSEWHERE, headers=again).status_code == 200
    assert [one["current"] for one in sessions_of(world, again)] == [True]
    assert "staff.session_ended" in actions(world)


def test_nobody_ends_the_session_of_somebody_else_as_their_own(world: World) -> None:
    an_account(world, "lin")
    an_account(world, "wu")
    mine, other = signed_in(world, "lin"), signed_in(world, "wu")
    [theirs] = sessions_of(world, other["headers"])

    answers = [
        world.client.delete(f"/api/admin/sessions/{session_id}", headers=mine["headers"])
        for session_id in (theirs["id"], NOBODYS, "x")
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert refresh(world, other["refresh_token"]).status_code == 200
    assert world.client.get("/api/admin/me", headers=mine["headers"]).status_code == 200


def test_who_manages_staff_ends_one_session_of_an_account(world: World) -> None:
    account = an_account(world)
    phone, desk = signed_in(world), signed_in(world)
    boss = world.staff()
    newest, oldest = sessions_of(world, boss, account["id"])

    answer = world.client.delete(f"/api/admin/staff/{account['id']}/sessions/{oldest['id']}", headers=boss)
    again = world.client.delete(f"/api/admin/staff/{account['id']}/sessions/{oldest['id']}", headers=boss)

    assert (answer.status_code, again.status_code) == (204, 404)
    assert [one["id"] for one in sessions_of(world, boss, account["id"])] == [newest["id"]]
    assert refresh(world, phone["refresh_token"]).status_code == 401
    assert world.client.get("/api/admin/me", headers=phone["headers"]).status_code == 401
    assert refresh(world, desk["refresh_token"]).status_code == 200


def test_who_manages_staff_signs_an_account_out_everywhere(world: World) -> None:
    account = an_account(world, role=Role.SUPER_ADMIN)
    mine = signed_in(world)

    answer = world.client.post(f"/api/admin/staff/{account['id']}/sign-out", headers=world.staff(name="The Boss"))

    world.settle()
    record = trail(world, action="staff.signed_out_everywhere")[0]
    assert answer.status_code == 204
    assert refresh(world, mine["refresh_token"]).status_code == 401
    assert world.client.get(ELSEWHERE, headers=mine["headers"]).status_code == 401
    assert (record["actor_name"], record["object_id"]) == ("The Boss", account["id"])


def test_nobody_ends_sessions_of_an_account_that_may_more_than_they(world: World) -> None:
    hall = new_id()
    account = an_account(world, halls=[hall], rights=[Right.EXPORT_UNMASKED])
    mine = signed_in(world)
    manager = world.staff(Role.HALL_ADMIN, [hall], rights=[Right.MANAGE_STAFF])
    [session] = sessions_of(world, manager, account["id"])

    answers = [
        world.client.delete(f"/api/admin/staff/{account['id']}/sessions/{session['id']}", headers=manager),
        world.client.post(f"/api/admin/staff/{account['id']}/sign-out", headers=manager),
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "beyond_yours")}
    assert refresh(world, mine["refresh_token"]).status_code == 200


@pytest.mark.usefixtures("still")
def test_a_session_ended_while_it_refreshes_stays_ended(world: World) -> None:
    account = an_account(world)
    mine = signed_in(world)
    boss = world.staff()
    [session] = sessions_of(world, boss, account["id"])

    with world.serve() as address, httpx2.Client(base_url=address, timeout=60) as client:
        end = partial(client.delete, f"/api/admin/staff/{account['id']}/sessions/{session['id']}", headers=boss)
        *refreshed, ended = simultaneously([*[partial(refresh, world, mine["refresh_token"], client=client)] * 6, end])

    tokens = [answer.json() for answer in refreshed if answer.status_code == 200]
    assert ended.status_code == 204
    assert {refresh(world, one["refresh_token"]).status_code for one in tokens} <= {401}
    assert {world.client.get("/api/admin/me", headers=bearer(one["token"])).status_code for one in tokens} <= {401}


def test_a_sign_out_waits_behind_nothing_else(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)
    signed = signed_in(world)
    world.settle()
    routes = ("/api/catalog/staff/halls", "/api/booking/staff/joins", "/api/notify/staff/stats")
    assert [world.client.get(path, headers=signed["headers"]).status_code for path in routes] == [200, 200, 200]

    world.client.post("/api/admin/sessions/sign-out-everywhere", headers=signed["headers"])
    while any(relay.relay_once() for relay in world.relays):
        pass
    of_sign_outs = [queue for queue in world.queues if StaffSignedOut.type in queue.consumer.types]
    assert [queue.consumer.types for queue in of_sign_outs] == [[StaffSignedOut.type]] * len(world.runtimes)
    for queue in of_sign_outs:
        queue.consume_once()

    assert [world.client.get(path, headers=signed["headers"]).status_code for path in routes] == [401, 401, 401]
