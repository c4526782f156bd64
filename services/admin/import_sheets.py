"""The workbooks of imports: the template that people fill in, and the reading of what they send, which nobody has checked.

A workbook is an archive that may unpack to anything: it is measured before it is opened. It is XML that may name
anything: with defusedxml openpyxl reads no part that declares entities.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, get_args

from openpyxl import Workbook, load_workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from libs.common.errors import Language, Texts
from libs.common.logs import logger
from libs.contracts.imports import (
    LONGEST_CELL,
    MOST_COLUMNS,
    MOST_FAULTS,
    MOST_ROWS,
    SHEETS,
    SHEETS_OF,
    Column,
    Kind,
    Sheet,
    numbered,
)
from services.admin.job_runs import LeaseLost
from services.admin.workbooks import ROWS_OF_EXCEL

log = logger(__name__)

MOST_PARTS = 200
MOST_UNPACKED = 20_000_000  # bytes; a thousand rows are far less
NOT_EXACT = 10**15  # Excel keeps fifteen digits of a number
NOTES = "填写说明"
_TEXT = "@"

SENTENCES: dict[str, Texts] = {
    "not_xlsx": Texts(en="This is no .xlsx workbook that can be read.", zh="不是可以读取的 .xlsx 文件"),
    "too_large_unpacked": Texts(en="The workbook unpacks to too much.", zh="文件解压后过大"),
    "sheet_missing": Texts(en="There is no such sheet.", zh="缺少此工作表"),
    "no_rows": Texts(en="There is no row to import.", zh="没有可导入的数据"),
    "too_many_rows": Texts(en="The sheets may have {most} rows at most.", zh="最多 {most} 行"),
    "too_many_columns": Texts(en="The sheet may have {most} columns at most.", zh="最多 {most} 列"),
    "missing": Texts(en="This column is missing.", zh="缺少此列"),
    "header_repeated": Texts(en="This column is there twice.", zh="此列重复"),
    "unknown_column": Texts(en="There is no such column.", zh="没有此列"),
    "no_header": Texts(en="The column has no header.", zh="此列没有表头"),
    "formula": Texts(en="A formula is not read: paste its value.", zh="不能填写公式，请粘贴为数值"),
    "error_cell": Texts(en="Excel shows an error here.", zh="单元格为错误值"),
    "digits_lost": Texts(
        en="Excel has lost digits of this number: format the column as text and type it again.",
        zh="数字过长，Excel 已丢失末尾的数字，请将该列设为文本格式后重新填写",
    ),
    "cell_too_long": Texts(en="may have at most {most} characters", zh="最多 {most} 个字符"),
    "example": Texts(en="This is the example of the template: delete the row.", zh="这是模板中的示例，请删除该行"),
}


def sheets_of(kind: str) -> tuple[Sheet, ...]:
    """Return the sheets that an import of this kind has."""
    return next(SHEETS_OF[known] for known in get_args(Kind) if known == kind)


# --- the template ---------------------------------------------------------------------------------------------------


def template(kind: Kind) -> bytes:
    """Return the workbook to fill in: headers and an example, and a sheet of notes. Every cell is text, and stays it."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for sheet in SHEETS_OF[kind]:
        _write(book, sheet.title, [[column.header for column in _all(sheet)], _example(sheet)])
    notes = [["工作表", "列", "必填", "填写内容", "示例"]]
    for sheet in SHEETS_OF[kind]:
        notes += [
            [sheet.title, column.header, "是" if column.required else "", _note(column), column.example]
            for column in _all(sheet)
        ]
    most = "；".join(f"“{sheet.title}”最多 {sheet.most} 行" for sheet in SHEETS_OF[kind])
    notes.append(["", "", "", f"请删除示例行。{most}，各表合计最多 {MOST_ROWS} 行。任何一处有误，则全部不导入。", ""])
    _write(book, NOTES, notes)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _all(sheet: Sheet) -> tuple[Column, ...]:
    return sheet.columns + (sheet.form or ())


def _example(sheet: Sheet) -> list[str]:
    return [column.example for column in _all(sheet)]


def _note(column: Column) -> str:
    return "；".join(filter(None, (" / ".join(column.words), column.note)))


