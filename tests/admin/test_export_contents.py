"""What an exported workbook holds is what the staff's lists hold: counts, order, text."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy import serve
from libs.contracts.catalog import FieldType, FormField, ItemStatus
from tests.admin.builders import PASSWORD, trail
from tests.admin.exporting import (
    Headers,
    a_world_that_answers,
    an_exporter,
    asked,
    do,
    exported,
    fetched,
    records,
    sheets,
)
from tests.booking import builders as booking
from tests.booking.builders import NAME, Place, a_slot, booked, cancel, checked_in, revoke
from tests.booking.uploading import A_PDF, an_image, sent
from tests.conftest import Cluster
from tests.world import World


def field(key: str, kind: FieldType, label: str, **more: Any) -> FormField:
    return FormField(key=key, type=kind, label=label, required=False, **more)


FORM = [
    NAME,
    field("id_card", FieldType.ID_CARD, "身份证号"),
    field("note", FieldType.TEXTAREA, "备注"),
    field("born", FieldType.DATE, "出生日期"),
    field("region", FieldType.REGION, "地区"),
    field("topics", FieldType.CHECKBOX, "事项", options=["首次", "换证", "补办"]),
    field("agent", FieldType.SWITCH, "代办"),
    field("pages", FieldType.NUMBER, "份数"),
]
ID_CARD = "11010519491231002X"
LONG = "长" * 10_000
CLEAR = {"unmasked": True, "reason": "核对名单", "password": PASSWORD}


@pytest.fixture
def served(cluster: Cluster) -> Iterator[World]:
    with a_world_that_answers(cluster) as world:
        yield world


def listed(world: World, who: Headers, **query: Any) -> list[dict[str, Any]]:
    """Return all joins that the list shows."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        params = {"limit": 100} | query | ({"cursor": cursor} if cursor else {})
        page = world.client.get("/api/booking/staff/joins", params=params, headers=who).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def as_the_list_says(join: dict[str, Any]) -> dict[str, Any]:
    """Return the cells that a join of the list becomes, without its answers."""
    words = {"booked": ("预约成功", 1), "cancelled": ("已取消", 10), "revoked": ("后台取消", 99)}
    slot = join["slot"]
    return {
        "预约码": join["code"],
        "服务厅": join["hall"]["name"],
        "预约项目": join["item"]["title"],
        "日期": datetime.combine(date.fromisoformat(slot["date"]), time()),
        "开始": time.fromisoformat(slot["start"]),
        "结束": time.fromisoformat(slot["end"]),
        "状态": words[join["status"]][0],
        "状态码": words[join["status"]][1],
        "用户": join["user_name"] or None,
        "签到": "已签到" if join["checked_in_at"] else "爽约" if join["missed"] else None,
        "签到时间": on_the_clock(join["checked_in_at"]),
        "预约时间": on_the_clock(join["created_at"]),
        "取消原因": join["reason"] or None,
    }


def on_the_clock(instant: str | None) -> datetime | None:
    return datetime.fromisoformat(instant).replace(tzinfo=None, microsecond=0) if instant else None


def without_answers(row: dict[str, Any], join: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in as_the_list_says(join)}


