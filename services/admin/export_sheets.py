"""What an export looks like: which sheets and columns it has, and what a join, a user, a stat or a record is in them.

Headers and words are Chinese, beside the numbers that operators' old spreadsheets hold.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import FieldType, ItemStatus
from services.admin.job_runs import Progress
from services.admin.models import AuditRecord
from services.admin.sources import Source
from services.admin.workbooks import COLUMNS_OF_EXCEL, Book, Column, Value

Json = dict[str, Any]

JOIN_STATUS: dict[str, tuple[str, int]] = {
    JoinStatus.BOOKED: ("预约成功", 1),
    JoinStatus.CANCELLED: ("已取消", 10),
    JoinStatus.REVOKED: ("后台取消", 99),
}
ITEM_STATUS: dict[str, tuple[str, int]] = {
    ItemStatus.DRAFT: ("未启用", 0),
    ItemStatus.OPEN: ("使用中", 1),
    ItemStatus.STOPPED: ("停止预约", 9),
    ItemStatus.CLOSED: ("已关闭", 10),
}
USUAL_ZONE = ZoneInfo("Asia/Shanghai")  # of what belongs to no hall
EXCEL_BEGINS = date(1900, 1, 1)
SLOTS_AT_ONCE = 200  # as many as booking takes in one request


# --- joins ------------------------------------------------------------------------------------------------------------

_BEFORE = (
    Column("预约码", 18),
    Column("服务厅", 20),
    Column("预约项目", 20),
    Column("日期", 12),
    Column("开始", 8),
    Column("结束", 8),
    Column("状态", 10),
    Column("状态码", 8),
    Column("用户", 14),
)
_OTHERS = Column("其他回答", 24)
_AFTER = (
    Column("签到", 8),
    Column("签到时间", 20),
    Column("预约时间", 20),
    Column("取消时间", 20),
    Column("取消原因", 24),
)
_ITEMS = (
    Column("服务厅", 20),
    Column("预约项目", 24),
    Column("项目状态", 10),
    Column("项目状态码", 10),
    Column("时区", 16),
    Column("行数", 10),
)


class _Form:
    """The answers' columns of a sheet: a field of a form has the column of its label, of all forms of the sheet.

    These are the items' forms of today, and those that their joins were made with. What has no column (a field of a form
    that is not known any more, or one too many for Excel) goes into one for others.
    """

    def __init__(self, items: Iterable[Json], made_with: Mapping[str, Collection[int]]) -> None:
        most = COLUMNS_OF_EXCEL - len(_BEFORE) - len(_AFTER) - 1
        places: dict[tuple[str, int], int] = {}
        self._fields: dict[tuple[str, int | None], list[tuple[str, str, int]]] = {}
        self._others = False
        for item in items:
            older = {one["version"]: one["form"] for one in item["forms"] if one["version"] in made_with[item["id"]]}
            self._others |= not older.keys() >= set(made_with[item["id"]])
            for version, form in [(None, item["form"]), *older.items()]:
                labels: list[str] = []
                fields = self._fields[item["id"], version] = []
                for field in form:
                    labels.append(field["label"])
                    place = places.setdefault((field["label"], labels.count(field["label"])), len(places))
                    if place < most:
                        fields.append((field["key"], field["type"], place))
        self._width = min(len(places), most)
        self._others |= len(places) > most
        self._labels = [label for label, _ in places][:most]

    @property
    def columns(self) -> tuple[Column, ...]:
        others = (_OTHERS,) if self._others else ()
        return (*(Column(label, max(14, min(40, len(label) * 2 + 4))) for label in self._labels), *others)

    def values(self, join: Json) -> list[Value]:
        """Return a join's answers in their columns."""
        item_id, answers = join["item_id"], join["answers"]
        values: list[Value] = [None] * self._width
        fields = self._fields.get((item_id, join["form_version"]), self._fields[item_id, None])
        for key, kind, place in fields:
            answer = answers.get(key)
            values[place] = answer if type(answer) is str and kind != FieldType.DATE else _answer(answer, kind)
        if self._others:
            known = {key for key, _, _ in fields}
            left = [f"{key}：{_answer(answer, '')}" for key, answer in answers.items() if key not in known]
            values.append("\n".join(left) or None)
        return values


