"""Imports into catalog: every row is made or none, each fault is named by its cell, and nothing is applied twice."""

from typing import Any

import httpx2

from libs.common.ids import new_id
from libs.contracts.imports import MOST_MADE, MOST_ROWS
from libs.contracts.principals import Role
from tests.booking.builders import code_of
from tests.catalog.builders import STAFF, a_category, a_hall, an_item, shown
from tests.world import World, simultaneously

IMPORTS = f"{STAFF}/imports"


def row(sheet: str, number: int, **values: Any) -> dict[str, Any]:
    return {"sheet": sheet, "row": number, "values": values}


def hall_row(number: int, name: str, **values: Any) -> dict[str, Any]:
    return row("服务厅", number, 名称=name, **values)


def item_row(number: int, hall: str, title: str, **values: Any) -> dict[str, Any]:
    return row("预约项目", number, 服务厅=hall, 项目名称=title, **values)


def slot_row(number: int, hall: str, title: str, on: str, start: str, end: str, **values: Any) -> dict[str, Any]:
    return row("时段", number, 服务厅=hall, 项目名称=title, 日期=on, 开始时间=start, 结束时间=end, **values)


def send(
    world: World, rows: list[dict[str, Any]], *, who: dict[str, str] | None = None, dry_run: bool = False, key: str = ""
) -> httpx2.Response:
    key = key or new_id()
    body = {"id": key, "dry_run": dry_run, "rows": rows}
    headers = world.for_job(who or world.staff(), key)
    answer: httpx2.Response = world.client.post(IMPORTS, json=body, headers=headers)
    return answer


def faults(answer: httpx2.Response) -> set[tuple[int, str, str]]:
    """Return where the faults are, of a dry run or a refusal."""
    found = answer.json() if answer.status_code == 200 else answer.json()["params"]
    assert answer.status_code == 200 or code_of(answer) == (422, "import_faulty"), answer.text
    assert not found.get("applied", False)
    assert all(fault["detail"] for fault in found["faults"])
    return {(fault["row"], fault["column"], fault["reason"]) for fault in found["faults"]}


def names(world: World) -> list[str]:
    page = shown(world.client.get(f"{STAFF}/halls?limit=100", headers=world.staff()))
    return sorted(hall["name"] for hall in page["items"])


def titles(world: World) -> list[str]:
    page = shown(world.client.get(f"{STAFF}/items?limit=100", headers=world.staff()))
    return sorted(item["title"] for item in page["items"])


def test_halls_are_made_as_the_rows_say(world: World) -> None:
    rows = [hall_row(2, "东厅", 地址="天河路1号", 状态="关闭", 排序=3), hall_row(3, "西厅", 电话="020-1")]

    answer = send(world, rows)

    assert shown(answer) == {"applied": True, "rows": 2, "faults": [], "faults_total": 0}
    page = shown(world.client.get(f"{STAFF}/halls", headers=world.staff()))
    east, west = page["items"]
    assert (east["name"], east["address"], east["status"], east["order"]) == ("东厅", "天河路1号", "closed", 3)
    assert (west["name"], west["phone"], west["status"], west["order"]) == ("西厅", "020-1", "open", 9999)


def test_one_fault_leaves_everything_as_it_was_and_every_fault_is_named(world: World) -> None:
    a_hall(world, name="东厅")
    rows = [
        hall_row(2, "南厅"),
        hall_row(3, "东厅"),
        hall_row(4, "北厅", 排序="first", 时区="Mars/Base"),
        hall_row(5, "西厅", 时区="Mars/Base", 状态="半开"),
        row("服务厅", 6, 地址="没有名称"),
        hall_row(7, "南厅", 面积=3),
        row("别的", 8, 名称="不该在此"),
    ]

    answer = send(world, rows)

    assert faults(answer) == {
        (3, "名称", "name_taken"),
        (4, "排序", "int_type"),
        (4, "时区", "timezone_unknown"),
        (5, "时区", "timezone_unknown"),
        (5, "状态", "not_an_option"),
        (6, "名称", "missing"),
        (7, "名称", "name_taken"),
        (7, "面积", "unknown_parameter"),
        (8, "", "unknown_sheet"),
    }
    assert names(world) == ["东厅"]


