"""Workbooks hold what was written: text as text whatever it looks like, dates as dates, rows beyond a sheet on the next."""

import csv
import io
import shutil
import subprocess
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from services.admin.workbooks import Book, Column, clean
from tests.admin.exporting import sheets

NASTY = {
    "a formula": "=1+1",
    "another": "@cmd",
    "plus": "+8613800138000",
    "minus": "-2+3",
    "tab": "\t=1+1",
    "an error": "#N/A",
    "markup": "<b>&amp;</b>",
    "emoji": "王😀小👨‍👩‍👧明",
    "ID number": "440106199001011234",
    "zeros": "0012",
    "date": "2026-01-01",
    "space": "  张三 ",
    "lines": "一\n二",
    "long": "长" * 10_000,
    "quotes": '"a","b"',
}


def written(folder: Path, rows: list[list[Any]], **sizes: Any) -> bytes:
    """Write the rows below a header to one sheet, and return the file."""
    with Book(folder, **sizes) as book:
        book.begin("表", [Column(f"列{number}", 20) for number in range(len(rows[0]))])
        for row in rows:
            book.add(row)
        return book.save().read_bytes()


def test_text_is_text_whatever_it_begins_with(tmp_path: Path) -> None:
    content = written(tmp_path, [[text] for text in NASTY.values()])

    [sheet] = load_workbook(io.BytesIO(content))
    cells = [row[0] for row in sheet.iter_rows(min_row=2)]
    assert [cell.value for cell in cells] == list(NASTY.values())
    assert {cell.data_type for cell in cells} == {"s"}
    assert {cell.number_format for cell in cells} == {"@"}
    assert sheets(content)


def test_dates_times_and_numbers_are_what_they_are(tmp_path: Path) -> None:
    values = [date(2026, 11, 25), datetime(2026, 11, 25, 9, 30, 1), time(9, 5), 7, 0.5, None]  # noqa: DTZ001
    content = written(tmp_path, [values])

    [sheet] = load_workbook(io.BytesIO(content))
    cells: Any = sheet[2]
    assert [cell.value for cell in cells] == [datetime(2026, 11, 25), *values[1:]]  # noqa: DTZ001
    assert [cell.is_date for cell in cells[:3]] == [True, True, True]
    assert cells[0].number_format == "yyyy-mm-dd"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("张\x07三", "张三"),
        ("a\x00b\x0bc\x1fd\x7fe\x85f", "abcdef"),
        ("一\r\n二\r三", "一\n二\n三"),
        ("a\ufffe\uffffb\ud800c", "abc"),
        ("_x0041_", "_x005F_x0041_"),
        ("_x00", "_x00"),
        ("", ""),
    ],
)
def test_what_no_cell_can_hold_is_left_out(tmp_path: Path, text: str, kept: str) -> None:
    assert clean(text) == kept
    assert sheets(written(tmp_path, [[text]]))["表"][1:] == ([[kept]] if kept else [[None]])


def test_text_is_no_longer_than_excel_takes_and_says_where_it_was_cut(tmp_path: Path) -> None:
    texts = ["长" * 32_767, "长" * 32_768, "😀" * 40_000]

    [_, [fits], [plain], [paired]] = sheets(written(tmp_path, [[text] for text in texts]))["表"]

    assert fits == texts[0]
    assert plain == "长" * 32_766 + "…"
    assert paired == "😀" * 16_383 + "…"


def test_a_header_stays_in_view_above_columns_of_their_widths(tmp_path: Path) -> None:
    [sheet] = load_workbook(io.BytesIO(written(tmp_path, [["a", "b"]])))

    assert sheet.freeze_panes == "A2"
    assert sheet.column_dimensions["A"].width == 20
    assert sheet["A1"].font.bold


@pytest.mark.parametrize(("rows", "sizes"), [(3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
def test_rows_beyond_a_sheet_go_to_the_next_below_the_same_header(tmp_path: Path, rows: int, sizes: list[int]) -> None:
    found = sheets(written(tmp_path, [[number] for number in range(rows)], rows_a_sheet=4))

    assert list(found) == ["表", "表 (2)", "表 (3)"][: len(sizes)]
    assert [len(sheet) - 1 for sheet in found.values()] == sizes
    assert {sheet[0][0] for sheet in found.values()} == {"列0"}
    assert [row[0] for sheet in found.values() for row in sheet[1:]] == list(range(rows))


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["办证", "办证", "办证"], ["办证", "办证 (2)", "办证 (3)"]),
        (["a/b:c*d?[e]\\f"], ["a b c d  e  f"]),
        (["'引号'", "", "History"], ["引号", "Sheet", "History (2)"]),
        (["长" * 40, "长" * 40], ["长" * 31, "长" * 27 + " (2)"]),
        (["Case", "CASE"], ["Case", "CASE (2)"]),
        (["坏\ufffe标题", "a\nb\t\x07\ud800c"], ["坏 标题", "a b   c"]),
    ],
)
def test_titles_are_such_as_excel_takes(tmp_path: Path, names: list[str], titles: list[str]) -> None:
    with Book(tmp_path) as book:
        begun = [book.begin(name, [Column("a")]) for name in names]
        content = book.save().read_bytes()

    assert begun == titles
    assert list(sheets(content)) == titles


def test_nothing_but_the_workbook_is_left_in_the_folder(tmp_path: Path) -> None:
    written(tmp_path, [[1]])

    assert [path.name for path in tmp_path.iterdir()] == ["export.xlsx"]


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice (soffice) is not on the PATH")
def test_libreoffice_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    # As Excel does, and openpyxl does not, it takes _x0041_ for an "A", unless it is written as text.
    rows: list[list[Any]] = [[text] for text in (*NASTY.values(), "_x0041_")]
    (tmp_path / "one.xlsx").write_bytes(written(tmp_path / "book", rows))
    as_csv = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false"
    home = f"-env:UserInstallation={(tmp_path / 'home').as_uri()}"

    subprocess.run(
        ["soffice", home, "--headless", "--convert-to", as_csv, "--outdir", str(tmp_path), str(tmp_path / "one.xlsx")],
        check=True,
        capture_output=True,
        timeout=200,
    )

    with (tmp_path / "one.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["列0"], *rows]
