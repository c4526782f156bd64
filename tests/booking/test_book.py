"""Taking places: every rule of booking, through HTTP."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, HallStatus, ItemStatus, SlotStatus
from tests.booking.builders import NAME, a_slot, book, booked, code_of, people_booked, stock
from tests.world import World

IN_CHINESE = {"Accept-Language": "zh-CN"}


def test_a_booked_place_has_a_code_and_counts(world: World) -> None:
    place = a_slot(world, capacity=5)

    [join] = booked(world, world.user("wang"), place.slot_id, "王小明")

    assert join["status"] == "booked"
    assert len(join["code"]) == 15
    assert join["code"].isdigit()
    assert join["answers"] == {"name": "王小明"}
    assert join["hall"]["name"] == "市民之窗"
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_party_gets_all_its_places_or_none(world: World) -> None:
    place = a_slot(world, capacity=4, party_max=5)
    booked(world, world.user("li"), place.slot_id, "一一", "二二")

    refused = book(world, world.user("wang"), place.slot_id, "三三", "四四", "五五")

    assert code_of(refused) == (409, "slot_full")
    assert refused.json()["params"]["left"] == 2
    assert stock(world, place.slot_id)["taken"] == 2


def refusals() -> list[Any]:
    """Each rule broken alone: what to build, whom to book, and the answer in both languages."""
    past = {"starts_in": timedelta(hours=-2)}
    return [
        pytest.param(
            {"item_status": ItemStatus.DRAFT}, 1, 404, "slot_not_found", "Choose another", "请重新选择", id="draft"
        ),
        pytest.param(
            {"item_status": ItemStatus.CLOSED},
            1,
            404,
            "slot_not_found",
            "Choose another",
            "请重新选择",
            id="closed item",
        ),
        pytest.param(
            {"item_status": ItemStatus.STOPPED}, 1, 409, "item_not_open", "not open", "未开放预约", id="stopped"
        ),
        pytest.param(
            {"hall_status": HallStatus.CLOSED}, 1, 409, "item_not_open", "not open", "未开放预约", id="hall closed"
        ),
        pytest.param(
            {"slot_status": SlotStatus.CLOSED}, 1, 409, "slot_closed", "closed", "该时段预约已经关闭", id="slot closed"
        ),
        pytest.param(
            {"opens_days_before": 0, "starts_in": timedelta(days=3)},
            1,
            409,
            "too_early",
            "opens at",
            "开放时间",
            id="too early",
        ),
        pytest.param(past, 1, 409, "slot_ended", "is over", "该时段已结束", id="ended"),
        pytest.param({}, 2, 422, "party_too_large", "1 to 1 people; you asked for 2", "1至1人", id="party"),
        pytest.param({}, 0, 422, "party_too_large", "you asked for 0", "您提交了0人", id="nobody"),
        pytest.param({"capacity": 0}, 1, 409, "slot_full", "is full", "该时段预约人员已满", id="full"),
        pytest.param(
            {"capacity": 1, "party_max": 2}, 2, 409, "slot_full", "Only 1 places", "最多还可以预约1人", id="enough"
        ),
    ]


@pytest.mark.parametrize(("build", "people", "status", "code", "english", "chinese"), refusals())
def test_each_rule_refuses_with_its_code_in_both_languages(
    world: World, build: dict[str, Any], people: int, status: int, code: str, english: str, chinese: str
) -> None:
    place = a_slot(world, **build)
    user = world.user("wang")
    names = [f"人{number}" for number in range(people)]
    body = {"slot_id": place.slot_id, "attendees": [{"answers": {"name": name}} for name in names]}

    in_english = world.client.post("/api/booking/joins", json=body, headers=user | {"Idempotency-Key": new_id()})
    in_chinese = world.client.post(
        "/api/booking/joins", json=body, headers=user | {"Idempotency-Key": new_id()} | IN_CHINESE
    )
    checked = world.client.post(f"/api/booking/slots/{place.slot_id}/check", json={"people": people}, headers=user)

    assert code_of(in_english) == (status, code)
    assert english in in_english.json()["detail"]
    assert chinese in in_chinese.json()["detail"]
    assert code_of(checked) == (status, code)
    assert stock(world, place.slot_id)["taken"] == 0


@pytest.mark.parametrize("slot_id", ["nonsense", "T20261123AAAXYZ", "01a206b3-0000-7000-8000-000000000000", "", "\x00"])
def test_a_slot_that_does_not_exist_is_not_found(world: World, slot_id: str) -> None:
    refused = book(world, world.user("wang"), slot_id)

    assert code_of(refused) in [(404, "slot_not_found"), (422, "invalid")]


def test_a_deleted_slot_is_not_found(world: World) -> None:
    place = a_slot(world)
    place.change_slot(deleted=True)

    refused = book(world, world.user("wang"), place.slot_id)

    assert code_of(refused) == (404, "slot_not_found")


def test_a_disabled_user_may_not_book(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    user_id = world.client.get("/api/booking/me", headers=user).json()["id"]
    disabled = world.client.patch(
        f"/api/booking/staff/users/{user_id}", json={"disabled": True, "reason": "多次爽约"}, headers=world.staff()
    )

    refused = book(world, user, place.slot_id)
    in_chinese = book(world, user | IN_CHINESE, place.slot_id)

    assert disabled.status_code == 200
    assert code_of(refused) == (403, "user_disabled")
    assert "may not book" in refused.json()["detail"]
    assert "停用" in in_chinese.json()["detail"]


def test_the_rules_are_asked_in_their_order(world: World) -> None:
    place = a_slot(world, capacity=0, slot_status=SlotStatus.CLOSED, item_status=ItemStatus.STOPPED)
    user = world.user("wang")

    first = book(world, user, place.slot_id, name="")
    place.change_item(status=ItemStatus.OPEN)
    second = book(world, user, place.slot_id, name="")
    place.change_slot(status=SlotStatus.OPEN)
    third = book(world, user, place.slot_id, name="")
    place.change_slot(capacity=1)
    fourth = book(world, user, place.slot_id, name="")

    codes = [code_of(answer)[1] for answer in (first, second, third, fourth)]
    assert codes == ["item_not_open", "slot_closed", "slot_full", "form_invalid"]


def test_booking_opens_on_its_day_in_the_halls_zone(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(days=3), opens_days_before=2, opens_at="09:00")

    refused = book(world, world.user("wang"), place.slot_id)

    opens = datetime.fromisoformat(refused.json()["params"]["opens"])
    assert code_of(refused) == (409, "too_early")
    assert opens.utcoffset() == timedelta(hours=8)
    assert (opens.hour, opens.minute) == (9, 0)
    assert opens.date() == place.slot.date - timedelta(days=2)


def test_a_slot_that_has_begun_can_be_booked_until_its_end(world: World) -> None:
    running = a_slot(world, starts_in=timedelta(minutes=-30))
    cut_off = a_slot(world, starts_in=timedelta(minutes=-30), closes_before="start")
    user = world.user("wang")

    assert book(world, user, running.slot_id).status_code == 201
    assert code_of(book(world, user, cut_off.slot_id)) == (409, "slot_ended")


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        ({}, "max_per_slot"),
        ({"max_per_slot": 9, "max_per_day": 1}, "max_per_day"),
        ({"max_per_slot": 9, "max_ahead": 1}, "max_ahead"),
    ],
)
def test_a_user_holds_no_more_than_the_limits_allow(world: World, rules: dict[str, Any], limit: str) -> None:
    place = a_slot(world, **rules)
    user = world.user("wang")
    booked(world, user, place.slot_id)

    refused = book(world, user, place.slot_id)
    in_chinese = book(world, user | IN_CHINESE, place.slot_id)

    assert code_of(refused) == (409, "already_joined")
    assert refused.json()["params"] == {"limit": limit, "held": 1, "allowed": 1}
    assert "hold 1 places already" in refused.json()["detail"]
    assert "您已预约1人" in in_chinese.json()["detail"]


def test_the_limit_counts_people_not_bookings(world: World) -> None:
    place = a_slot(world, party_max=3)
    user = world.user("wang")
    booked(world, user, place.slot_id, "一一", "二二")

    refused = book(world, user, place.slot_id, "三三", "四四")

    assert code_of(refused) == (409, "already_joined")
    assert refused.json()["params"]["held"] == 2


def test_a_cancelled_place_does_not_count_against_the_user(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    world.client.post(f"/api/booking/joins/{join['id']}/cancel", headers=user)

    again = book(world, user, place.slot_id)

    assert again.status_code == 201


def test_every_fault_of_the_form_is_named(world: World) -> None:
    phone = FormField(key="phone", type=FieldType.MOBILE, label="手机号")
    place = a_slot(world, party_max=2, form=[NAME, phone])
    attendees = [{"answers": {"name": "王"}}, {"answers": {"name": "李四", "phone": "123", "extra": 1}}]
    headers = world.user("wang") | {"Idempotency-Key": new_id()}

    refused = world.client.post(
        "/api/booking/joins", json={"slot_id": place.slot_id, "attendees": attendees}, headers=headers
    )
    in_chinese = world.client.post(
        "/api/booking/joins", json={"slot_id": place.slot_id, "attendees": attendees}, headers=headers | IN_CHINESE
    )

    assert code_of(refused) == (422, "form_invalid")
    found = [(fault["attendee"], fault["field"], fault["reason"]) for fault in refused.json()["params"]["faults"]]
    assert found == [
        (1, "name", "too_short"),
        (1, "phone", "required"),
        (2, "phone", "bad_format"),
        (2, "extra", "unknown_field"),
    ]
    assert "Attendee 1: 姓名 is too short." in refused.json()["detail"]
    assert "第2位：手机号格式不正确" in in_chinese.json()["detail"]
    assert stock(world, place.slot_id)["taken"] == 0


ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号")
A_PERSON = "11010519491231002X"


@pytest.mark.parametrize(
    ("scope", "elsewhere_is_refused"), [("slot", (False, False)), ("day", (True, False)), ("item", (True, True))]
)
def test_a_person_is_booked_once_in_the_scope_of_the_field(
    world: World, scope: str, elsewhere_is_refused: tuple[bool, bool]
) -> None:
    place = a_slot(world, form=[NAME, ID_CARD.model_copy(update={"unique": scope})], starts_in=timedelta(days=1))
    same_day = place.another_slot(date=place.slot.date)
    other_day = place.another_slot(starts_in=timedelta(days=5))
    booked(world, world.user("wang"), place.slot_id, id_card=A_PERSON)

    refused = book(world, world.user("li"), place.slot_id, id_card=A_PERSON.lower())
    in_chinese = book(world, world.user("li") | IN_CHINESE, place.slot_id, id_card=A_PERSON)
    elsewhere = [book(world, world.user("li"), slot.slot_id, id_card=A_PERSON) for slot in (same_day, other_day)]

    assert code_of(refused) == (409, "person_already_joined")
    assert refused.json()["params"] == {"attendee": 1, "field": "id_card", "label": "身份证号", "scope": scope}
    assert "is booked already" in refused.json()["detail"]
    assert "已经预约过" in in_chinese.json()["detail"]
    assert tuple(answer.status_code == 409 for answer in elsewhere) == elsewhere_is_refused
    assert stock(world, place.slot_id)["taken"] == 1


def test_one_person_is_not_two_attendees_of_a_party(world: World) -> None:
    place = a_slot(world, party_max=2, form=[ID_CARD.model_copy(update={"unique": "slot"})])
    attendees = [{"answers": {"id_card": A_PERSON}}, {"answers": {"id_card": A_PERSON}}]

    refused = world.client.post(
        "/api/booking/joins",
        json={"slot_id": place.slot_id, "attendees": attendees},
        headers=world.user("wang") | {"Idempotency-Key": new_id()},
    )

    assert code_of(refused) == (409, "person_already_joined")
    assert refused.json()["params"]["attendee"] == 2
    assert stock(world, place.slot_id)["taken"] == 0


def test_a_cancelled_person_can_be_booked_again(world: World) -> None:
    place = a_slot(world, form=[NAME, ID_CARD.model_copy(update={"unique": "item"})])
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, id_card=A_PERSON)
    world.client.post(f"/api/booking/joins/{join['id']}/cancel", headers=user)

    again = book(world, world.user("li"), place.slot_id, id_card=A_PERSON)

    assert again.status_code == 201


def test_the_same_key_gives_the_first_success_again(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    first = book(world, user, place.slot_id, key="k1")
    full = book(world, world.user("li"), place.slot_id)

    again = book(world, user, place.slot_id, key="k1")

    assert code_of(full) == (409, "slot_full")
    assert again.status_code == 201
    assert again.json() == first.json()
    assert people_booked(world, place.slot_id) == 1


def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    book(world, user, place.slot_id, "张三", key="k1")

    refused = book(world, user, place.slot_id, "李四", key="k1")

    assert code_of(refused) == (409, "idempotency_key_reused")


def test_a_refusal_is_not_remembered(world: World) -> None:
    place = a_slot(world, capacity=0)
    user = world.user("wang")
    refused = book(world, user, place.slot_id, key="k1")
    place.change_slot(capacity=1)

    again = book(world, user, place.slot_id, key="k1")

    assert code_of(refused) == (409, "slot_full")
    assert again.status_code == 201


def test_one_users_key_means_nothing_to_another(world: World) -> None:
    place = a_slot(world)
    first = book(world, world.user("wang"), place.slot_id, key="k1")

    second = book(world, world.user("li"), place.slot_id, key="k1")

    assert second.status_code == 201
    assert second.json()["party_id"] != first.json()["party_id"]


@pytest.mark.parametrize("key", ["", "k" * 201, "with space", "na\xefve"])
def test_a_booking_without_a_usable_key_is_refused(world: World, key: str) -> None:
    place = a_slot(world)
    headers = world.user("wang") | {"Idempotency-Key": key}

    refused = world.client.post(
        "/api/booking/joins",
        json={"slot_id": place.slot_id, "attendees": [{"answers": {"name": "张三"}}]},
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    )

    assert code_of(refused) == (422, "idempotency_key_required")


def test_a_limit_set_below_what_is_taken_throws_nobody_out(world: World) -> None:
    place = a_slot(world, capacity=3, party_max=3)
    user = world.user("wang")
    joins = booked(world, user, place.slot_id, "一一", "二二", "三三")

    place.change_slot(capacity=1)
    lowered = stock(world, place.slot_id)
    refused = book(world, world.user("li"), place.slot_id)
    world.client.post(f"/api/booking/joins/{joins[0]['id']}/cancel", headers=user)
    after_one = stock(world, place.slot_id)

    assert (lowered["asked"], lowered["capacity"], lowered["taken"], lowered["remaining"]) == (1, 3, 3, 0)
    assert code_of(refused) == (409, "slot_full")
    assert (after_one["asked"], after_one["capacity"], after_one["taken"], after_one["remaining"]) == (1, 2, 2, 0)


def test_sensitive_answers_are_not_readable_in_the_database(world: World) -> None:
    phone = FormField(key="phone", type=FieldType.MOBILE, label="手机号")
    place = a_slot(world, form=[NAME, phone])
    booked(world, world.user("wang"), place.slot_id, phone="13800138000")

    with world.runtimes["booking"].db.engine.connect() as connection:
        dump = "".join(
            str(row)
            for table in ("joins", "successes", "outbox", "claims")
            for row in connection.exec_driver_sql(f"SELECT t::text FROM {table} t")
        )

    assert "13800138000" not in dump
    assert b"13800138000".hex() not in dump