def test_a_dry_run_finds_the_same_and_changes_nothing(world: World) -> None:
    good = send(world, [hall_row(2, "东厅")], dry_run=True)
    bad = send(world, [hall_row(2, "东厅"), hall_row(3, "东厅")], dry_run=True)

    assert shown(good) == {"applied": False, "rows": 1, "faults": [], "faults_total": 0}
    assert faults(bad) == {(3, "名称", "name_taken")}
    assert names(world) == []


def test_the_sentences_are_in_the_readers_language(world: World) -> None:
    rows = [row("服务厅", 2, 地址="没有名称")]

    chinese = send(world, rows, who=world.staff() | {"Accept-Language": "zh-CN"})
    english = send(world, rows, who=world.staff() | {"Accept-Language": "en"})

    assert [fault["detail"] for fault in chinese.json()["params"]["faults"]] == ["必须填写"]
    assert [fault["detail"] for fault in english.json()["params"]["faults"]] == ["is missing"]


def test_items_come_with_their_slots(world: World) -> None:
    hall = a_hall(world, name="东厅")
    a_category(world, "证件")
    rows = [
        item_row(2, "东厅", "护照办理", 分类="证件", 状态="使用中", 每次最多人数=3, 提前开放天数=7),
        item_row(3, hall["id"], "换证"),
        slot_row(2, "东厅", "护照办理", "2027-03-01", "09:00", "12:00", 人数上限=30),
        slot_row(3, "东厅", "护照办理", "2027-03-01", "14:00", "17:00"),
        slot_row(4, "东厅", "护照办理", "2027-03-02", "09:00", "12:00", 人数上限=5),
    ]

    answer = send(world, rows)

    assert shown(answer) == {"applied": True, "rows": 5, "faults": [], "faults_total": 0}
    [passport] = shown(world.client.get(f"{STAFF}/items?q=护照", headers=world.staff()))["items"]
    item = shown(world.client.get(f"{STAFF}/items/{passport['id']}", headers=world.staff()))
    assert (item["status"], item["category"]["name"], item["hall"]["id"]) == ("open", "证件", hall["id"])
    assert (item["rules"]["party_max"], item["rules"]["opens_days_before"]) == (3, 7)
    assert [field["label"] for field in item["form"]] == ["姓名", "手机号"]
    days = shown(world.client.get(f"{STAFF}/items/{passport['id']}/days", headers=world.staff()))["items"]
    made = [(day["date"], slot["start"], slot["end"], slot["capacity"]) for day in days for slot in day["slots"]]
    assert made == [
        ("2027-03-01", "09:00", "12:00", 30),
        ("2027-03-01", "14:00", "17:00", None),
        ("2027-03-02", "09:00", "12:00", 5),
    ]


