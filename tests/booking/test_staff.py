"""What staff see and do: within their halls, with sensitive answers masked, and on record."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from unittest.mock import ANY

import httpx2
import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from services.booking import joins
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
    move,
    my_join,
    my_joins,
    people_booked,
    recorded,
    refused,
    revoke,
    stock,
    user_id,
)
from tests.world import World

ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="slot")
A_PERSON = "11010519491231002X"


def _list(world: World, staff: Headers, **query: Any) -> list[str]:
    answer = world.client.get("/api/booking/staff/joins", params=query, headers=staff)
    assert answer.status_code == 200, answer.text
    return [join["id"] for join in answer.json()["items"]]


def _restore(world: World, join_id: str, staff: Headers | None = None) -> httpx2.Response:
    return world.client.post(f"/api/booking/staff/joins/{join_id}/restore", headers=staff or world.staff())


def _revoke_slot(world: World, slot_id: str, staff: Headers | None = None, reason: str = "设备检修") -> httpx2.Response:
    return world.client.post(
        f"/api/booking/staff/slots/{slot_id}/revoke", json={"reason": reason}, headers=staff or world.staff()
    )


# --- lists ---


def test_the_list_answers_each_question(world: World) -> None:
    passports, permits = a_slot(world), a_slot(world, starts_in=timedelta(days=5))
    permits.change_item(title="居住证100%")
    later = passports.another_slot(starts_in=timedelta(days=3))
    user = world.user("wang")
    a, b, c = (booked(world, user, slot)[0] for slot in (passports.slot_id, later.slot_id, permits.slot_id))
    cancel(world, user, b["id"])
    checked_in(world, c["id"])
    boss = world.staff()

    def found(**query: Any) -> list[str]:
        return ["abc"[[a["id"], b["id"], c["id"]].index(join_id)] for join_id in _list(world, boss, **query)]

    assert found() == ["c", "b", "a"]
    assert found(hall_id=permits.hall_id) == ["c"]
    assert found(hall_id=permits.hall_id.upper()) == ["c"]
    assert found(item_id=passports.item.item_id) == ["b", "a"]
    assert found(slot_id=later.slot_id) == ["b"]
    assert found(status="booked") == ["c", "a"]
    assert found(status="cancelled") == ["b"]
    assert found(status="revoked") == []
    assert found(checked_in="true") == ["c"]
    assert found(checked_in="false", status="booked") == ["a"]
    assert found(**{"from": later.date.isoformat()}) == ["c", "b"]
    assert found(to=later.date.isoformat()) == ["b", "a"]
    assert found(**{"from": later.date.isoformat(), "to": later.date.isoformat()}) == ["b"]
    assert found(q="护照") == ["b", "a"]
    assert found(q="%") == ["c"]
    assert found(q="_") == []
    assert found(q=a["code"]) == ["a"]
    assert found(q=a["code"][:14]) == []
    assert found(q="护照", status="booked", item_id=passports.item.item_id) == ["a"]
    assert found(item_id=new_id()) == []


@pytest.mark.parametrize(
    "query",
    [
        {"hall_id": "nonsense"},
        {"status": "done"},
        {"checked_in": "perhaps"},
        {"from": "tomorrow"},
        {"q": "\x00"},
        {"limit": "101"},
        {"cursor": "x"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(world: World, query: dict[str, str]) -> None:
    answer = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff())

    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid", "bad_cursor")


def test_pages_of_the_list_hold_each_join_once(world: World) -> None:
    place = a_slot(world, max_per_slot=50, party_max=5)
    user = world.user("wang")
    joins = [join["id"] for _ in range(2) for join in booked(world, user, place.slot_id, *["张三"] * 5)]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        query = {"limit": "4"} | cursor
        page = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff()).json()
        seen += [join["id"] for join in page["items"]]
        booked(world, user, place.slot_id)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == joins[::-1]


@pytest.mark.parametrize("role", [Role.VERIFIER, Role.HALL_ADMIN])
def test_staff_see_their_own_halls_only(world: World, role: Role) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    user = world.user("wang")
    [here] = booked(world, user, mine.slot_id)
    [there] = booked(world, user, foreign.slot_id)
    staff = world.staff(role, [mine.hall_id])

    assert _list(world, staff) == [here["id"]]
    assert _list(world, staff, hall_id=foreign.hall_id) == []
    assert _list(world, staff, q=there["code"]) == []
    assert _list(world, world.staff(role, [])) == []
    assert _list(world, world.staff()) == [there["id"], here["id"]]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda w, p, j, s: w.client.get(f"/api/booking/staff/joins/{j}", headers=s), id="join"),
        pytest.param(lambda w, p, j, s: w.client.get(f"/api/booking/staff/slots/{p.slot_id}", headers=s), id="slot"),
        pytest.param(lambda w, p, j, s: revoke(w, j, staff=s), id="revoke"),
        pytest.param(lambda w, p, j, s: _restore(w, j, s), id="restore"),
        pytest.param(lambda w, p, j, s: _revoke_slot(w, p.slot_id, s), id="revoke slot"),
    ],
)
def test_foreign_things_are_not_there(
    world: World, ask: Callable[[World, Place, str, Headers], httpx2.Response]
) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    answer = ask(world, place, join["id"], world.staff(Role.HALL_ADMIN, [elsewhere.hall_id]))

    assert answer.status_code == 404
    assert my_join(world, user, join["id"])["status"] == "booked"
    assert recorded(world, "audit.recorded") == []


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda w, p, j, s: revoke(w, j, staff=s), id="revoke"),
        pytest.param(lambda w, p, j, s: _restore(w, j, s), id="restore"),
        pytest.param(lambda w, p, j, s: _revoke_slot(w, p.slot_id, s), id="revoke slot"),
        pytest.param(lambda w, p, j, s: w.client.get("/api/booking/staff/users", headers=s), id="users"),
    ],
)
def test_a_verifier_changes_nothing_but_check_ins(
    world: World, ask: Callable[[World, Place, str, Headers], httpx2.Response]
) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)
    verifier = world.staff(Role.VERIFIER, [place.hall_id])

    refusal = refused(lambda who: ask(world, place, join["id"], who), verifier)

    assert refusal.kind == (403, "role_forbids")


# --- masking ---

SENSITIVE_FORM = [
    NAME,
    ID_CARD,
    FormField(key="phone", type=FieldType.MOBILE, label="手机号"),
    FormField(key="illness", type=FieldType.SELECT, label="病情", options=["阳性患者", "阴性"], sensitive=True),
    FormField(key="pregnant", type=FieldType.SWITCH, label="是否怀孕", sensitive=True),
    FormField(key="born", type=FieldType.DATE, label="生日", sensitive=True),
    FormField(key="home", type=FieldType.REGION, label="住址", sensitive=True),
    FormField(key="weight", type=FieldType.NUMBER, label="体重", sensitive=True),
    FormField(key="note", type=FieldType.TEXT, label="备注", sensitive=True),
]
SENSITIVE_ANSWERS: dict[str, Any] = {
    "id_card": A_PERSON,
    "phone": "13800138000",
    "illness": "阳性患者",
    "pregnant": True,
    "born": "1949-12-31",
    "home": ["广东省", "广州市", "天河区"],
    "weight": 61.5,
    "note": "对花生过敏",
}
MASKED = {
    "name": "张三",
    "id_card": "110*************2X",
    "phone": "138******00",
    "illness": "***",
    "pregnant": "***",
    "born": "***",
    "home": "***",
    "weight": "***",
    "note": "对****",
}


def test_staff_see_sensitive_answers_masked_everywhere(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(minutes=-5), form=SENSITIVE_FORM)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, **SENSITIVE_ANSWERS)
    boss = world.staff()
    path = f"/api/booking/staff/joins/{join['id']}"

    answers = [
        world.client.get("/api/booking/staff/joins", headers=boss),
        world.client.get(path, headers=boss),
        check_in(world, boss, code=join["code"]),
        world.client.post(
            "/api/booking/staff/check-ins/undo", json={"join_id": join["id"], "reason": "扫错了码"}, headers=boss
        ),
        revoke(world, join["id"]),
        _restore(world, join["id"]),
    ]

    assert [answer.status_code for answer in answers] == [200] * len(answers)
    for answer in answers:
        body = answer.json()
        [shown] = body.get("items") or body.get("joins") or [body]
        assert shown["answers"] == MASKED
    assert my_join(world, user, join["id"])["answers"] == {"name": "张三"} | SENSITIVE_ANSWERS


def test_a_question_made_sensitive_later_is_masked_in_the_joins_before(world: World) -> None:
    note = FormField(key="note", type=FieldType.TEXT, label="备注")
    place = a_slot(world, form=[NAME, note])
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, note="对花生过敏")
    place.change_item(form=[NAME, note.model_copy(update={"sensitive": True})], form_version=2)

    shown = world.client.get(f"/api/booking/staff/joins/{join['id']}", headers=world.staff()).json()

    assert shown["answers"] == {"name": "张三", "note": "对****"}
    assert my_join(world, user, join["id"])["answers"]["note"] == "对花生过敏"


def _unmask(world: World, join_id: str, staff: Headers, reason: str = "核对证件") -> httpx2.Response:
    return world.client.post(f"/api/booking/staff/joins/{join_id}/unmask", json={"reason": reason}, headers=staff)


def test_one_join_is_shown_in_clear_for_a_reason_that_is_on_record(world: World) -> None:
    place = a_slot(world, form=SENSITIVE_FORM)
    [join] = booked(world, world.user("wang"), place.slot_id, **SENSITIVE_ANSWERS)

    answer = _unmask(world, join["id"], world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.json()["answers"] == {"name": "张三"} | SENSITIVE_ANSWERS
    [row] = recorded(world, "audit.recorded")
    assert (row.data["action"], row.data["object_id"], row.data["reason"]) == ("join.unmasked", join["id"], "核对证件")
    assert (row.data["hall_id"], row.data["after"]) == (place.hall_id, {"fields": sorted(SENSITIVE_ANSWERS)})
    assert A_PERSON not in str(row.data)


def test_nothing_is_shown_in_clear_without_a_reason_nor_to_whom_it_does_not_concern(world: World) -> None:
    place, elsewhere = a_slot(world, form=SENSITIVE_FORM), a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id, **SENSITIVE_ANSWERS)

    answers = [
        _unmask(world, join["id"], world.staff(), reason=""),
        _unmask(world, join["id"], world.staff(Role.VERIFIER, [place.hall_id])),
        _unmask(world, join["id"], world.staff(Role.HALL_ADMIN, [elsewhere.hall_id])),
    ]

    assert [code_of(answer) for answer in answers] == [
        (422, "invalid"),
        (403, "role_forbids"),
        (404, "join_not_found"),
    ]
    assert recorded(world, "audit.recorded") == []


# --- revoking ---


def test_a_user_reads_why_their_place_was_taken_back(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    answer = revoke(world, join["id"], reason="系统升级，请改约", staff=world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.status_code == 200
    seen = my_join(world, user, join["id"])
    assert (seen["status"], seen["reason"]) == ("revoked", "系统升级，请改约")
    assert [one["id"] for one in my_joins(world, user, filter="cancelled")["items"]] == [join["id"]]
    assert stock(world, place.slot_id)["taken"] == 0
    assert book(world, world.user("li"), place.slot_id).status_code == 201
    [event] = recorded(world, "join.revoked")
    assert event.data["reason"] == "系统升级，请改约"


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": " x "}, {"reason": "x" * 201}, {"reason": "坏\x00了"}])
def test_nothing_is_revoked_without_a_reason(world: World, body: dict[str, Any]) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)

    answers = [
        world.client.post(f"/api/booking/staff/{path}/revoke", json=body, headers=world.staff())
        for path in (f"joins/{join['id']}", f"slots/{place.slot_id}")
    ]

    assert [code_of(answer) for answer in answers] == [(422, "invalid")] * 2
    assert stock(world, place.slot_id)["taken"] == 1


def test_what_is_not_booked_or_has_arrived_can_not_be_revoked(world: World) -> None:
    place = a_slot(world, party_max=3)
    user = world.user("wang")
    cancelled, revoked, arrived = booked(world, user, place.slot_id, "一一", "二二", "三三")
    cancel(world, user, cancelled["id"])
    revoke(world, revoked["id"])
    checked_in(world, arrived["id"])

    answers = [revoke(world, join["id"]) for join in (cancelled, revoked, arrived)]

    assert [code_of(answer) for answer in answers] == [
        (409, "join_not_booked"),
        (409, "join_not_booked"),
        (409, "already_checked_in"),
    ]
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_slot_is_revoked_but_for_those_who_have_arrived(world: World) -> None:
    place = a_slot(world, capacity=9, party_max=3)
    wang, li = world.user("wang"), world.user("li")
    arrived, absent, gone = booked(world, wang, place.slot_id, "一一", "二二", "三三")
    [other] = booked(world, li, place.slot_id)
    cancel(world, wang, gone["id"])
    checked_in(world, arrived["id"])

    answer = _revoke_slot(world, place.slot_id, world.staff(Role.HALL_ADMIN, [place.hall_id]))
    again = _revoke_slot(world, place.slot_id)

    assert answer.json() == {"revoked": 2, "kept_checked_in": 1, "not_booked": 0}
    assert again.json() == {"revoked": 0, "kept_checked_in": 1, "not_booked": 0}
    states = [my_join(world, wang, join["id"])["status"] for join in (arrived, absent, gone)]
    assert states == ["booked", "revoked", "cancelled"]
    assert my_join(world, li, other["id"])["reason"] == "设备检修"
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 1


def test_a_user_whose_party_is_revoked_is_told_once(world: World) -> None:
    place = a_slot(world, party_max=3)
    user = world.user("wang")
    booked(world, user, place.slot_id, "一一", "二二", "三三")
    booked(world, world.user("li"), place.slot_id)
    _revoke_slot(world, place.slot_id)

    world.settle()

    notices = world.client.get("/api/notify/notices", headers=user).json()["items"]
    assert [notice["kind"] for notice in notices].count("revoked") == 1


def _revoke_some(world: World, joins: list[dict[str, Any]], staff: Headers | None = None) -> httpx2.Response:
    body = {"join_ids": [join["id"] for join in joins], "reason": "设备检修"}
    return world.client.post("/api/booking/staff/joins/revoke", json=body, headers=staff or world.staff())


def _revoke_day(world: World, day: date, staff: Headers | None = None, **place: str) -> httpx2.Response:
    body = {"reason": "台风停业"} | place
    return world.client.post(f"/api/booking/staff/days/{day}/revoke", json=body, headers=staff or world.staff())


def test_some_joins_are_revoked_but_for_those_who_arrived_or_gave_back(world: World) -> None:
    place, elsewhere = a_slot(world, capacity=9, party_max=4), a_slot(world)
    wang, li = world.user("wang"), world.user("li")
    arrived, absent, gone, left_alone = booked(world, wang, place.slot_id, "一一", "二二", "三三", "四四")
    [other] = booked(world, li, elsewhere.slot_id)
    cancel(world, wang, gone["id"])
    checked_in(world, arrived["id"])

    answer = _revoke_some(world, [arrived, absent, gone, other])

    assert answer.json() == {"revoked": 2, "kept_checked_in": 1, "not_booked": 1}
    states = [my_join(world, wang, join["id"])["status"] for join in (arrived, absent, gone, left_alone)]
    assert states == ["booked", "revoked", "cancelled", "booked"]
    assert my_join(world, li, other["id"])["reason"] == "设备检修"
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 2
    assert stock(world, elsewhere.slot_id)["taken"] == 0
    actions = [(row.data["action"], row.data["object_id"]) for row in recorded(world, "audit.recorded")]
    assert sorted(actions[1:]) == sorted([("join.revoked", absent["id"]), ("join.revoked", other["id"])])


def test_nothing_is_revoked_where_one_of_them_is_foreign(world: World) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    user = world.user("wang")
    [here], [there] = booked(world, user, mine.slot_id), booked(world, user, foreign.slot_id)

    answer = _revoke_some(world, [here, there], world.staff(Role.HALL_ADMIN, [mine.hall_id]))

    assert code_of(answer) == (404, "join_not_found")
    assert my_join(world, user, here["id"])["status"] == "booked"


def test_a_day_is_revoked_in_an_item_or_in_a_whole_hall(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    day = place.slot.date
    same_day = place.another_slot(starts_in=timedelta(days=1), date=day)
    next_day = place.another_slot(starts_in=timedelta(days=2), date=day + timedelta(days=1))
    neighbour = a_slot(world)
    neighbour.change_item(hall_id=place.hall_id)
    neighbour.change_slot(hall_id=place.hall_id, date=day)
    user = world.user("wang")
    arrived = booked(world, user, place.slot_id)[0]
    joins = [booked(world, user, slot)[0] for slot in (place.slot_id, same_day.slot_id, neighbour.slot_id)]
    [later] = booked(world, user, next_day.slot_id)
    checked_in(world, arrived["id"])
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])

    of_item = _revoke_day(world, day, admin, item_id=place.item.item_id)
    of_hall = _revoke_day(world, day, admin, hall_id=place.hall_id)

    assert of_item.json() == {"revoked": 2, "kept_checked_in": 1, "not_booked": 0}
    assert of_hall.json() == {"revoked": 1, "kept_checked_in": 1, "not_booked": 0}
    assert [my_join(world, user, join["id"])["status"] for join in joins] == ["revoked"] * 3
    assert [my_join(world, user, join["id"])["status"] for join in (arrived, later)] == ["booked"] * 2


def test_a_foreign_day_is_not_there(world: World) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    stranger = world.staff(Role.HALL_ADMIN, [elsewhere.hall_id])

    answers = [
        _revoke_day(world, place.slot.date, stranger, item_id=place.item.item_id),
        _revoke_day(world, place.slot.date, stranger, hall_id=place.hall_id),
        _revoke_day(world, place.slot.date, item_id=new_id()),
    ]

    assert [code_of(answer) for answer in answers] == [(404, "not_found")] * 3
    assert code_of(_revoke_day(world, place.slot.date)) == (422, "invalid")
    assert my_join(world, user, join["id"])["status"] == "booked"


# --- restoring ---


def test_a_revoked_join_gets_its_place_back(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])

    answer = _restore(world, join["id"], world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.status_code == 200
    seen = my_join(world, user, join["id"])
    assert seen == join | {"form": seen["form"]}
    assert stock(world, place.slot_id)["taken"] == 1
    assert recorded(world, "join.booked")[-1].data["restored"] is True


def test_a_full_slot_takes_nobody_back(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    booked(world, world.user("li"), place.slot_id)

    refusal = refused(lambda who: _restore(world, join["id"], who), world.staff())

    assert (refusal.kind, refusal.params["left"]) == ((409, "slot_full"), 0)
    assert my_join(world, user, join["id"])["status"] == "revoked"
    assert stock(world, place.slot_id)["taken"] == 1


@pytest.mark.parametrize("limit", ["max_per_slot", "max_per_day", "max_ahead"])
def test_who_has_booked_again_meanwhile_is_not_given_more_than_their_limit(world: World, limit: str) -> None:
    rules: dict[str, Any] = {"max_per_slot": 9} | {limit: 1}
    place = a_slot(world, **rules)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    [other] = booked(world, user, place.slot_id)

    refusal = refused(lambda who: _restore(world, join["id"], who), world.staff())
    revoke(world, other["id"])

    assert refusal.kind == (409, "already_joined")
    assert refusal.params == {"limit": limit, "held": 1, "allowed": 1}
    assert _restore(world, join["id"]).status_code == 200
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_person_booked_meanwhile_is_not_booked_twice(world: World) -> None:
    place = a_slot(world, capacity=5, form=[NAME, ID_CARD])
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, id_card=A_PERSON)
    revoke(world, join["id"])
    booked(world, world.user("li"), place.slot_id, id_card=A_PERSON)

    refusal = refused(lambda who: _restore(world, join["id"], who), world.staff())

    assert refusal.kind == (409, "person_already_joined")
    assert stock(world, place.slot_id)["taken"] == 1
    assert my_join(world, user, join["id"])["status"] == "revoked"


def test_a_restored_person_is_held_again(world: World) -> None:
    place = a_slot(world, capacity=5, form=[NAME, ID_CARD])
    [join] = booked(world, world.user("wang"), place.slot_id, id_card=A_PERSON)
    revoke(world, join["id"])
    _restore(world, join["id"])

    assert code_of(book(world, world.user("li"), place.slot_id, id_card=A_PERSON)) == (409, "person_already_joined")


def test_what_is_over_is_not_restored(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(hours=1))
    [join] = booked(world, world.user("wang"), place.slot_id)
    revoke(world, join["id"])

    with time_machine.travel(place.slot.ends_at):
        refusal = refused(lambda who: _restore(world, join["id"], who), world.staff())

    assert refusal.kind == (409, "slot_ended")


def test_only_what_staff_took_back_is_restored(world: World) -> None:
    place = a_slot(world, party_max=2)
    user = world.user("wang")
    held, given_back = booked(world, user, place.slot_id, "一一", "二二")
    cancel(world, user, given_back["id"])

    held_still = refused(lambda who: _restore(world, held["id"], who), world.staff())
    cancelled = refused(lambda who: _restore(world, given_back["id"], who), world.staff())

    assert held_still == cancelled
    assert held_still.kind == (409, "not_revoked")
    assert "Only a revoked booking" in held_still.english
    assert "只有后台取消的预约" in held_still.chinese


def test_staff_may_restore_into_a_closed_slot(world: World) -> None:
    place = a_slot(world, capacity=1)
    [join] = booked(world, world.user("wang"), place.slot_id)
    revoke(world, join["id"])
    place.change_slot(deleted=True)

    assert _restore(world, join["id"]).status_code == 200
    assert stock(world, place.slot_id)["taken"] == 1


# --- users ---


def _users(world: World, staff: Headers, **query: Any) -> list[dict[str, Any]]:
    answer = world.client.get("/api/booking/staff/users", params=query, headers=staff)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def _set_user(world: World, user: str, staff: Headers | None = None, **body: Any) -> httpx2.Response:
    return world.client.patch(f"/api/booking/staff/users/{user}", json=body, headers=staff or world.staff())


def test_a_hall_admin_sees_those_who_booked_in_their_halls(world: World) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    wang, li = world.user("wang"), world.user("li")
    world.user("nobody")
    booked(world, wang, mine.slot_id)
    booked(world, li, foreign.slot_id)

    seen = _users(world, world.staff(Role.HALL_ADMIN, [mine.hall_id]))
    all_of_them = _users(world, world.staff())

    assert [user["id"] for user in seen] == [user_id(world, wang)]
    assert len(all_of_them) == 3


def test_users_are_found_by_name_and_shown_without_their_number(world: World) -> None:
    user = world.user("wang")
    world.client.patch("/api/booking/me", json={"name": "王_小明", "phone": "13800138000"}, headers=user)
    world.client.patch("/api/booking/me", json={"name": "李四"}, headers=world.user("li"))

    [found] = _users(world, world.staff(), q="_")

    assert (found["name"], found["phone"]) == ("王_小明", "138******00")
    assert _users(world, world.staff(), q="%") == []
    assert "openid" not in found


def test_a_user_is_disabled_and_enabled_again_on_record(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    found = user_id(world, user)

    disabled = _set_user(world, found, disabled=True, reason="多次爽约")
    while_disabled = book(world, user, place.slot_id)
    enabled = _set_user(world, found, disabled=False, reason="已申诉")
    then = book(world, user, place.slot_id)

    assert (disabled.json()["disabled"], disabled.json()["disabled_reason"]) == (True, "多次爽约")
    assert code_of(while_disabled) == (403, "user_disabled")
    assert (enabled.json()["disabled"], enabled.json()["disabled_reason"]) == (False, "")
    assert then.status_code == 201
    assert my_join(world, user, join["id"])["status"] == "booked"
    audited = [row.data for row in recorded(world, "audit.recorded")]
    assert [(row["action"], row["reason"], row["before"], row["after"]) for row in audited] == [
        ("user.disabled", "多次爽约", {"disabled": False}, {"disabled": True}),
        ("user.enabled", "已申诉", {"disabled": True}, {"disabled": False}),
    ]


def test_a_disabled_user_is_given_no_place_back(world: World) -> None:
    place, user = a_slot(world), world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    _set_user(world, user_id(world, user), disabled=True, reason="多次爽约")

    assert code_of(_restore(world, join["id"])) == (403, "user_disabled")


def test_an_override_and_whatever_takes_a_reason_takes_one_that_can_be_read(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(days=3))
    [join] = booked(world, world.user("wang"), place.slot_id)

    assert code_of(check_in(world, world.staff(), join_id=join["id"], override=True)) == (422, "invalid")
    assert code_of(revoke(world, join["id"], reason="\u200b\u200b")) == (422, "invalid")


def test_a_slot_of_many_people_is_revoked_in_pieces_and_everybody_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "AT_ONCE", 3)
    place = a_slot(world, capacity=20, party_max=2, max_per_slot=2, starts_in=timedelta(minutes=10))
    people = [booked(world, world.user(f"user-{number}"), place.slot_id, "一一", "二二") for number in range(5)]
    checked_in(world, people[0][0]["id"])

    answer = _revoke_slot(world, place.slot_id)

    assert answer.json() == {"revoked": 9, "kept_checked_in": 1, "not_booked": 0}
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 1
    told = [row.data for row in recorded(world, "join.revoked")]
    assert len({fact["action_id"] for fact in told}) == 5
    assert sorted(fact["people"] for fact in told) == [1, 2, 2, 2, 2, 2, 2, 2, 2]


def test_only_a_super_admin_disables_users(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    found = user_id(world, user)

    for role in (Role.HALL_ADMIN, Role.VERIFIER):
        answer = _set_user(world, found, world.staff(role, [place.hall_id]), disabled=True, reason="多次爽约")
        assert code_of(answer) == (403, "role_forbids")
    assert code_of(_set_user(world, new_id(), disabled=True, reason="多次爽约")) == (404, "not_found")
    assert code_of(_set_user(world, found, disabled=True)) == (422, "invalid")


def test_what_staff_do_to_a_join_is_on_record_with_what_it_was_before(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(minutes=10), max_per_slot=9)
    [join] = booked(world, world.user("wang"), place.slot_id)
    boss = world.staff()

    revoke(world, join["id"])
    assert _restore(world, join["id"], boss).status_code == 200
    assert check_in(world, boss, join_id=join["id"]).status_code == 200
    undo = {"join_id": join["id"], "reason": "扫错了人"}
    assert world.client.post("/api/booking/staff/check-ins/undo", json=undo, headers=boss).status_code == 200

    audited = [row.data for row in recorded(world, "audit.recorded")]
    assert [(row["action"], row["before"], row["after"]) for row in audited] == [
        ("join.revoked", {"status": "booked"}, {"status": "revoked"}),
        ("join.restored", {"status": "revoked"}, {"status": "booked"}),
        ("join.checked_in", {"checked_in_at": None}, {"checked_in_at": ANY}),
        ("join.check_in_undone", {"checked_in_at": ANY}, {"checked_in_at": None}),
    ]


# --- the inventory and the record ---


def test_staff_see_the_inventory_of_a_slot(world: World) -> None:
    place = a_slot(world, capacity=3)
    booked(world, world.user("wang"), place.slot_id)

    found = stock(world, place.slot_id)

    assert (found["asked"], found["capacity"], found["taken"], found["remaining"]) == (3, 3, 1, 2)
    assert found["status"] == "open"
    assert date.fromisoformat(found["slot"]["date"]) == place.slot.date


def test_everything_staff_do_is_on_record_without_answers_or_codes(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD], starts_in=timedelta(minutes=-5), cancel="anytime")
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, "王小明", id_card=A_PERSON)
    revoke(world, join["id"])
    _restore(world, join["id"])
    check_in(world, world.staff(), code=join["code"])
    world.client.post(
        "/api/booking/staff/check-ins/undo", json={"join_id": join["id"], "reason": "扫错了码"}, headers=world.staff()
    )
    move(world, user, join["id"], target.slot_id)
    _revoke_slot(world, target.slot_id)
    world.settle()

    answer = world.client.get(
        "/api/admin/audit", headers=world.staff(Role.HALL_ADMIN, [place.hall_id]), params={"limit": 100}
    )

    records = answer.json()["items"]
    assert [(record["action"], record["object_type"], record["object_id"]) for record in records[::-1]] == [
        ("join.revoked", "join", join["id"]),
        ("join.restored", "join", join["id"]),
        ("join.checked_in", "join", join["id"]),
        ("join.check_in_undone", "join", join["id"]),
        ("slot.revoked", "slot", target.slot_id),
    ]
    assert {record["hall_id"] for record in records} == {place.hall_id}
    for secret in (A_PERSON, "王小明", join["code"]):
        assert secret not in answer.text


def test_what_was_refused_is_not_on_record(world: World) -> None:
    place = a_slot(world, capacity=1)
    [join] = booked(world, world.user("wang"), place.slot_id)

    _restore(world, join["id"])
    check_in(world, world.staff(), code=join["code"])

    assert recorded(world, "audit.recorded") == []
