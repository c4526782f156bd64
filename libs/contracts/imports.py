"""Imports: the sheets that staff fill in, and how a service takes all of their rows, or none.

Admin reads the workbook and knows what a cell is; the service that owns the rows knows what they mean. It is handed the
whole set in one request, applies it in one transaction, and remembers under its id that it did.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import to_json
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from libs.common import faults
from libs.common.db import Uuid
from libs.common.errors import Conflict, HallpassError, Invalid, Language, Texts
from libs.common.web import Id, Schema
from libs.contracts.principals import Staff

# Of one workbook, so that it is applied well before nobody waits any more: rows, and rows that are each made on their own.
MOST_ROWS = 1000
MOST_MADE = 50
MOST_COLUMNS = 100
LONGEST_CELL = 20_000
MOST_FAULTS = 1000  # that are told; a thousand rows of a hundred columns can have more than anybody reads
REMEMBERED = timedelta(days=30)

# --- the sheets -----------------------------------------------------------------------------------------------------

S = TypeVar("S", bound=BaseModel)
Kind = Literal["halls", "items", "joins"]
CellKind = Literal["text", "whole", "date", "time"]


@dataclass(frozen=True)
class Column:
    """A column by its header: the name of the field that it fills, and what its cells hold. `words` stand for its values."""

    header: str
    name: str
    kind: CellKind = "text"
    required: bool = False
    example: str = ""
    note: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sheet:
    """A sheet by its title, with `most` rows. `form`: any further column holds answers to the form's field of that label."""

    title: str
    columns: tuple[Column, ...]
    most: int = MOST_ROWS
    form: tuple[Column, ...] | None = None

    def header_of(self, name: str) -> str:
        """Return the header of the column that fills the field; of the first column, where none does."""
        return next((column.header for column in self.columns if column.name == name), self.columns[0].header)


_HALL = Column("服务厅", "hall", required=True, example="市民之窗", note="名称；有重名时填写编号")
_ITEM = Column("项目名称", "title", required=True, example="护照办理")
_DATE = Column("日期", "date", "date", required=True, example="2026-12-01", note="日期，或文字 2026-12-01")
_START = Column("开始时间", "start", "time", required=True, example="09:00", note="时间，或文字 09:00")
_END = Column("结束时间", "end", "time", required=True, example="12:00", note="时间，或文字 12:00")
_ORDER = Column("排序", "order", "whole", example="100", note="整数，0 在最前，默认 9999")


def numbered(headers: Iterable[str]) -> list[str]:
    """Return headers so that each is there once: of several alike, as exports write fields of one label, `备注 (2)` is next."""
    seen: Counter[str] = Counter()
    found = []
    for header in headers:
        seen[header] += 1
        found.append(header if seen[header] == 1 else f"{header} ({seen[header]})")
    return found


HALLS = Sheet(
    "服务厅",
    (
        Column("名称", "name", required=True, example="市民之窗", note="不能与已有的服务厅重名"),
        Column("地址", "address", example="天河路1号"),
        Column("开放时间", "opening", example="工作日 9:00-17:00", note="文字说明"),
        Column("电话", "phone", example="020-12345678", note="请设为文本格式"),
        Column("介绍", "intro", example="位于地铁站A出口"),
        _ORDER,
        Column("时区", "timezone", example="Asia/Shanghai", note="默认 Asia/Shanghai"),
        Column("状态", "status", example="开放", note="默认 开放", words={"开放": "open", "关闭": "closed"}),
    ),
    most=MOST_MADE,
)
ITEMS = Sheet(
    "预约项目",
    (
        _HALL,
        _ITEM,
        Column("分类", "category", example="", note="已有分类的名称"),
        Column("介绍", "content", example="请携带身份证原件"),
        _ORDER,
        Column(
            "状态",
            "status",
            example="未启用",
            note="默认 未启用",
            words={"未启用": "draft", "使用中": "open", "停止预约": "stopped", "已关闭": "closed"},
        ),
        Column("每次最多人数", "party_max", "whole", example="1", note="1 至 50，默认 1"),
        Column("提前开放天数", "opens_days_before", "whole", example="7", note="0 至 366，不填则随时可约"),
    ),
    most=MOST_MADE,
)
SLOTS = Sheet(
    "时段",
    (
        _HALL,
        Column("项目名称", "title", required=True, example="护照办理", note="须在“预约项目”表中"),
        _DATE,
        _START,
        _END,
        Column("人数上限", "capacity", "whole", example="30", note="不填则不限"),
    ),
)
JOINS = Sheet(
    "预约记录",
    (
        _HALL,
        _ITEM,
        _DATE,
        _START,
        _END,
    ),
    form=(
        Column("姓名", "", example="林小满", note="表单字段：表头须与项目表单的字段名称一致，可增加或删除"),
        Column("手机号", "", example="13800138000", note="表单字段：证件号、手机号请设为文本格式"),
    ),
)
SHEETS: dict[str, Sheet] = {sheet.title: sheet for sheet in (HALLS, ITEMS, SLOTS, JOINS)}
SHEETS_OF: dict[Kind, tuple[Sheet, ...]] = {"halls": (HALLS,), "items": (ITEMS, SLOTS), "joins": (JOINS,)}

