"""Imports as staff send them, run as a worker runs them; workbooks as Excel writes them."""

import io
from typing import Any

import httpx2
from openpyxl import Workbook

from tests.admin.exporting import Headers, do
from tests.world import World

IMPORTS = "/api/admin/imports"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
Rows = list[list[Any]]


def workbook(**sheets: Rows) -> bytes:
    """Return a workbook with these sheets, row by row with their headers."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def halls(*names: str) -> bytes:
    return workbook(服务厅=[["名称"], *([name] for name in names)])


def send(world: World, who: Headers, kind: str, content: bytes) -> httpx2.Response:
    answer: httpx2.Response = world.client.post(
        f"{IMPORTS}?kind={kind}&file_name=list.xlsx", content=content, headers=who | {"Content-Type": XLSX}
    )
    return answer


def sent(world: World, who: Headers, kind: str, content: bytes) -> str:
    """Send a workbook and return the id of its import."""
    answer = send(world, who, kind, content)
    assert answer.status_code == 202, answer.text
    import_id: str = answer.json()["id"]
    assert answer.headers["Location"] == f"{IMPORTS}/{import_id}"
    return import_id


def shown(world: World, who: Headers, import_id: str) -> dict[str, Any]:
    answer = world.client.get(f"{IMPORTS}/{import_id}", headers=who)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def checked(world: World, who: Headers, kind: str, content: bytes) -> dict[str, Any]:
    """Send a workbook, let a worker look at it, and return what came of it."""
    import_id = sent(world, who, kind, content)
    do(world, "import")
    return shown(world, who, import_id)


def confirm(world: World, who: Headers, import_id: str) -> httpx2.Response:
    answer: httpx2.Response = world.client.post(f"{IMPORTS}/{import_id}/apply", headers=who)
    return answer


def applied(world: World, who: Headers, kind: str, content: bytes) -> dict[str, Any]:
    """Send a workbook, have it applied, and return what came of it."""
    found = checked(world, who, kind, content)
    assert found["state"] == "checked", found
    assert confirm(world, who, found["id"]).status_code == 202
    do(world, "import")
    return shown(world, who, found["id"])


def faults(found: dict[str, Any]) -> set[tuple[str, int, str, str]]:
    assert (found["state"], found["failure"]["code"]) == ("failed", "import_faulty"), found
    assert all(fault["detail"] for fault in found["faults"])
    return {(fault["sheet"], fault["row"], fault["column"], fault["reason"]) for fault in found["faults"]}
