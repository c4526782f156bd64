"""Excel workbooks, written row by row in bounded memory: text is text whatever it begins with, dates are dates."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet._write_only import WriteOnlyWorksheet
from openpyxl.worksheet._writer import WorksheetWriter

Value = str | int | float | date | datetime | time | None
Row = Sequence[Value]

ROWS_OF_EXCEL = 1_048_576
COLUMNS_OF_EXCEL = 16_384
LONGEST_TEXT = 32_767  # of a cell, in UTF-16 code units
CUT = "…"  # where text of a cell was cut
LONGEST_TITLE = 31

# By the type of a value: its data type in the file, and its number format. Text has the format "@": else a cell that
# somebody edits in Excel, and leaves as it is, would become what its text looks like: a number, a date, a formula.
_KINDS: dict[type, tuple[str, str]] = {
    str: ("s", "@"),
    int: ("n", "General"),
    float: ("n", "General"),
    date: ("d", "yyyy-mm-dd"),
    datetime: ("d", "yyyy-mm-dd hh:mm:ss"),
    time: ("d", "hh:mm"),
}
# What XML 1.0 can't hold, what it would change (a carriage return), and what nobody sees: C0 and C1 controls but tab and
# line feed, lone surrogates, non-characters.
_NO_TEXT = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_UNFIT = re.compile(f"[{_NO_TEXT}]")
# Excel reads _x0041_ in a cell as "A" (ECMA-376, 22.9.2.19): the underscore itself is written as one of these.
_LOOKS_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_NOT_IN_TITLES = re.compile(rf"[\[\]:*?/\\\t\n{_NO_TEXT}]")


@dataclass(frozen=True)
class Column:
    """A column by its header; `width` is in characters."""

    header: str
    width: float = 14


def clean(text: str) -> str:
    """Return text as a cell can hold it: without control characters, and cut, with a mark, where it is longer than Excel takes."""
    if _UNFIT.search(text):
        text = _UNFIT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if "_x" in text:
        text = _LOOKS_ESCAPED.sub("_x005F_", text)
    if len(text) > LONGEST_TEXT // 2:
        units = text.encode("utf-16-le")
        if len(units) > LONGEST_TEXT * 2:
            text = units[: (LONGEST_TEXT - len(CUT)) * 2].decode("utf-16-le", "ignore") + CUT
    return text


class _Writer(WorksheetWriter):
    """Writes to a file of ours; openpyxl's own lies where nobody finds it when the process was killed."""

    def cleanup(self) -> None:
        Path(str(self.out)).unlink()


class _Sheet(WriteOnlyWorksheet):
    """openpyxl's sheet that is only written, with one cell for each type of value.

    openpyxl itself makes a new cell for every value with a style, and guesses its type: text that begins with "=" is a
    formula to it. Its rows went at two thirds of the speed of plain values, these go faster than those.
    """

    _writer: Any = None

    def __init__(self, workbook: Any, title: str, file: Path) -> None:
        super().__init__(workbook, title)
        self._file = file
        self._cells = {kind: self._cell(*written) for kind, written in _KINDS.items()}

    def _cell(self, data_type: str, number_format: str) -> Any:
        cell: Any = WriteOnlyCell(self)
        cell.number_format = number_format
        cell.data_type = data_type
        return cell

    def _get_writer(self) -> None:
        if self._writer is None:
            self._writer = _Writer(self, str(self._file))
            self._writer.write_top()

    def _values_to_row(self, values: Sequence[Any], row_idx: int) -> Iterator[Any]:
        for column, value in enumerate(values, 1):
            if value is None:
                continue
            cell = self._cells.get(type(value), value)
            if cell is not value:  # one of the header has a style of its own
                cell._value = clean(value) if type(value) is str else value
            cell.row, cell.column = row_idx, column
            yield cell


class Book:
    """A workbook under way: its sheets follow one another, each of them split where Excel ends. Use it as a context.

    `folder` takes what it writes; whoever made the folder removes it.
    """

    def __init__(self, folder: Path, *, rows_a_sheet: int = ROWS_OF_EXCEL) -> None:
        self._folder = folder
        self._rows_a_sheet = rows_a_sheet
        self._workbook: Any = Workbook(write_only=True)
        self._sheet: Any = None
        self._titles: set[str] = set()
        self._name = ""
        self._columns: Sequence[Column] = ()
        self._row = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_sheet()  # its file is open

    def begin(self, name: str, columns: Sequence[Column]) -> str:
        """Begin a sheet with a header that stays in view, and return its title; the one before is finished."""
        self._name, self._columns = name, columns[:COLUMNS_OF_EXCEL]
        return self._begin()

    def _begin(self) -> str:
        self._end_sheet()
        title = self._title()
        sheet: Any = _Sheet(self._workbook, title, self._folder / f"{len(self._titles)}.xml")
        self._workbook._add_sheet(sheet)
        sheet.freeze_panes = "A2"
        for index, column in enumerate(self._columns, 1):
            sheet.column_dimensions[get_column_letter(index)].width = column.width
        self._sheet = sheet
        sheet.append([_header(sheet, column.header) for column in self._columns])
        self._row = 1
        return title

    def add(self, row: Row) -> None:
        """Append a row to the sheet that was begun, or to one that continues it."""
        if self._row == self._rows_a_sheet:
            self._begin()
        assert self._sheet is not None, "a row belongs to a sheet"  # noqa: S101
        self._sheet.append(row)
        self._row += 1

    def save(self) -> Path:
        """Finish the workbook and return its file."""
        self._end_sheet()
        file = self._folder / "export.xlsx"
        self._workbook.save(file)
        return file

    def _end_sheet(self) -> None:
        if self._sheet is not None and not self._sheet.closed:
            self._sheet.close()

    def _title(self) -> str:
        """Return a title that Excel takes: short, without its special characters, unlike any other here."""
        wanted = _NOT_IN_TITLES.sub(" ", self._name).strip(" '") or "Sheet"
        number, title = 1, wanted[:LONGEST_TITLE].rstrip(" '")
        while title.casefold() in self._titles or title.casefold() == "history":
            number += 1
            ending = f" ({number})"
            title = wanted[: LONGEST_TITLE - len(ending)].rstrip(" '") + ending
        self._titles.add(title.casefold())
        return title


_BOLD = Font(bold=True)
_GREY = PatternFill("solid", fgColor="E7E6E6")
_MIDDLE = Alignment(vertical="center", wrap_text=True)


def _header(sheet: _Sheet, text: str) -> Any:
    cell: Any = WriteOnlyCell(sheet)
    cell._value, cell.data_type = clean(text), "s"
    cell.font, cell.fill, cell.alignment, cell.number_format = _BOLD, _GREY, _MIDDLE, "@"
    return cell