# --- what is handed over, and answered ------------------------------------------------------------------------------

Cell = Annotated[str, StringConstraints(max_length=LONGEST_CELL)] | int | float | bool


class RowIn(Schema):
    """A row of a sheet; `row` is its number in Excel. `values` by header: dates YYYY-MM-DD, times HH:MM; no empty ones."""

    sheet: Annotated[str, StringConstraints(max_length=31)]
    row: Annotated[int, Field(ge=1, le=1_048_576)]
    values: Annotated[dict[Annotated[str, StringConstraints(max_length=100)], Cell], Field(max_length=MOST_COLUMNS)]


class ImportIn(Schema):
    """A set of rows that is applied wholly or not at all; with `dry_run` it is only looked at.

    `id` is made by the caller, as an idempotency key: what was applied under it is not applied again.
    """

    id: Id
    dry_run: bool
    rows: Annotated[list[RowIn], Field(min_length=1, max_length=MOST_ROWS)]

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(to_json(self.rows)).digest()


class RowFault(BaseModel):
    """What is wrong with a cell. `reason` is a word that stays, `detail` a sentence for people."""

    sheet: str
    row: int
    column: str
    reason: str
    detail: str


class ImportOut(BaseModel):
    """Whether the rows are applied. After a dry run they are not, and `faults` says what is wrong with which.

    These are the first thousand of `faults_total`.
    """

    applied: bool
    rows: int
    faults: list[RowFault]
    faults_total: int = 0


class ImportFaulty(Invalid):
    """Nothing was changed. `faults` lists RowFaults, the first thousand of `faults_total`."""

    code = "import_faulty"
    texts = Texts(en="The rows have faults; see `params.faults`.", zh="导入内容有误，请按提示逐项修改")


class ImportClosed(Conflict):
    """Nothing is applied under this id any more: it was given up, or was used for other rows."""

    code = "import_closed"
    texts = Texts(en="This import is over. Begin a new one.", zh="该导入任务已结束，请重新导入")


# --- faults ---------------------------------------------------------------------------------------------------------

_OPTION = Texts(en="has to be one of {options}", zh="只能填写 {options}")
_UNKNOWN_SHEET = Texts(en="is no sheet of this import", zh="不是此类导入的工作表")
_TOO_MANY = Texts(en="the sheet may have {most} rows at most", zh="此工作表最多 {most} 行")