def a_busy_hall(world: World) -> list[Place]:
    """Two items of two halls, in two zones, with joins of every state."""
    first = a_slot(world, form=FORM, party_max=9, max_per_slot=99, cancel="anytime")
    second = a_slot(world, party_max=9, max_per_slot=99)
    second.change_hall(name="伦敦厅", timezone="Europe/London")
    second.change_item(title="签证", status=ItemStatus.STOPPED)
    second.change_item(status=ItemStatus.OPEN)
    user = world.user("first")
    world.client.patch("/api/booking/me", json={"name": "林小满"}, headers=user)
    joins = booked(world, user, first.slot_id, "张三", "李四", "王五", "赵六", id_card=ID_CARD, note=LONG)
    cancel(world, user, joins[1]["id"])
    revoke(world, joins[2]["id"], reason="=HYPERLINK(1)")
    checked_in(world, joins[3]["id"])
    booked(world, world.user("second"), second.slot_id, "Ann Lee")
    second.change_item(status=ItemStatus.STOPPED)
    booking.do(world, "find")
    return [first, second]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"status": "cancelled"},
        {"status": ["cancelled", "revoked"]},
        {"checked_in": True},
        {"q": "签证"},
        {"to": "2000-01-01"},
        {"person": "李四"},
        {"missed": False},
    ],
)
def test_all_on_one_sheet_is_the_list(served: World, query: dict[str, Any]) -> None:
    a_busy_hall(served)
    who = an_exporter(served)
    joins = listed(served, who, **query)

    found = records(sheets(exported(served, who, "joins", layout="one", filter=query))["预约记录"])

    assert [without_answers(row, join) for row, join in zip(found, joins, strict=True)] == [
        as_the_list_says(join) for join in joins
    ]
    assert [row["姓名"] for row in found] == [join["answers"]["name"] for join in joins]


def test_a_sheet_an_item_has_the_fields_of_its_form(served: World) -> None:
    first, second = a_busy_hall(served)
    who = an_exporter(served)

    found = sheets(exported(served, who, "joins"))

    assert list(found) == ["签证", "护照办理", "项目"]
    assert set(FORM_LABELS) <= set(found["护照办理"][0])
    assert not set(FORM_LABELS[1:]) & set(found["签证"][0])
    for place, title in ((first, "护照办理"), (second, "签证")):
        joins = listed(served, who, item_id=place.item.item_id)
        rows = records(found[title])
        assert [without_answers(row, join) for row, join in zip(rows, joins, strict=True)] == [
            as_the_list_says(join) for join in joins
        ]
    assert records(found["项目"]) == [
        {
            "服务厅": "伦敦厅",
            "预约项目": "签证",
            "项目状态": "停止预约",
            "项目状态码": 9,
            "时区": "Europe/London",
            "行数": 1,
        },
        {
            "服务厅": "市民之窗",
            "预约项目": "护照办理",
            "项目状态": "使用中",
            "项目状态码": 1,
            "时区": "Asia/Shanghai",
            "行数": 4,
        },
    ]


FORM_LABELS = [one.label for one in FORM]


def test_answers_come_out_as_what_they_are(served: World) -> None:
    place = a_slot(served, form=FORM)
    answers = {
        "id_card": ID_CARD,
        "note": LONG,
        "born": "1990-02-28",
        "region": ["广东省", "广州市", "天河区"],
        "topics": ["换证", "补办"],
        "agent": True,
        "pages": 2.5,
    }
    booked(served, served.user("first"), place.slot_id, "王😀明", **answers)
    who = an_exporter(served)

    [row] = records(sheets(exported(served, who, "joins", **CLEAR))["护照办理"])
    [masked] = records(sheets(exported(served, who, "joins"))["护照办理"])

    assert [row[label] for label in FORM_LABELS] == [
        "王😀明",
        ID_CARD,
        LONG,
        datetime(1990, 2, 28),  # noqa: DTZ001  # a date
        "广东省 广州市 天河区",
        "换证、补办",
        "是",
        2.5,
    ]
    assert masked == row | {"身份证号": "110*************2X"}


def test_a_date_before_excels_first_is_text(served: World) -> None:
    place = a_slot(served, form=FORM)
    for name, born in (("王一", "1899-12-31"), ("王二", "1900-01-01")):
        booked(served, served.user(name), place.slot_id, name, born=born)
    who = an_exporter(served)

    rows = records(sheets(exported(served, who, "joins"))["护照办理"])

    assert {row["姓名"]: row["出生日期"] for row in rows} == {
        "王一": "1899-12-31",
        "王二": datetime(1900, 1, 1),  # noqa: DTZ001  # a date
    }