def test_every_fault_of_items_and_slots_is_named(world: World) -> None:
    hall = a_hall(world, name="东厅")
    a_hall(world, name="同名")
    a_hall(world, name="同名")
    an_item(world, hall, title="旧项目")
    closed = {"hall_id": hall["id"], "from": "2027-05-01", "to": "2027-05-03", "reason": "停电检修"}
    assert world.client.post(f"{STAFF}/closures", json=closed, headers=world.staff()).is_success
    rows = [
        item_row(2, "东厅", "护照办理"),
        item_row(3, "东厅", "旧项目"),
        item_row(4, "没有的厅", "换证"),
        item_row(5, "同名", "换证"),
        item_row(6, "东厅", "补证", 分类="没有的分类", 每次最多人数=1),
        item_row(7, "东厅", "年审", 每次最多人数=99),
        slot_row(2, "东厅", "护照办理", "2027-03-01", "09:00", "12:00"),
        slot_row(3, "东厅", "护照办理", "2027-03-01", "11:00", "13:00"),
        slot_row(4, "东厅", "护照办理", "2027-03-02", "12:00", "09:00"),
        slot_row(5, "东厅", "护照办理", "2027-02-30", "09:00", "9点"),
        slot_row(6, "东厅", "不在文件里", "2027-03-01", "09:00", "12:00"),
        slot_row(7, "东厅", "护照办理", "2027-05-02", "09:00", "12:00"),
        slot_row(8, "东厅", "补证", "2027-03-01", "09:00", "12:00", 人数上限=-1),
    ]

    answer = send(world, rows, dry_run=True)

    assert faults(answer) == {
        (3, "项目名称", "name_taken"),
        (4, "服务厅", "hall_unknown"),
        (5, "服务厅", "hall_ambiguous"),
        (6, "分类", "category_unknown"),
        (7, "每次最多人数", "less_than_equal"),
        (3, "开始时间", "overlap"),
        (4, "结束时间", "end_not_after_start"),
        (5, "日期", "date_from_datetime_parsing"),
        (5, "结束时间", "not_a_time"),
        (6, "项目名称", "item_not_in_file"),
        (7, "日期", "day_closed"),
        (8, "人数上限", "greater_than_equal"),
    }
    assert titles(world) == ["旧项目"]


def test_one_fault_hides_no_other(world: World) -> None:
    hall = a_hall(world, name="东厅")
    an_item(world, hall, title="旧项目")
    a_few = {"排序": -1, "每次最多人数": 99}
    rows = [
        hall_row(2, "东厅", 排序=-5, 时区="Mars/Base"),
        row("服务厅", 3, 排序=-5, 时区="Mars/Base"),
        item_row(2, "没有的厅", "换证", 分类="没有的分类", **a_few),
        item_row(3, "没有的厅", "补证"),
        item_row(4, "东厅", "旧项目", **a_few),
        row("预约项目", 5, 服务厅="东厅", **a_few),
        slot_row(2, "东厅", "旧项目", "2027-03-01", "09:00", "12:00"),
        slot_row(3, "东厅", "旧项目", "2027-03-01", "11:00", "13:00"),
        slot_row(4, "没有的厅", "补证", "2027-03-01", "12:00", "09:00"),
        slot_row(5, "东厅", "不在文件里", "2027-03-01", "九点", "12:00"),
        row("时段", 6, 日期="2027-03-01", 开始时间="09:00", 结束时间="12:00", 人数上限=-1),
        row("时段", 7, 日期="2027-03-01", 开始时间="09:00", 结束时间="12:00"),
    ]

    answer = send(world, rows, dry_run=True)

    found = answer.json()["faults"]
    assert faults(answer)
    assert sorted((fault["sheet"], fault["row"], fault["column"], fault["reason"]) for fault in found) == [
        ("时段", 3, "开始时间", "overlap"),
        ("时段", 4, "结束时间", "end_not_after_start"),
        ("时段", 5, "开始时间", "not_a_time"),
        ("时段", 5, "项目名称", "item_not_in_file"),
        ("时段", 6, "人数上限", "greater_than_equal"),
        ("时段", 6, "服务厅", "missing"),
        ("时段", 6, "项目名称", "missing"),
        ("时段", 7, "服务厅", "missing"),
        ("时段", 7, "项目名称", "missing"),
        ("服务厅", 2, "名称", "name_taken"),
        ("服务厅", 2, "排序", "greater_than_equal"),
        ("服务厅", 2, "时区", "timezone_unknown"),
        ("服务厅", 3, "名称", "missing"),
        ("服务厅", 3, "排序", "greater_than_equal"),
        ("服务厅", 3, "时区", "timezone_unknown"),
        ("预约项目", 2, "分类", "category_unknown"),
        ("预约项目", 2, "排序", "greater_than_equal"),
        ("预约项目", 2, "服务厅", "hall_unknown"),
        ("预约项目", 2, "每次最多人数", "less_than_equal"),
        ("预约项目", 3, "服务厅", "hall_unknown"),
        ("预约项目", 4, "排序", "greater_than_equal"),
        ("预约项目", 4, "每次最多人数", "less_than_equal"),
        ("预约项目", 4, "项目名称", "name_taken"),
        ("预约项目", 5, "排序", "greater_than_equal"),
        ("预约项目", 5, "每次最多人数", "less_than_equal"),
        ("预约项目", 5, "项目名称", "missing"),
    ]


