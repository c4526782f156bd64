"""The demo: three halls in Guangzhou with categories, items and two weeks of slots, made through the staff API.

What is there already is left alone, so that an interrupted load is completed by the next. Everything is invented.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2

from deploy import runtimes
from deploy.names import Refusal
from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.service import Runtime
from libs.contracts.principals import Role, Staff, issue_staff_token

ZONE = ZoneInfo("Asia/Shanghai")
DAYS = 14
Json = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One item of the demo: what is sent to make it, and the periods that fill its days."""

    category: str
    title: str
    content: str
    form: list[Json]
    rules: Json
    periods: list[Json]
    weekdays: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 7])
    recommended: bool = False


@dataclass(frozen=True)
class Hall:
    """One hall of the demo with its items."""

    name: str
    address: str
    position: Json
    opening: str
    phone: str
    intro: str
    items: list[Item]


NAME = {"key": "name", "type": "text", "label": "姓名", "min": 2, "max": 30}
MOBILE = {"key": "mobile", "type": "mobile", "label": "手机号码"}
ID_CARD = {"key": "id_card", "type": "id_card", "label": "身份证号码"}


def _periods(*spans: str, capacity: int | None) -> list[Json]:
    pairs = [span.split("-") for span in spans]
    return [{"start": start, "end": end, "capacity": capacity} for start, end in pairs]


CATEGORIES = ["政务办理", "文化参观", "运动健身"]

HALLS = [
    Hall(
        name="天河政务服务大厅",
        address="广州市天河区示例路1号",
        position={"lat": 23.1247, "lng": 113.3612},
        opening="周一至周五 9:00-12:00，13:30-17:00",
        phone="020-00000001",
        intro="办理身份证、营业执照等事项，请提前预约并按时到场。",
        items=[
            Item(
                category="政务办理",
                title="身份证换领",
                content="请携带旧证件。每人每天只能预约一次。",
                form=[NAME, ID_CARD | {"unique": "day"}, MOBILE],
                rules={
                    "opens_days_before": 7,
                    "opens_at": "08:00",
                    "closes_minutes_before": 30,
                    "closes_before": "start",
                    "max_per_day": 1,
                    "max_ahead": 2,
                    "cancel": "before_start",
                    "cancel_minutes_before": 60,
                    "checkin_opens_minutes": 30,
                },
                periods=_periods(
                    "09:00-10:00", "10:00-11:00", "11:00-12:00", "13:30-15:00", "15:00-17:00", capacity=10
                ),
                weekdays=[1, 2, 3, 4, 5],
                recommended=True,
            ),
            Item(
                category="政务办理",
                title="营业执照办理",
                content="设立、变更、注销登记，可由两人一同到场。",
                form=[
                    NAME,
                    MOBILE,
                    {"key": "company", "type": "text", "label": "企业名称", "max": 100},
                    {
                        "key": "credit_code",
                        "type": "text",
                        "label": "统一社会信用代码",
                        "required": False,
                        "help": "设立登记可不填",
                        "pattern": "[0-9A-HJ-NPQRTUWXY]{18}",
                    },
                    {"key": "matter", "type": "select", "label": "办理事项", "options": ["设立", "变更", "注销"]},
                ],
                rules={"opens_days_before": 14, "party_max": 2, "cancel": "anytime"},
                periods=_periods("09:00-10:30", "10:30-12:00", "14:00-16:00", capacity=6),
                weekdays=[1, 2, 3, 4, 5],
            ),
        ],
    ),
    Hall(
        name="越秀城市博物馆",
        address="广州市越秀区示例街2号",
        position={"lat": 23.1291, "lng": 113.2644},
        opening="周二至周日 9:00-17:00",
        phone="020-00000002",
        intro="常设展览免费开放，凭预约码入馆。",
        items=[
            Item(
                category="文化参观",
                title="常设展览参观",
                content="每次最多为五人预约，每位参观者都需登记证件。",
                form=[NAME, ID_CARD | {"unique": "slot"}],
                rules={"party_max": 5, "cancel": "anytime", "checkin_opens_minutes": 120},
                periods=_periods(
                    "09:00-11:00", "11:00-13:00", "13:00-15:00", "15:00-17:00", "19:00-21:00", capacity=60
                ),
                recommended=True,
            ),
            Item(
                category="文化参观",
                title="亲子手工坊",
                content="适合 4 至 12 岁的孩子，由一位家长陪同。",
                form=[
                    NAME | {"label": "孩子姓名"},
                    {"key": "age", "type": "number", "label": "年龄", "min": 4, "max": 12},
                    MOBILE | {"label": "家长手机号码"},
                    {"key": "workshop", "type": "radio", "label": "想做什么", "options": ["剪纸", "陶艺", "木版画"]},
                    {"key": "notes", "type": "textarea", "label": "需要我们留意的", "required": False, "max": 200},
                ],
                rules={
                    "party_max": 3,
                    "max_per_day": 3,
                    "closes_minutes_before": 60,
                    "closes_before": "start",
                    "cancel": "before_start",
                    "cancel_minutes_before": 24 * 60,
                },
                periods=_periods("10:00-11:30", "14:00-15:30", capacity=12),
                weekdays=[6, 7],
            ),
        ],
    ),
    Hall(
        name="海珠全民健身中心",
        address="广州市海珠区示例大道3号",
        position={"lat": 23.0838, "lng": 113.3172},
        opening="每天 7:00-22:00",
        phone="020-00000003",
        intro="羽毛球场按时段预约，跑道与公园不限人数。",
        items=[
            Item(
                category="运动健身",
                title="羽毛球场",
                content="每个时段一块场地，最多四人。",
                form=[
                    NAME,
                    MOBILE,
                    {
                        "key": "rental",
                        "type": "checkbox",
                        "label": "租用器材",
                        "required": False,
                        "options": ["球拍", "球鞋", "羽毛球"],
                        "max": 3,
                    },
                    {"key": "plate", "type": "plate", "label": "车牌号码", "required": False},
                ],
                rules={
                    "opens_days_before": 3,
                    "opens_at": "07:00",
                    "party_max": 4,
                    "max_per_slot": 4,
                    "max_per_day": 4,
                    "cancel": "before_start",
                    "cancel_minutes_before": 120,
                    "checkin_opens_minutes": 15,
                },
                periods=_periods("08:00-09:00", "09:00-10:00", "18:00-19:00", "19:00-20:00", "20:00-21:00", capacity=4),
                recommended=True,
            ),
            Item(
                category="运动健身",
                title="晨跑打卡",
                content="不限人数，到场签到即可。",
                form=[NAME],
                rules={"closes_before": "end", "cancel": "anytime", "checkin_opens_minutes": 60},
                periods=_periods("06:00-08:00", capacity=None),
            ),
        ],
    ),
]