def _write(book: Workbook, title: str, rows: Sequence[Sequence[str]]) -> None:
    sheet: Any = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    for row in rows:
        sheet.append(list(row))
    for index, header in enumerate(rows[0], 1):
        dimension = sheet.column_dimensions[get_column_letter(index)]
        dimension.width, dimension.number_format = max(14, len(header) * 2 + 4), _TEXT
        sheet.cell(1, index).font = Font(bold=True)
    for cells in sheet.iter_rows():
        for cell in cells:
            cell.number_format = _TEXT


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """The rows that were found, as the owning service takes them, and what is wrong with cells themselves.

    `faults` has no more than are told, `total` counts them all. `letters` are those of the columns, by sheet and header,
    that are the form's.
    """

    language: Language
    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    letters: dict[tuple[str, str], str] = field(default_factory=dict)

    def fault(self, sheet: str, row: int, column: str, reason: str, **params: Any) -> None:
        self.total += 1
        if len(self.faults) == MOST_FAULTS:
            return
        detail = SENTENCES[reason].render(self.language, params)
        self.faults.append({"sheet": sheet, "row": row, "column": column, "reason": reason, "detail": detail})


class _Unfit(Exception):
    """A cell, or the file, can't be read; the text is a key of SENTENCES."""


def read(content: bytes, sheets: Sequence[Sheet], language: str, *, check: Callable[[], None]) -> Found:
    """Read the rows of a workbook; whatever it is, the answer is rows or faults, unless `check` says that the run is over."""
    found = Found("en" if language == "en" else "zh")
    try:
        _measure(content)
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=False, keep_links=False)
        titles = set(book.sheetnames)
        for sheet in sheets:
            if sheet.title in titles:
                _read_sheet(book[sheet.title], sheet, found, check)
            elif sheet is sheets[0]:
                found.fault(sheet.title, 0, "", "sheet_missing")
    except _Unfit as error:
        found.rows.clear()
        found.fault("", 0, "", str(error))
    except LeaseLost:
        raise
    except Exception:  # whatever openpyxl stumbles over, in ways of its own, is the file's fault
        log.info("a workbook can't be read", exc_info=True)
        found.rows.clear()
        found.fault("", 0, "", "not_xlsx")
    if len(found.rows) > MOST_ROWS:
        found.rows.clear()
        found.fault(sheets[0].title, 0, "", "too_many_rows", most=MOST_ROWS)
    if not found.rows and not found.faults:
        found.fault(sheets[0].title, 0, "", "no_rows")
    return found