def test_asked_again_it_is_applied_once(world: World) -> None:
    key, who, rows = new_id(), world.staff(), [hall_row(2, "东厅")]
    first = send(world, rows, who=who, key=key)

    again = send(world, rows, who=who, key=key)
    other_rows = send(world, [hall_row(2, "西厅")], who=who, key=key)

    assert shown(again) == shown(first) == {"applied": True, "rows": 1, "faults": [], "faults_total": 0}
    assert (other_rows.status_code, other_rows.json()["code"]) == (409, "import_closed")
    assert names(world) == ["东厅"]


def test_what_was_refused_may_be_asked_again(world: World) -> None:
    key, who = new_id(), world.staff()
    refused = send(world, [hall_row(2, "东厅"), hall_row(3, "东厅")], who=who, key=key)

    mended = send(world, [hall_row(2, "东厅"), hall_row(3, "西厅")], who=who, key=key)

    assert faults(refused)
    assert shown(mended)["applied"]


def test_imports_of_the_same_at_once_make_it_once(world: World) -> None:
    a_hall(world, name="东厅")
    wanted = [[hall_row(2, "西厅")], [item_row(2, "东厅", "换证")]] * 3

    answers = simultaneously([lambda rows=rows: send(world, rows) for rows in wanted])  # type: ignore[misc]  # a default binds rows

    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [422] * 4
    assert (names(world), titles(world)) == (["东厅", "西厅"], ["换证"])


def test_what_is_closed_is_never_applied(world: World) -> None:
    key, who, rows = new_id(), world.staff(), [hall_row(2, "东厅")]

    closed = world.client.post(f"{IMPORTS}/{key}/close", headers=world.for_job(who, key))
    late = send(world, rows, who=who, key=key)

    assert shown(closed) == {"applied": False, "rows": 0, "faults": [], "faults_total": 0}
    assert (late.status_code, late.json()["code"]) == (409, "import_closed")
    assert names(world) == []


def test_what_is_applied_is_told_when_it_is_closed(world: World) -> None:
    key, who = new_id(), world.staff()
    send(world, [hall_row(2, "东厅")], who=who, key=key)

    closed = world.client.post(f"{IMPORTS}/{key}/close", headers=world.for_job(who, key))

    assert shown(closed) == {"applied": True, "rows": 1, "faults": [], "faults_total": 0}


def test_a_hall_admin_imports_into_their_own_halls_alone(world: World) -> None:
    own, foreign = a_hall(world, name="东厅"), a_hall(world, name="西厅")
    admin = world.staff(Role.HALL_ADMIN, halls=[own["id"]])

    into_own = send(world, [item_row(2, "东厅", "换证")], who=admin)
    by_name = send(world, [item_row(2, "西厅", "换证")], who=admin)
    by_id = send(world, [item_row(2, foreign["id"], "换证")], who=admin)
    a_new_hall = send(world, [hall_row(2, "新厅")], who=admin)

    assert shown(into_own)["applied"]
    assert faults(by_name) == faults(by_id) == {(2, "服务厅", "hall_unknown")}
    assert (a_new_hall.status_code, a_new_hall.json()["code"]) == (403, "role_forbids")
    assert titles(world) == ["换证"]


def test_more_rows_are_refused(world: World) -> None:
    halls = send(world, [hall_row(number, f"厅{number}") for number in range(2, MOST_MADE + 3)])
    rows = send(world, [hall_row(2, "东厅")] * (MOST_ROWS + 1))

    assert faults(halls) == {(MOST_MADE + 2, "", "too_many_rows")}
    assert rows.status_code == 422