def _answer(answer: Any, kind: str) -> Value:
    """Return an answer as a cell holds it; masked ones are text, whatever their field is."""
    match answer:
        case None:
            return None
        case bool():
            return "是" if answer else "否"
        case int() | float():
            return answer
        case str() if kind == FieldType.DATE and "*" not in answer:
            return _day(answer)
        case str():
            return answer
        case {"name": str(name), "bytes": int()}:
            return name  # of a file
        case list() if all(isinstance(one, str) for one in answer):
            return (" " if kind == FieldType.REGION else "、").join(answer)
    return json.dumps(answer, ensure_ascii=False)


def joins(book: Book, progress: Progress, booking: Source, wanted: Json, *, unmasked: bool) -> None:
    """Write the joins that the filter finds: a sheet an item, or all on one, newest first; then what the items are."""
    asked = wanted["filter"]
    counts: dict[str, Json] = {one["item_id"]: one for one in booking.get("feed/joins/counts", asked)}
    items = {item["id"]: item for item in _items(booking) if item["id"] in counts}
    ordered = sorted(items.values(), key=lambda item: (item["hall_name"], item["title"], item["id"]))
    progress.rows_total = sum(counts[item_id]["joins"] for item_id in items)
    rows_of = dict.fromkeys(items, 0)

    def write(name: str, chosen: Sequence[Json], more: Json) -> None:
        form = _Form(chosen, {item["id"]: counts[item["id"]]["form_versions"] for item in chosen})
        book.begin(name, (*_BEFORE, *form.columns, *_AFTER))
        with closing(booking.pages("feed/joins", asked | more | {"unmasked": unmasked})) as pages:
            for page in pages:
                for join in page:
                    item = items.get(join["item_id"])
                    # What the run did not know when it began has no columns: an item that was made since, or a form.
                    if item is None or join["form_version"] not in counts[item["id"]]["form_versions"]:
                        continue
                    book.add(_join(join, item, form))
                    rows_of[item["id"]] += 1
                    progress.rows_done += 1
                progress.check()

    if wanted["layout"] == "one" or not ordered:
        write("预约记录", ordered, {})
    else:
        for item in ordered:
            write(item["title"], [item], {"item_id": item["id"]})
    book.begin("项目", _ITEMS)
    for item in ordered:
        book.add(
            (item["hall_name"], item["title"], *ITEM_STATUS[item["status"]], item["timezone"], rows_of[item["id"]])
        )


def _join(join: Json, item: Json, form: _Form) -> list[Value]:
    word, number = JOIN_STATUS[join["status"]]
    checked_in = join["checked_in_at"]
    return [
        join["code"],
        item["hall_name"],
        item["title"],
        _day(join["date"]),
        _clock(join["start"]),
        _clock(join["end"]),
        word,
        number,
        join["user_name"],
        *form.values(join),
        "已签到" if checked_in else "爽约" if join["missed"] else None,
        _instant(checked_in),
        _instant(join["created_at"]),
        _instant(join["ended_at"]),
        join["reason"] or None,
    ]


def _items(booking: Source) -> Iterator[Json]:
    for page in booking.pages("feed/items", {}):
        yield from page


@lru_cache(maxsize=1024)
def _day(text: str) -> date | str:
    """Return a date; as text where it lies before Excel's first, which to a cell is a negative number."""
    day = date.fromisoformat(text)
    return day if day >= EXCEL_BEGINS else text


@lru_cache(maxsize=1440)
def _clock(text: str) -> time:
    return time.fromisoformat(text)


def _instant(text: str | None) -> datetime | None:
    """Return an instant as the clock showed it where it happened: its text carries the offset of the hall's zone."""
    return datetime.fromisoformat(text).replace(tzinfo=None, microsecond=0) if text else None


def _in_usual_zone(instant: datetime) -> datetime:
    return instant.astimezone(USUAL_ZONE).replace(tzinfo=None, microsecond=0)


# --- users ------------------------------------------------------------------------------------------------------------

_USER = (
    Column("用户编号", 38),
    Column("来源", 10),
    Column("姓名", 16),
    Column("手机号", 16),
    Column("状态", 8),
    Column("状态码", 8),
    Column("停用原因", 24),
    Column("注册时间（北京时间）", 22),
)


def users(book: Book, progress: Progress, booking: Source, wanted: Json, *, unmasked: bool) -> None:
    """Write the users that the filter finds, newest first."""
    asked = wanted["filter"]
    progress.rows_total = booking.get("feed/users/count", asked)["users"]
    book.begin("用户", _USER)
    with closing(booking.pages("feed/users", asked | {"unmasked": unmasked})) as pages:
        for page in pages:
            for user in page:
                book.add(_user(user))
                progress.rows_done += 1
            progress.check()