ANNOUNCEMENT = {
    "hall_id": None,
    "title": "欢迎使用厅约演示",
    "summary": "这里的服务厅和预约项目都是示例",
    "content": "您可以随意浏览、预约和取消。演示数据不代表任何真实机构。",
    "status": "published",
}


def load(url: str) -> int:
    """Make what is missing of the demo in the installation at this address."""
    runtime = runtimes.build("admin", process="demo-data")
    with httpx2.Client(
        base_url=f"{url.rstrip('/')}/api", headers=_as_demo(runtime), timeout=30, trust_env=False
    ) as http:
        api = Api(http)
        categories = {name: _category(api, name) for name in CATEGORIES}
        for order, hall in enumerate(HALLS, start=1):
            hall_id = _hall(api, hall, order)
            for place, item in enumerate(hall.items, start=1):
                _item(api, item, hall_id, categories[item.category], place)
        if not any(found["title"] == ANNOUNCEMENT["title"] for found in api.all("/notify/staff/announcements")):
            api.post("/notify/staff/announcements", ANNOUNCEMENT)
    runtime.close()
    print(
        f"The demo is there: {len(HALLS)} halls, {sum(len(hall.items) for hall in HALLS)} items, {DAYS} days of slots."
    )
    return 0


class Api:
    """The staff API, with refusals told as one sentence."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def post(self, path: str, body: Json) -> str:
        """Send it, and return the id of what was made (empty where nothing was)."""
        return str(self._call("POST", path, json=body).get("id", ""))

    def all(self, path: str) -> list[Json]:
        """Return every page of a list."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            page = self._call("GET", path, params={"limit": 100} | ({"cursor": cursor} if cursor else {}))
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def _call(self, method: str, path: str, **more: Any) -> Json:
        try:
            answer = self._http.request(method, path, **more)
        except httpx2.HTTPError as error:
            raise Refusal(f"{self._http.base_url} does not answer ({type(error).__name__}).") from None
        if not answer.is_success:
            raise Refusal(f"The demo was refused at {method} {path}: {answer.status_code} {answer.text[:500]}")
        told: Json = answer.json()
        return told


def _as_demo(runtime: Runtime) -> dict[str, str]:
    """Sign in as nobody's account: what is done shows as done by `demo` in the audit trail."""
    staff = Staff(id=new_id(), name="demo", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
    token = issue_staff_token(runtime.staff_keys, staff, now=utcnow())
    return {"Authorization": f"Bearer {token}", "Accept-Language": "en"}


def _category(api: Api, name: str) -> str:
    there: dict[str, str] = {found["name"]: found["id"] for found in api.all("/catalog/staff/categories")}
    body = {"name": name, "order": CATEGORIES.index(name) + 1}
    return there.get(name) or api.post("/catalog/staff/categories", body)


def _hall(api: Api, hall: Hall, order: int) -> str:
    there: dict[str, str] = {found["name"]: found["id"] for found in api.all("/catalog/staff/halls")}
    body = {
        "name": hall.name,
        "address": hall.address,
        "position": hall.position,
        "opening": hall.opening,
        "phone": hall.phone,
        "intro": hall.intro,
        "order": order,
    }
    return there.get(hall.name) or api.post("/catalog/staff/halls", body)


def _item(api: Api, item: Item, hall_id: str, category_id: str, order: int) -> None:
    cards = api.all("/catalog/staff/items")
    there = {card["title"]: card["id"] for card in cards if card["hall"]["id"] == hall_id}
    body = {
        "hall_id": hall_id,
        "category_id": category_id,
        "title": item.title,
        "content": item.content,
        "status": "open",
        "order": order,
        "recommended": item.recommended,
        "form": item.form,
        "rules": item.rules,
    }
    item_id = there.get(item.title) or api.post("/catalog/staff/items", body)
    first = _today()
    fill = {
        "from": first.isoformat(),
        "to": (first + timedelta(days=DAYS - 1)).isoformat(),
        "weekdays": item.weekdays,
        "periods": item.periods,
        "holidays": "ignore",  # there is something to book whenever somebody tries
    }
    api.post(f"/catalog/staff/items/{item_id}/days/fill", fill)


def _today() -> date:
    return datetime.now(ZONE).date()
