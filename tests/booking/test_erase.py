"""A user takes their data along, and is erased: gone from every table of every service, while the stats stay."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import time_machine
from sqlalchemy import text

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from tests.booking.builders import (
    NAME,
    Headers,
    Place,
    a_slot,
    book,
    booked,
    cancel,
    check_in,
    checked_in,
    code_of,
    do,
    move,
    my_join,
    people_booked,
    recorded,
    revoke,
    stock,
    user_id,
)
from tests.booking.waiting import a_full_slot, waiting
from tests.world import World, simultaneously

ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="item", required=False)
FORM = [NAME, ID_CARD]
PERSON = "11010519491231002X"
SECRETS = ("openid-of-wang", "王小明", "13800138000", PERSON, "王先生来电")


def a_visitor(world: World) -> Headers:
    user = world.user("openid-of-wang")
    profile = {"name": "王小明", "phone": "13800138000"}
    assert world.client.patch("/api/booking/me", json=profile, headers=user).is_success
    return user


def erase(world: World, user: Headers) -> httpx2.Response:
    return world.client.delete("/api/booking/me", headers=user)


def traces(world: World) -> list[str]:
    """Return which secrets stand in clear in which table of any service."""
    found = []
    for name, runtime in world.runtimes.items():
        with runtime.db.transaction() as session:
            tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")).all()
            for table in tables:
                rows = "\n".join(session.scalars(text(f"SELECT t::text FROM {table} t")))  # our own names
                found += [f"{secret} in {name}.{table}" for secret in SECRETS if secret in rows]
    return found


def kept(world: World, query: str) -> Any:
    with world.runtimes["booking"].db.transaction() as session:
        return session.scalar(text(query))


def stats(world: World) -> Any:
    world.settle()
    return world.client.get("/api/notify/staff/stats", headers=world.staff()).json()["items"]


# --- taking one's data along ---


def test_staff_hand_over_the_data_of_who_asks_for_it_on_record(world: World) -> None:
    place, user = a_slot(world, form=FORM), a_visitor(world)
    booked(world, user, place.slot_id, "王小明", id_card=PERSON)
    wang, own = user_id(world, user), world.client.get("/api/booking/me/data", headers=user)
    path, body = f"/api/booking/staff/users/{wang}/data", {"reason": "本人书面申请"}

    answer = world.client.post(path, json=body, headers=world.staff())
    silent = world.client.post(path, json={"reason": ""}, headers=world.staff())
    by_admin = world.client.post(path, json=body, headers=world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.json() == own.json()
    assert PERSON in answer.text
    assert (answer.headers["Content-Disposition"], answer.headers["Cache-Control"]) == (
        own.headers["Content-Disposition"],
        "private, no-store",
    )
    assert [code_of(refused) for refused in (silent, by_admin)] == [(422, "invalid"), (403, "role_forbids")]
    [row] = recorded(world, "audit.recorded")
    assert (row.data["action"], row.data["object_id"], row.data["reason"]) == ("user.data_shown", wang, body["reason"])
    erase(world, user)
    assert code_of(world.client.post(path, json=body, headers=world.staff())) == (404, "not_found")


def test_a_user_takes_all_of_it_along_and_nothing_of_others(world: World) -> None:
    place = a_slot(world, form=FORM, party_max=2, cancel="anytime")
    user = a_visitor(world)
    first, gone = booked(world, user, place.slot_id, "王小明", "李四", id_card=PERSON)
    cancel(world, user, gone["id"])
    booked(world, world.user("li"), place.slot_id)

    answer = world.client.get("/api/booking/me/data", headers=user)

    data = answer.json()
    assert data["user"] == world.client.get("/api/booking/me", headers=user).json()
    shown = [my_join(world, user, join["id"]) for join in (gone, first)]
    assert data["joins"] == [{name: value for name, value in join.items() if name != "form"} for join in shown]
    assert data["joins"][1]["answers"] == {"name": "王小明", "id_card": PERSON}
    assert answer.headers["Content-Disposition"].startswith("attachment")


# --- being erased ---


def a_past(world: World, user: Headers) -> tuple[Place, Place]:
    """Let the user do all that leaves a trace; return a slot that is on, and one that is ahead."""
    now = a_slot(world, form=FORM, max_per_slot=9, starts_in=timedelta(minutes=-5), cancel="anytime")
    ahead = a_slot(world, form=FORM, max_per_slot=9, capacity=4, cancel="never")
    [come] = booked(world, user, now.slot_id, "王小明", id_card=PERSON)
    [revoked] = booked(world, user, now.slot_id, "王小明")
    [moved] = booked(world, user, now.slot_id, "王小明")
    booked(world, user, ahead.slot_id, "王小明", id_card=PERSON)
    checked_in(world, come["id"])
    revoke(world, revoked["id"], reason="王先生来电")
    move(world, user, moved["id"], now.another_slot().slot_id)
    body = {"reason": "王先生来电"}
    for path in (f"joins/{come['id']}/unmask", f"users/{user_id(world, user)}/unmask"):
        assert world.client.post(f"/api/booking/staff/{path}", json=body, headers=world.staff()).is_success
    do(world, "find")
    world.settle()
    return now, ahead


def test_an_erased_user_is_gone_from_every_table(world: World) -> None:
    user = a_visitor(world)
    a_past(world, user)
    assert {trace.partition(" ")[0] for trace in traces(world)} == {"openid-of-wang", "王小明", "王先生来电"}

    assert erase(world, user).status_code == 204
    world.settle()
    do(world, "find")

    with time_machine.travel(datetime.now(UTC) + timedelta(days=2)):  # published events are kept for a day
        do(world, "upkeep")
    assert traces(world) == []
    assert kept(world, "SELECT count(*) FROM joins WHERE sealed IS NOT NULL OR answers <> '{}'") == 0
    assert kept(world, "SELECT count(*) FROM findables WHERE words <> '' OR digests <> '{}'") == 0
    assert kept(world, "SELECT count(*) FROM users WHERE phone_sealed IS NOT NULL OR phone_digest IS NOT NULL") == 0
    assert kept(world, "SELECT (SELECT count(*) FROM claims) + (SELECT count(*) FROM successes)") == 0


@pytest.mark.parametrize("days", [0, 400])
def test_reasons_about_waits_of_an_erased_user_are_gone_however_old(world: World, days: int) -> None:
    place, _, _ = a_full_slot(world)
    user, other = a_visitor(world), world.user("li")
    reasons = {
        waiting(world, user, place.slot_id)["id"]: "王先生来电",
        waiting(world, other, place.slot_id)["id"]: "重复",
    }
    for wait_id, reason in reasons.items():
        path = f"/api/booking/staff/waits/{wait_id}/remove"
        assert world.client.post(path, json={"reason": reason}, headers=world.staff()).is_success

    with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
        do(world, "upkeep")
        user = world.user("openid-of-wang")  # tokens last for a day
        assert erase(world, user).status_code == 204
    world.settle()

    def on_record(wait_id: str) -> list[str]:
        query = {"object_id": wait_id}
        trail = world.client.get("/api/admin/audit", params=query, headers=world.staff()).json()["items"]
        return [record["reason"] for record in trail]

    assert [on_record(wait_id) for wait_id in reasons] == [[""], ["重复"]]


def test_the_stats_of_an_erased_user_stay_and_their_places_ahead_are_free(world: World) -> None:
    user = a_visitor(world)
    now, ahead = a_past(world, user)
    before = {stat["slot_id"]: stat for stat in stats(world)}

    erase(world, user)

    after = {stat["slot_id"]: stat for stat in stats(world)}
    was, is_now = before[now.slot_id], after[now.slot_id]
    assert {name: is_now[name] for name in ("booked", "checked_in", "revoked")} == {
        name: was[name] for name in ("booked", "checked_in", "revoked")
    }
    assert (before[ahead.slot_id]["booked"], after[ahead.slot_id]["booked"]) == (1, 0)
    assert after[ahead.slot_id]["cancelled"] == 1
    assert stock(world, ahead.slot_id)["taken"] == people_booked(world, ahead.slot_id) == 0
    assert booked(world, world.user("li"), ahead.slot_id, "李四", id_card=PERSON)


def test_an_erased_user_is_nobody_and_signs_in_as_somebody_new(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    user = a_visitor(world)
    was = user_id(world, user)
    key = new_id()
    assert book(world, user, place.slot_id, key=key).is_success
    erase(world, user)

    answers = [
        world.client.get("/api/booking/me", headers=user),
        world.client.patch("/api/booking/me", json={"name": "王小明"}, headers=user),
        world.client.get("/api/booking/me/data", headers=user),
        erase(world, user),
    ]

    assert [code_of(answer) for answer in answers] == [(401, "unauthenticated")] * 4
    assert code_of(book(world, user, place.slot_id, key=key)) == (403, "user_disabled")
    assert code_of(world.client.get(f"/api/booking/staff/users/{was}", headers=world.staff())) == (404, "not_found")
    change = {"disabled": False, "reason": "误操作"}
    answer = world.client.patch(f"/api/booking/staff/users/{was}", json=change, headers=world.staff())
    assert code_of(answer) == (404, "not_found")
    again = world.user("openid-of-wang")
    assert user_id(world, again) != was
    assert world.client.get("/api/booking/joins", headers=again).json()["items"] == []


def test_nobody_writes_to_an_erased_user(world: World) -> None:
    user = a_visitor(world)
    place = a_slot(world, starts_in=timedelta(minutes=-30), lasts=timedelta(hours=1))
    [join] = booked(world, user, place.slot_id)
    with time_machine.travel(place.slot.ends_at):
        erase(world, user)
        do(world, "mark_missed")

    world.settle()

    assert [event.subject for event in recorded(world, "join.missed")] == [join["id"]]
    assert world.client.get("/api/notify/notices", headers=user).json()["items"] == []
    assert sum(stat["missed"] for stat in stats(world)) == 1


def test_staff_erase_a_user_who_asks_for_it_on_record(world: World) -> None:
    place = a_slot(world)
    user = a_visitor(world)
    booked(world, user, place.slot_id)
    was = user_id(world, user)
    path = f"/api/booking/staff/users/{was}/erase"
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])

    by_admin = world.client.post(path, json={"reason": "本人书面申请"}, headers=admin)
    erased = world.client.post(path, json={"reason": "本人书面申请"}, headers=world.staff())
    again = world.client.post(path, json={"reason": "本人书面申请"}, headers=world.staff())

    assert [code_of(by_admin), code_of(again)] == [(403, "role_forbids"), (404, "not_found")]
    assert erased.status_code == 204
    world.settle()
    trail = world.client.get(f"/api/admin/audit?object_id={was}", headers=world.staff()).json()["items"]
    assert [(record["action"], record["reason"]) for record in trail] == [("user.erased", "本人书面申请")]


def test_several_who_erase_one_person_at_once_keep_their_sign_ins(world: World) -> None:
    place, user, boss = a_slot(world), a_visitor(world), world.staff()
    booked(world, user, place.slot_id)
    path = f"/api/booking/staff/users/{user_id(world, user)}/erase"

    answers = simultaneously([lambda: world.client.post(path, json={"reason": "本人申请"}, headers=boss)] * 6)

    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 5
    assert len(recorded(world, "user.erased")) == 1


def test_staff_erase_a_party_that_walked_in(world: World) -> None:
    place = a_slot(world)
    body = {"attendees": [{"answers": {"name": "王小明"}}]}
    path = f"/api/booking/staff/slots/{place.slot_id}/joins"
    answer = world.client.post(path, json=body, headers=world.staff() | {"Idempotency-Key": new_id()})
    [join] = answer.json()["joins"]

    erased = world.client.post(
        f"/api/booking/staff/users/{join['user_id']}/erase", json={"reason": "本人当面申请"}, headers=world.staff()
    )

    assert erased.status_code == 204
    shown = world.client.get(f"/api/booking/staff/joins/{join['id']}", headers=world.staff()).json()
    assert (shown["status"], shown["answers"]) == ("cancelled", {})
    assert stock(world, place.slot_id)["taken"] == 0


def test_the_door_is_told_that_somebody_was_erased(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(minutes=-5))
    user = a_visitor(world)
    [join] = booked(world, user, place.slot_id, "王小明")
    checked_in(world, join["id"])
    path = f"/api/booking/staff/slots/{place.slot_id}/door"
    etag = world.client.get(path, headers=world.staff()).headers["ETag"]

    erase(world, user)

    answer = world.client.get(path, headers=world.staff() | {"If-None-Match": etag})
    assert (answer.status_code, answer.json()["items"][0]["answers"]) == (200, {})


def test_a_booking_beside_the_erasing_leaves_nothing_behind(world: World) -> None:
    place = a_slot(world, form=FORM, capacity=50, max_per_slot=50)
    user = a_visitor(world)
    calls = [lambda: book(world, user, place.slot_id, "王小明") for _ in range(6)]

    answers = simultaneously([*calls[:3], lambda: erase(world, user), *calls[3:]])

    assert answers[3].status_code == 204
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 0
    assert kept(world, "SELECT count(*) FROM joins WHERE answers <> '{}'") == 0
    assert kept(world, "SELECT count(*) FROM successes") == 0


def test_nobody_gives_a_place_to_who_was_erased(world: World) -> None:
    place, user = a_slot(world), a_visitor(world)
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    assert erase(world, user).status_code == 204

    answer = world.client.post(f"/api/booking/staff/joins/{join['id']}/restore", headers=world.staff())

    assert code_of(answer) == (409, "user_erased")
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 0


def test_nobody_is_checked_in_or_out_who_was_erased(world: World) -> None:
    place, user = a_slot(world, starts_in=timedelta(minutes=-5), party_max=2), a_visitor(world)
    here, absent = booked(world, user, place.slot_id, "王一", "王二")
    checked_in(world, here["id"])
    assert erase(world, user).status_code == 204
    undo = {"join_id": here["id"], "reason": "扫错了码"}

    answers = [
        world.client.post("/api/booking/staff/check-ins/undo", json=undo, headers=world.staff()),
        check_in(world, world.staff(), code=here["code"]),
        check_in(world, world.staff(), join_id=absent["id"], party=True),
    ]

    assert [code_of(answer) for answer in answers] == [(409, "user_erased")] * 3
    assert [stat["checked_in"] for stat in stats(world)] == [1]
