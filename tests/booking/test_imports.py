"""Imports of joins: every row gets a place or none does, by the rules and the guard of every booking, and once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, ItemStatus
from libs.contracts.principals import Role
from tests.booking.builders import NAME, Place, a_slot, booked, code_of
from tests.world import World, eventually

IMPORTS = "/api/booking/staff/imports"
ID_CARD = FormField(key="id_card", type=FieldType.ID_CARD, label="证件号", unique="day")
ID_NUMBERS = ("110105199003071239", "440106198506152012")


def row(place: Place, number: int, name: Any = "林小满", **values: Any) -> dict[str, Any]:
    """Return a row for somebody of this name in the slot of the place."""
    fixed = {
        "服务厅": place.hall.name,
        "项目名称": place.item.title,
        "日期": place.slot.date.isoformat(),
        "开始时间": place.slot.start.strftime("%H:%M"),
        "结束时间": place.slot.end.strftime("%H:%M"),
    }
    return {"sheet": "预约记录", "row": number, "values": fixed | {"姓名": name} | values}


def send(
    world: World, rows: list[dict[str, Any]], *, who: dict[str, str] | None = None, dry_run: bool = False, key: str = ""
) -> httpx2.Response:
    key = key or new_id()
    body = {"id": key, "dry_run": dry_run, "rows": rows}
    headers = world.for_job(who or world.staff(), key)
    answer: httpx2.Response = world.client.post(IMPORTS, json=body, headers=headers)
    return answer


def came_to(answer: httpx2.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def faults(answer: httpx2.Response) -> set[tuple[int, str, str]]:
    """Return where the faults are, of a dry run or a refusal."""
    found = answer.json() if answer.status_code == 200 else answer.json()["params"]
    assert answer.status_code == 200 or code_of(answer) == (422, "import_faulty"), answer.text
    assert not found.get("applied", False)
    assert all(fault["detail"] for fault in found["faults"])
    return {(fault["row"], fault["column"], fault["reason"]) for fault in found["faults"]}


def joins(world: World) -> list[Any]:
    page = world.client.get("/api/booking/staff/joins?limit=100", headers=world.staff()).json()
    return sorted(page["items"], key=lambda join: str(join["answers"]))


def taken(world: World, place: Place) -> int:
    answer = world.client.get(f"/api/booking/staff/slots/{place.slot_id}", headers=world.staff())
    people: int = answer.json()["taken"]
    return people


def test_every_row_gets_a_place_of_its_own(world: World) -> None:
    place = a_slot(world, capacity=2)

    answer = send(world, [row(place, 2, "林小满"), row(place, 3, "王大年")])

    assert came_to(answer) == {"applied": True, "rows": 2, "faults": [], "faults_total": 0}
    made = joins(world)
    assert [join["answers"]["name"] for join in made] == ["林小满", "王大年"]
    assert {join["status"] for join in made} == {"booked"}
    assert len({join["code"] for join in made}) == len({join["party_id"] for join in made}) == 2
    assert taken(world, place) == 2


def test_what_is_imported_is_told_to_the_other_services(world: World) -> None:
    place = a_slot(world)

    send(world, [row(place, 2), row(place, 3)])

    world.settle()
    stats = world.client.get("/api/notify/staff/stats", headers=world.staff()).json()["items"]
    assert [stat["booked"] for stat in stats] == [2]


def test_a_slot_is_never_oversold(world: World) -> None:
    place = a_slot(world, capacity=2)
    booked(world, world.user("first"), place.slot_id, "张三丰")

    answer = send(world, [row(place, 2), row(place, 3)])

    assert faults(answer) == {(3, "开始时间", "slot_full")}
    assert taken(world, place) == 1


def test_every_fault_is_named_and_nothing_is_booked(world: World) -> None:
    place = a_slot(world)
    place.change_item(form=[NAME, ID_CARD])
    booked(world, world.user("first"), place.slot_id, "张三丰", id_card=ID_NUMBERS[0])
    rows = [
        row(place, 2, 证件号=ID_NUMBERS[1]),
        row(place, 3, 证件号=ID_NUMBERS[1]),
        row(place, 4, 证件号=ID_NUMBERS[0]),
        row(place, 5, 证件号="110105199003071230"),
        row(place, 6, "林", 车牌="粤A12345"),
        row(place, 7, 服务厅="没有的厅"),
        row(place, 8, 项目名称="没有的项目"),
        row(place, 9, 日期="2031-01-01"),
        row(place, 10, 开始时间="9点", 日期="明天"),
        row(place, 11, 服务厅="没有的厅", 日期="明天"),
        row(place, 12, "林", 日期="2031-01-01", 证件号="110105199003071230"),
        row(place, 13, "林", 日期="明天", 车牌="粤A12345"),
    ]

    answer = send(world, rows, dry_run=True)

    assert faults(answer) == {
        (3, "证件号", "booked_already"),
        (5, "证件号", "bad_checksum"),
        (6, "姓名", "too_short"),
        (6, "证件号", "required"),
        (6, "车牌", "unknown_field"),
        (7, "服务厅", "hall_unknown"),
        (8, "项目名称", "item_unknown"),
        (9, "开始时间", "slot_not_found"),
        (9, "证件号", "required"),
        (10, "开始时间", "time_parsing"),
        (10, "证件号", "required"),
        (10, "日期", "not_a_date"),
        (11, "服务厅", "hall_unknown"),
        (11, "日期", "not_a_date"),
        (12, "开始时间", "slot_not_found"),
        (12, "姓名", "too_short"),
        (12, "证件号", "bad_checksum"),
        (13, "日期", "not_a_date"),
        (13, "姓名", "too_short"),
        (13, "证件号", "required"),
        (13, "车牌", "unknown_field"),
    }
    assert taken(world, place) == 1


def test_what_is_no_time_is_told_in_the_readers_language(world: World) -> None:
    place, reader = a_slot(world), world.staff()

    answers = [
        send(world, [row(place, 2, 开始时间="9点")], who=reader | {"Accept-Language": language}, dry_run=True)
        for language in ("zh-CN", "en")
    ]

    details = [answer.json()["faults"][0]["detail"] for answer in answers]
    assert details == ["必须是 HH:MM 格式的时间", "has to be a time of day, written HH:MM"]


def test_the_rules_are_those_of_everybody(world: World) -> None:
    place = a_slot(world)
    place.change_item(status=ItemStatus.STOPPED)
    stopped = send(world, [row(place, 2)])
    place.change_item(status=ItemStatus.OPEN)
    place.change_slot(starts_at=utcnow() - timedelta(hours=3), ends_at=utcnow() - timedelta(hours=2))

    over = send(world, [row(place, 2)])

    assert faults(stopped) == {(2, "项目名称", "item_not_open")}
    assert faults(over) == {(2, "开始时间", "slot_ended")}


def test_cells_are_read_as_answers_of_every_kind(world: World) -> None:
    place = a_slot(world)
    place.change_item(
        form=[
            NAME,
            FormField(key="mobile", type=FieldType.MOBILE, label="手机号"),
            FormField(key="age", type=FieldType.NUMBER, label="年龄"),
            FormField(key="born", type=FieldType.DATE, label="生日"),
            FormField(key="needs", type=FieldType.CHECKBOX, label="需要", options=["轮椅", "手语", "手语/唇语 各一"]),
            FormField(key="region", type=FieldType.REGION, label="地区"),
            FormField(key="agrees", type=FieldType.SWITCH, label="同意"),
        ]
    )
    cells = {
        "手机号": 13800138000,
        "年龄": 36,
        "生日": "1990-01-02",
        "需要": "手语/唇语 各一、轮椅,手语",
        "地区": "广东省 广州市 天河区",
        "同意": "是",
    }

    answer = send(world, [row(place, 2, **cells)])

    assert came_to(answer)["applied"], answer.text
    [join] = joins(world)
    assert join["answers"] | {"mobile": "masked"} == {
        "name": "林小满",
        "mobile": "masked",
        "age": 36,
        "born": "1990-01-02",
        "needs": ["手语/唇语 各一", "轮椅", "手语"],
        "region": ["广东省", "广州市", "天河区"],
        "agrees": True,
    }


def test_asked_again_it_is_booked_once(world: World) -> None:
    place = a_slot(world)
    key, who = new_id(), world.staff()
    send(world, [row(place, 2)], who=who, key=key)

    again = send(world, [row(place, 2)], who=who, key=key)

    assert came_to(again) == {"applied": True, "rows": 1, "faults": [], "faults_total": 0}
    assert taken(world, place) == 1


def test_what_is_closed_is_never_booked(world: World) -> None:
    place = a_slot(world)
    key, who = new_id(), world.staff()
    world.client.post(f"{IMPORTS}/{key}/close", headers=world.for_job(who, key))

    late = send(world, [row(place, 2)], who=who, key=key)

    assert (late.status_code, late.json()["code"]) == (409, "import_closed")
    assert taken(world, place) == 0


def test_a_hall_admin_books_into_their_own_halls_alone(world: World) -> None:
    own, foreign = a_slot(world), a_slot(world)
    foreign.change_hall(name="别的厅")
    admin = world.staff(Role.HALL_ADMIN, halls=[own.hall_id])

    elsewhere = send(world, [row(own, 2), row(foreign, 3)], who=admin)
    at_home = send(world, [row(own, 2)], who=admin)

    assert faults(elsewhere) == {(3, "服务厅", "hall_unknown")}
    assert came_to(at_home)["applied"]


def test_who_is_booked_is_told_by_applying_alone_and_to_imports_alone(world: World) -> None:
    place = a_slot(world, capacity=9)
    place.change_item(form=[NAME, ID_CARD])
    booked(world, world.user("first"), place.slot_id, "张三丰", id_card=ID_NUMBERS[0])
    rows = [row(place, 2, 证件号=ID_NUMBERS[0]), row(place, 3, 证件号=ID_NUMBERS[1])]
    body = {"id": new_id(), "dry_run": True, "rows": rows}

    by_hand = world.client.post(IMPORTS, json=body, headers=world.staff())
    tried = send(world, rows, dry_run=True)
    applied = send(world, rows)

    assert code_of(by_hand) == (403, "jobs_only")
    assert faults(tried) == set()
    assert faults(applied) == {(2, "证件号", "booked_already")}
    assert taken(world, place) == 1


def test_a_slot_that_closes_under_an_import_is_closed_and_not_full(world: World) -> None:
    place = a_slot(world, capacity=9)
    rows = [row(place, 2), row(place, 3)]

    with ThreadPoolExecutor(1) as pool, world.runtimes["booking"].db.transaction() as closing:
        closing.execute(text("UPDATE slots SET status = 'closed' WHERE id = :id"), {"id": place.slot_id})
        answer = pool.submit(send, world, rows)
        waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        eventually(lambda: closing.scalar(waiting))  # it was decided on the slot as it was, and takes its places

    assert faults(answer.result()) == {(2, "开始时间", "slot_closed"), (3, "开始时间", "slot_closed")}
    assert taken(world, place) == 0


def test_numbers_are_not_found_out_by_imports_that_fail(make_world: Callable[..., World]) -> None:
    world = make_world(clash_rate="2/day")
    place = a_slot(world)
    place.change_item(form=[NAME, ID_CARD])
    booked(world, world.user("first"), place.slot_id, "张三丰", id_card=ID_NUMBERS[0])
    admin, colleague = (world.staff(Role.HALL_ADMIN, halls=[place.hall_id]) for _ in range(2))
    guess, honest = row(place, 2, 证件号=ID_NUMBERS[0]), row(place, 2, 证件号=ID_NUMBERS[1])

    told = [faults(send(world, [guess], who=admin)) for _ in range(2)]
    silent = [faults(send(world, [one], who=admin)) for one in (guess, honest)]

    assert told == [{(2, "证件号", "booked_already")}] * 2
    assert silent == [{(0, "", "too_many_clashes")}] * 2, "of whom is booked as of whom is not"
    assert came_to(send(world, [honest], who=colleague))["applied"]
    place.change_item(form=[NAME])
    assert came_to(send(world, [row(place, 2)], who=admin))["applied"], "nobody is told anything by it"


def test_imports_that_meet_nobody_are_not_counted(make_world: Callable[..., World]) -> None:
    world = make_world(clash_rate="1/day")
    place = a_slot(world)
    place.change_item(form=[NAME, ID_CARD])
    admin = world.staff(Role.HALL_ADMIN, halls=[place.hall_id])

    twins = send(world, [row(place, number, 证件号=ID_NUMBERS[0]) for number in (2, 3)], who=admin)
    answers = [send(world, [row(place, 2, 证件号=number)], who=admin) for number in ID_NUMBERS]

    assert faults(twins) == {(3, "证件号", "booked_already")}
    assert [came_to(answer)["applied"] for answer in answers] == [True, True]


def test_who_was_imported_is_a_person_alone(world: World) -> None:
    place = a_slot(world, capacity=9)
    assert came_to(send(world, [row(place, 2, "林小满"), row(place, 3, "王大年")]))["applied"]
    first, second = joins(world)

    erased = world.client.post(
        f"/api/booking/staff/users/{first['user_id']}/erase", json={"reason": "本人申请"}, headers=world.staff()
    )

    assert erased.status_code == 204
    left = {join["id"]: (join["status"], join["answers"]) for join in joins(world)}
    assert left == {first["id"]: ("cancelled", {}), second["id"]: ("booked", {"name": "王大年"})}
    people = world.client.get("/api/booking/staff/users", headers=world.staff()).json()["items"]
    assert [user["provider"] for user in people] == []