def _measure(content: bytes) -> None:
    """Raise _Unfit for an archive that unpacks to too much.

    What an archive says of its parts is what is read of them: a part that goes on is cut, and fails its checksum.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_UNPACKED:
            raise _Unfit("too_large_unpacked")


def _read_sheet(cells: Any, sheet: Sheet, found: Found, check: Callable[[], None]) -> None:
    cells.reset_dimensions()  # what the file says about them may be wrong
    # openpyxl makes a line for every number that the file passes over: without an end, as many as the file can spell.
    lines: Iterator[tuple[Any, ...]] = cells.iter_rows(max_row=ROWS_OF_EXCEL, max_col=MOST_COLUMNS + 1)
    headers = _headers(next(lines, ()), sheet, found)
    before = len(found.rows)
    passed: tuple[Any, ...] = ()
    for number, line in enumerate(lines, 2):
        check()
        if line is passed:  # one and the same line stands for all that were passed over: it has been looked at
            continue
        passed = line
        values = _values(line, headers, sheet, number, found)
        if values is None:
            continue
        if len(found.rows) - before == sheet.most:
            found.fault(sheet.title, number, "", "too_many_rows", most=sheet.most)
            return
        found.rows.append({"sheet": sheet.title, "row": number, "values": values})


Headers = list[Column | str | None]  # text: a header that is a fault of its own


def _headers(line: tuple[Any, ...], sheet: Sheet, found: Found) -> Headers:
    """Return the column that each place of the sheet is.

    One that the sheet itself does not have is named by its letter alone: what stands there may be somebody's data, where
    the row of headers was forgotten.
    """
    texts = [str(cell.value if cell.value is not None else "").strip() for cell in line]
    known = {column.header: column for column in sheet.columns}
    headers: Headers = []
    seen: set[str] = set()
    for place, (text, header) in enumerate(zip(texts, numbered(texts), strict=True)):
        if not text:
            headers.append(None)
            continue
        letter = get_column_letter(place + 1)
        column = known.get(header) or (Column(header, header) if sheet.form is not None else None)
        fault = None
        if header in seen or (text in seen and sheet.form is None):
            fault = "header_repeated"
        elif column is None or len(header) > 100:
            fault = "unknown_column"
        elif place == MOST_COLUMNS:
            fault = "too_many_columns"
        if fault:
            found.fault(sheet.title, 1, text if text in known else letter, fault, most=MOST_COLUMNS)
        if column is not None and header not in known:
            found.letters[sheet.title, header] = letter
        headers.append(header if fault else column)
        seen.add(header)
    for column in sheet.columns:
        if column.required and column.header not in seen:
            found.fault(sheet.title, 1, column.header, "missing")
    return headers


def _values(line: tuple[Any, ...], headers: Headers, sheet: Sheet, number: int, found: Found) -> dict[str, Any] | None:
    """Return the values of a row by header; None for a row without any."""
    values: dict[str, Any] = {}
    is_empty = True
    for place, cell in enumerate(line):
        if cell.value is None or (isinstance(cell.value, str) and not cell.value.strip()):
            continue
        is_empty = False
        column = headers[place] if place < len(headers) else None
        if column is None:
            found.fault(sheet.title, number, get_column_letter(place + 1), "no_header")
        if not isinstance(column, Column):
            continue
        try:
            values[column.header] = _value(cell, column, is_form=column not in sheet.columns)
        except _Unfit as error:
            name = found.letters.get((sheet.title, column.header), column.header)
            found.fault(sheet.title, number, name, str(error), most=LONGEST_CELL)
    if values and [str(values.get(column.header, "")) for column in _all(sheet)] == _example(sheet):
        found.fault(sheet.title, number, "", "example")
    return None if is_empty else values


_DATE = re.compile(r"([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?")
_TIME = re.compile(r"([0-9]{1,2})[:：]([0-9]{2})(:00)?")
_WHOLE = re.compile(r"[0-9]{1,9}")


def _value(cell: Any, column: Column, *, is_form: bool) -> Any:
    """Return what a cell holds, as JSON spells it for its column; what it can't be is for the owning service to say."""
    value = cell.value
    if cell.data_type == "f":
        raise _Unfit("formula")
    if cell.data_type == "e":
        raise _Unfit("error_cell")
    if isinstance(value, str):
        return _text(value.strip(), column)
    if isinstance(value, (datetime, date, time, timedelta)):
        return _spelled(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value == int(value):
        value = int(value)
    if abs(value) >= NOT_EXACT:
        raise _Unfit("digits_lost")
    return str(value) if column.kind == "text" and not is_form else value


def _text(text: str, column: Column) -> Any:
    if len(text) > LONGEST_CELL:
        raise _Unfit("cell_too_long")
    if column.kind == "date" and (parts := _DATE.fullmatch(text)):
        return f"{parts[1]}-{int(parts[2]):02}-{int(parts[3]):02}"
    if column.kind == "time" and (parts := _TIME.fullmatch(text)):
        return f"{int(parts[1]):02}:{parts[2]}"
    if column.kind == "whole" and _WHOLE.fullmatch(text):
        return int(text)
    return text


def _spelled(value: datetime | date | time | timedelta) -> str:
    if isinstance(value, timedelta):
        if not timedelta() <= value < timedelta(days=1):
            return str(value)  # "1 day, 9:00:00": hours beyond a day are no time of day
        value = (datetime(1900, 1, 1) + value).time()  # noqa: DTZ001  # a time of day, whose date is dropped
    if isinstance(value, time):
        return value.strftime("%H:%M") if not value.second else value.isoformat("seconds")
    if isinstance(value, datetime) and value.time() != time(0):
        return value.strftime("%Y-%m-%d %H:%M")
    return value.strftime("%Y-%m-%d")


# Items before their slots: what is wrong with the first may be all that is wrong with the others.
_PLACES = {title: place for place, title in enumerate(SHEETS)}


def merged(own: Found, others: Sequence[dict[str, Any]], others_total: int) -> tuple[list[dict[str, Any]], int]:
    """Return the faults of both, sheet by sheet in the order of the rows, of a cell that could not be read that alone; and how many."""
    by_cell = {}
    for fault in others:
        letter = own.letters.get((fault["sheet"], fault["column"]), "")
        shown = fault | {"column": letter} if fault["reason"] == "unknown_field" else fault
        by_cell[fault["sheet"], fault["row"], letter or fault["column"]] = shown
    by_cell |= {(fault["sheet"], fault["row"], fault["column"]): fault for fault in own.faults}
    untold = own.total - len(own.faults) + others_total - len(others)
    in_order = sorted(by_cell, key=lambda cell: (_PLACES.get(cell[0], 0), *cell))
    return [by_cell[cell] for cell in in_order][:MOST_FAULTS], len(by_cell) + untold