@dataclass
class Faults:
    """The faults of rows, in the language of whoever reads them; of a cell the first that was noted.

    `found` has no more than are told, `total` counts them all.
    """

    language: Language
    found: list[RowFault] = field(default_factory=list)
    total: int = 0
    _cells: set[tuple[str, int, str]] = field(default_factory=set)

    def add(self, row: RowIn, column: str, reason: str, detail: str) -> None:
        cell = (row.sheet, row.row, column)
        if cell in self._cells:
            return
        self._cells.add(cell)
        self.total += 1
        if len(self.found) < MOST_FAULTS:
            self.found.append(RowFault(sheet=row.sheet, row=row.row, column=column, reason=reason, detail=detail))

    def refused(self, row: RowIn, column: str, error: HallpassError) -> None:
        """Note that a rule refuses the row."""
        self.add(row, column, error.code, error.sentence(self.language))

    def whole(self, sheet: Sheet, error: HallpassError) -> None:
        """Note that a rule refuses the sheet as a whole."""
        self.total += 1
        detail = error.sentence(self.language)
        self.found.append(RowFault(sheet=sheet.title, row=0, column="", reason=error.code, detail=detail))

    @contextmanager
    def noting(self, row: RowIn, column: str) -> Iterator[None]:
        """Note that a rule refuses the row, where one does in the block, and go on after it."""
        try:
            yield
        except HallpassError as error:
            self.refused(row, column, error)

    def parsed(self, row: RowIn, sheet: Sheet, schema: type[S], fields: dict[str, Any]) -> S | None:
        """Return the fields of the row as the schema has them; None, with each fault noted, where they do not fit it."""
        try:
            return schema.model_validate(fields)
        except ValidationError as error:
            self._invalid(row, sheet, error)
            return None

    def _invalid(self, row: RowIn, sheet: Sheet, error: ValidationError) -> None:
        for one in error.errors(include_url=False, include_input=False):
            described = faults.of_validation(one, self.language)
            names = [step for step in one["loc"] if isinstance(step, str)]
            self.add(row, sheet.header_of(names[-1] if names else ""), described["reason"], described["detail"])

    def rows(self, data: ImportIn, sheet: Sheet) -> list[RowIn]:
        """Return the rows of a sheet; none, but a fault, where they are more than there may be."""
        found = [row for row in data.rows if row.sheet == sheet.title]
        if len(found) <= sheet.most:
            return found
        self.add(found[sheet.most], "", "too_many_rows", _TOO_MANY.render(self.language, {"most": sheet.most}))
        return []

    def of_foreign_sheets(self, data: ImportIn, own: Iterable[Sheet]) -> None:
        """Note every row of a sheet that does not belong to the import."""
        titles = {sheet.title for sheet in own}
        for row in data.rows:
            if row.sheet not in titles:
                self.add(row, "", "unknown_sheet", _UNKNOWN_SHEET.render(self.language, {}))

    def fields(self, row: RowIn, sheet: Sheet) -> dict[str, Any]:
        """Return the row by the names of fields, and note what is missing, unknown, or no word of its column."""
        columns = {column.header: column for column in sheet.columns}
        for header in row.values.keys() - columns.keys():
            if sheet.form is None:
                self._spelled(row, header, "unknown_parameter")
        found: dict[str, Any] = {}
        for column in sheet.columns:
            value = row.values.get(column.header)
            if value is None or value == "":
                if column.required:
                    self._spelled(row, column.header, "missing")
            elif not column.words:
                found[column.name] = value
            elif (word := column.words.get(str(value))) is not None:
                found[column.name] = word
            else:
                detail = _OPTION.render(self.language, {"options": "、".join(column.words)})
                self.add(row, column.header, "not_an_option", detail)
        return found

    def _spelled(self, row: RowIn, column: str, reason: str) -> None:
        self.add(row, column, reason, faults.fault(column, reason, self.language)["detail"])


def outcome(session: Session, data: ImportIn, faults: Faults) -> ImportOut:
    """Return what came of the rows, once all of them were made: undone in a dry run; ImportFaulty where one has a fault."""
    if data.dry_run:
        session.rollback()
    elif faults.found:
        raise ImportFaulty(faults=[fault.model_dump() for fault in faults.found], faults_total=faults.total)
    return ImportOut(applied=not data.dry_run, rows=len(data.rows), faults=faults.found, faults_total=faults.total)


# --- once -----------------------------------------------------------------------------------------------------------


class ImportRecord:
    """What became of an import: applied, or (`applied` is false) given up before it was. A table of each owning service."""

    staff_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    digest: Mapped[bytes]
    applied: Mapped[bool]
    rows: Mapped[int]
    recorded_at: Mapped[datetime]


def begin(
    session: Session, table: type[ImportRecord], staff: Staff, data: ImportIn, *, now: datetime
) -> ImportOut | None:
    """Record the import as applied by this transaction; return what it came to where it is already.

    Whoever asks at the same time waits for this transaction's end. Raises ImportClosed where it was given up.
    """
    if _record(session, table, staff, data.id, digest=data.digest, rows=len(data.rows), applied=True, now=now):
        return None
    first = session.get_one(table, (staff.id, data.id))
    if not first.applied or first.digest != data.digest:
        raise ImportClosed
    return ImportOut(applied=True, rows=first.rows, faults=[])


def close(session: Session, table: type[ImportRecord], staff: Staff, import_id: str, *, now: datetime) -> ImportOut:
    """Have the import applied never, unless it has been; return whether it has."""
    _record(session, table, staff, import_id, digest=b"", rows=0, applied=False, now=now)
    first = session.get_one(table, (staff.id, import_id))
    return ImportOut(applied=first.applied, rows=first.rows, faults=[])


def _record(session: Session, table: type[ImportRecord], staff: Staff, import_id: str, **values: Any) -> bool:
    now = values.pop("now")
    made = session.scalar(
        insert(table)
        .values(staff_id=staff.id, id=import_id, recorded_at=now, **values)
        .on_conflict_do_nothing()
        .returning(table.id)
    )
    return made is not None


def forget(session: Session, table: type[ImportRecord], *, now: datetime) -> int:
    """Delete the records of imports that nobody asks about any more; return how many."""
    gone = session.execute(delete(table).where(table.recorded_at < now - REMEMBERED))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount
