"""Sensitive answers, masked wherever staff see them, and in clear for a reason."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2

from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from tests.booking.builders import (
    NAME,
    Headers,
    a_slot,
    booked,
    check_in,
    code_of,
    do,
    my_join,
    recorded,
    restore,
    revoke,
    user_id,
)
from tests.world import World

ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="slot")
A_PERSON = "11010519491231002X"
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
        restore(world, join["id"]),
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


def test_a_question_that_was_made_sensitive_stays_so_when_it_is_taken_off_the_form(world: World) -> None:
    note = FormField(key="note", type=FieldType.TEXT, label="备注")
    place = a_slot(world, form=[NAME, note], starts_in=timedelta(minutes=-5))
    [join] = booked(world, world.user("wang"), place.slot_id, note="对花生过敏")
    place.change_item(form=[NAME, note.model_copy(update={"sensitive": True})], form_version=2)
    place.change_item(form=[NAME], form_version=3)
    verifier, admin = world.staff(Role.VERIFIER, [place.hall_id]), world.staff(Role.HALL_ADMIN, [place.hall_id])
    do(world, "find")

    def answers(path: str, staff: Headers, **query: str) -> list[Any]:
        body = world.client.get(f"/api/booking/staff/{path}", params=query, headers=staff).json()
        return [one["answers"] for one in body.get("items", [body])]

    masked = [{"name": "张三", "note": "对****"}]
    for path in ("joins", f"joins/{join['id']}", f"slots/{place.slot_id}/door"):
        assert answers(path, verifier) == masked, path
    assert answers("feed/joins", admin) == masked
    assert answers("joins", admin, person="花生") == []
    assert _unmask(world, join["id"], admin).json()["answers"]["note"] == "对花生过敏"


def test_the_last_word_on_a_question_is_that_of_the_youngest_form_that_asks_it(world: World) -> None:
    note = FormField(key="note", type=FieldType.TEXT, label="备注")
    place = a_slot(world, form=[NAME, note])
    [join] = booked(world, world.user("wang"), place.slot_id, note="对花生过敏")
    place.change_item(form=[NAME, note.model_copy(update={"sensitive": True})], form_version=2)
    place.change_item(form=[NAME, note], form_version=3)
    place.change_item(form=[NAME], form_version=4)

    shown = world.client.get(f"/api/booking/staff/joins/{join['id']}", headers=world.staff()).json()

    assert shown["answers"]["note"] == "对花生过敏"


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


def test_what_is_shown_in_clear_for_a_reason_is_not_collected_by_a_loop(make_world: Callable[..., World]) -> None:
    world = make_world(unmask_rate="3/minute")
    place = a_slot(world, form=SENSITIVE_FORM)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, **SENSITIVE_ANSWERS)
    admin, colleague = (world.staff(Role.HALL_ADMIN, [place.hall_id]) for _ in range(2))
    of_user = f"/api/booking/staff/users/{user_id(world, user)}/unmask"
    of_file = f"/api/booking/staff/joins/{join['id']}/files/photo"

    first = [_unmask(world, join["id"], admin).status_code for _ in range(2)]
    phone = world.client.post(of_user, json={"reason": "联系本人"}, headers=admin)
    refused = [
        _unmask(world, join["id"], admin),
        *(world.client.post(path, json={"reason": "核对"}, headers=admin) for path in (of_user, of_file)),
    ]

    assert [*first, phone.status_code] == [200] * 3
    assert [code_of(answer) for answer in refused] == [(429, "too_many_requests")] * 3
    assert len(recorded(world, "audit.recorded")) == 3
    assert _unmask(world, join["id"], colleague).status_code == 200