def _user(user: Json) -> list[Value]:
    word, number = ("已停用", 9) if user["disabled"] else ("正常", 1)
    return [
        user["id"],
        user["provider"],
        user["name"] or None,
        user["phone"] or None,
        word,
        number,
        user["disabled_reason"] or None,
        _in_usual_zone(datetime.fromisoformat(user["created_at"])),
    ]


# --- stats ------------------------------------------------------------------------------------------------------------

_DAY = (Column("日期", 12),)
_HALL = (Column("服务厅", 20),)
_ITEM = (Column("预约项目", 24), Column("项目状态", 10), Column("项目状态码", 10))
_SLOT = (Column("开始", 8), Column("结束", 8))
_PLACES: dict[str, tuple[Column, ...]] = {
    "slot": (*_DAY, *_HALL, *_ITEM, *_SLOT),
    "item": (*_HALL, *_ITEM),
    "hall": _HALL,
    "day": _DAY,
}
_COUNTS = {
    "slots": Column("时段数", 8),
    "booked": Column("预约成功（1）", 14),
    "cancelled": Column("已取消（10）", 14),
    "revoked": Column("后台取消（99）", 14),
    "checked_in": Column("已签到", 10),
    "missed": Column("爽约", 10),
    "taken": Column("已占名额", 10),
    "capacity": Column("总名额", 10),
    "fill_rate": Column("满载率", 10),
}


def stats(book: Book, progress: Progress, booking: Source, notify: Source, wanted: Json) -> None:
    """Write the stats by slot, item, hall or day, in the order of the list, with the names of what they are about."""
    group, asked = wanted["group"], wanted["filter"]
    items = {item["id"]: item for item in _items(booking)}
    halls = {item["hall_id"]: item["hall_name"] for item in items.values()}
    if group == "slot":
        progress.rows_total = notify.get("stats", asked | {"limit": 1})["total"]["slots"]
    book.begin("预约统计", (*_PLACES[group], *_COUNTS.values()))
    with closing(notify.pages("feed/stats", asked | {"group": group})) as pages:
        for page in pages:
            slots = _slots(booking, page) if group == "slot" else {}
            for line in page:
                book.add([*_place(group, line, items, halls, slots), *(line[name] for name in _COUNTS)])
                progress.rows_done += 1
            progress.check()


def _slots(booking: Source, lines: list[Json]) -> dict[str, Json]:
    ids = [line["slot_id"] for line in lines]
    parts = [ids[first : first + SLOTS_AT_ONCE] for first in range(0, len(ids), SLOTS_AT_ONCE)]
    return {slot["id"]: slot for part in parts for slot in booking.get("feed/slots", {"id": part})}


def _place(
    group: str, line: Json, items: dict[str, Json], halls: dict[str, str], slots: dict[str, Json]
) -> Iterator[Value]:
    """Yield the cells that say what a line is about; what booking has not heard of is named by its id."""
    if group in ("slot", "day"):
        yield _day(line["day"])
    if group != "day":
        yield halls.get(line["hall_id"], line["hall_id"])
    if group in ("slot", "item"):
        item = items.get(line["item_id"])
        yield item["title"] if item else line["item_id"]
        yield from ITEM_STATUS[item["status"]] if item else (None, None)
    if group == "slot":
        slot = slots.get(line["slot_id"])
        yield _clock(slot["start"]) if slot else None
        yield _clock(slot["end"]) if slot else None


# --- the audit trail --------------------------------------------------------------------------------------------------

_RECORD = (
    Column("时间（北京时间）", 20),
    Column("服务", 10),
    Column("操作人", 16),
    Column("操作人编号", 38),
    Column("操作", 24),
    Column("对象类型", 12),
    Column("对象编号", 38),
    Column("服务厅编号", 38),
    Column("原因", 24),
    Column("变更前", 40),
    Column("变更后", 40),
)


def trail(book: Book, progress: Progress, total: int, pages: Iterable[list[AuditRecord]]) -> None:
    """Write the records of the audit trail, newest first."""
    progress.rows_total = total
    book.begin("操作日志", _RECORD)
    for page in pages:
        for record in page:
            book.add(_record(record))
            progress.rows_done += 1
        progress.check()


def _record(record: AuditRecord) -> list[Value]:
    return [
        _in_usual_zone(record.happened_at),
        record.service,
        record.actor_name,
        record.actor_id,
        record.action,
        record.object_type,
        record.object_id,
        record.hall_id,
        record.reason or None,
        _as_text(record.before),
        _as_text(record.after),
    ]


def _as_text(changed: Json | None) -> str | None:
    return None if changed is None else json.dumps(changed, ensure_ascii=False)