@pytest.mark.parametrize(
    "stored", ["=1+1", "@cmd", "+8613800138000", "张\x07三", "  x ", "440106199001011234", "_x0041_"]
)
def test_text_that_looks_like_something_else_stays_text(served: World, stored: str) -> None:
    """Also such as no form of today would take: it may be older than the rule."""
    place = a_slot(served)
    booked(served, served.user("first"), place.slot_id, "张三")
    with served.runtimes["booking"].db.transaction() as session:
        session.execute(
            text("UPDATE joins SET answers = jsonb_build_object('name', CAST(:stored AS text))"), {"stored": stored}
        )
    who = an_exporter(served)

    [row] = records(sheets(exported(served, who, "joins"))["护照办理"])

    assert row["姓名"] == stored.replace("\x07", "").replace("_x0041_", "_x005F_x0041_")


def test_joins_are_exported_by_the_forms_that_they_were_made_with(served: World) -> None:
    asked = field("asked", FieldType.TEXT, "旧问题")
    place = a_slot(served, form=[NAME, asked], max_per_slot=9)
    booked(served, served.user("first"), place.slot_id, "张三", asked="旧答案")
    place.change_item(form=[NAME, field("never", FieldType.TEXT, "没有人答过")], form_version=2)
    place.change_item(form=[field("asked", FieldType.DATE, "新问题"), NAME], form_version=3)
    booked(served, served.user("first"), place.slot_id, "李四", asked="2026-11-25")

    newer, older = records(sheets(exported(served, an_exporter(served), "joins"))["护照办理"])

    assert [newer["姓名"], newer["新问题"], newer["旧问题"]] == [
        "李四",
        datetime.combine(date(2026, 11, 25), time()),
        None,
    ]
    assert [older["姓名"], older["新问题"], older["旧问题"]] == ["张三", None, "旧答案"]
    assert not {"没有人答过", "其他回答"} & set(newer)


def test_an_answer_to_a_form_that_nobody_knows_any_more_is_not_lost(served: World) -> None:
    place = a_slot(served, form=[NAME, field("old", FieldType.TEXT, "旧问题")])
    booked(served, served.user("first"), place.slot_id, "张三", old="旧答案")
    place.change_item(form=[NAME], form_version=2)
    with served.runtimes["booking"].db.transaction() as session:
        session.execute(text("DELETE FROM item_forms WHERE version = 1"))  # as before forms were kept

    [row] = records(sheets(exported(served, an_exporter(served), "joins"))["护照办理"])

    assert row["其他回答"] == "old：旧答案"


def test_a_row_is_never_without_its_answers_where_the_form_changes_meanwhile(cluster: Cluster) -> None:
    with (
        serve.listen("127.0.0.1", 0) as listening,
        cluster.world(booking_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as world,
    ):
        place = a_slot(world, max_per_slot=9)
        booked(world, world.user("first"), place.slot_id, "张三")
        meanwhile = Meanwhile(world.gateway, "/api/booking/staff/feed/joins")
        who = an_exporter(world)
        export_id = asked(world, who, "joins")
        answering: Any = world
        answering.gateway = meanwhile

        def book_by_a_new_form() -> None:
            place.change_item(form=[NAME, field("claim", FieldType.TEXT, "诉求")], form_version=2)
            booked(world, world.user("second"), place.slot_id, "李四", claim="退款")

        meanwhile.happens = book_by_a_new_form
        with world.serve(listening):
            do(world, "export")
        early = records(sheets(fetched(world, who, export_id))["护照办理"])
        with world.serve(listening):
            late = records(sheets(exported(world, who, "joins"))["护照办理"])

        assert [row["姓名"] for row in early] == ["张三"]
        assert [(row["姓名"], row["诉求"]) for row in late] == [("李四", "退款"), ("张三", None)]


class Meanwhile:
    """An app before which something happens, once, when a path is first asked for."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path
        self.happens: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == self._path and self.happens is not None:
            happens, self.happens = self.happens, None
            await asyncio.to_thread(happens)
        await self._app(scope, receive, send)


def test_files_are_exported_by_their_names(served: World) -> None:
    papers = [field("paper", FieldType.FILE, "材料"), field("card", FieldType.IMAGE, "证件照", sensitive=True)]
    place = a_slot(served, form=[NAME, *papers])
    user = served.user("first")
    paper = sent(served, user, place, "paper", A_PDF, "=户口本.pdf")["reference"]
    booked(served, user, place.slot_id, paper=paper, card=sent(served, user, place, "card", an_image())["reference"])

    [row] = records(sheets(exported(served, an_exporter(served), "joins"))["护照办理"])

    assert (row["材料"], row["证件照"]) == ("=户口本.pdf", "***")


def test_an_export_of_nothing_has_its_header(served: World) -> None:
    who = an_exporter(served)

    found = sheets(exported(served, who, "joins"))

    assert [len(rows) for rows in found.values()] == [1, 1]


def test_users_are_the_list(served: World) -> None:
    for name in ("一", "二", "三"):
        served.client.patch("/api/booking/me", json={"name": f"林{name}"}, headers=served.user(name))
    who = an_exporter(served)
    users = served.client.get("/api/booking/staff/users", headers=who).json()["items"]
    disabling = {"disabled": True, "reason": "多次失约"}
    assert served.client.patch(f"/api/booking/staff/users/{users[0]['id']}", json=disabling, headers=who).is_success

    found = records(sheets(exported(served, who, "users"))["用户"])

    assert [row["用户编号"] for row in found] == [user["id"] for user in users]
    assert [(row["姓名"], row["状态"], row["状态码"]) for row in found] == [
        ("林三", "已停用", 9),
        ("林二", "正常", 1),
        ("林一", "正常", 1),
    ]
    for narrowed, names in (
        ({"q": "二"}, ["林二"]),
        ({"disabled": True}, ["林三"]),
        ({"disabled": False}, ["林二", "林一"]),
    ):
        rows = records(sheets(exported(served, who, "users", filter=narrowed))["用户"])
        assert [row["姓名"] for row in rows] == names


@pytest.mark.parametrize("group", ["slot", "item", "hall", "day"])
def test_stats_are_the_list(served: World, group: str) -> None:
    a_busy_hall(served)
    served.settle()
    who = an_exporter(served)
    lines = served.client.get("/api/notify/staff/stats", params={"group": group}, headers=who).json()["items"]

    found = records(sheets(exported(served, who, "stats", group=group))["预约统计"])

    counts = {"时段数": "slots", "预约成功（1）": "booked", "已取消（10）": "cancelled", "后台取消（99）": "revoked"}
    counts |= {"已签到": "checked_in", "爽约": "missed", "已占名额": "taken", "总名额": "capacity"}
    assert [{name: row[name] for name in counts} for row in found] == [
        {name: line[key] for name, key in counts.items()} for line in lines
    ]
    if group in ("item", "slot"):
        assert {(row["服务厅"], row["预约项目"], row["项目状态码"]) for row in found} == {
            ("市民之窗", "护照办理", 1),
            ("伦敦厅", "签证", 9),
        }
    if group == "slot":
        assert all(row["开始"] and row["结束"] for row in found)


def test_the_trail_is_the_list(served: World) -> None:
    [first, _] = a_busy_hall(served)
    who = an_exporter(served)
    shown = trail(served, who, hall_id=first.hall_id)
    assert shown

    found = records(sheets(exported(served, who, "audit", filter={"hall_id": first.hall_id}))["操作日志"])

    assert [(row["操作"], row["对象编号"], row["原因"]) for row in found] == [
        (record["action"], record["object_id"], record["reason"] or None) for record in shown
    ]
    happened = datetime.fromisoformat(shown[0]["happened_at"]).astimezone(ZoneInfo("Asia/Shanghai"))
    assert abs(found[0]["时间（北京时间）"] - happened.replace(tzinfo=None)) < timedelta(seconds=1)
