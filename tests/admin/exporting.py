"""Exports as staff ask for them, run as a worker runs them, and read as a person's Excel does."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from openpyxl import load_workbook
from sqlalchemy import text

from deploy import serve
from libs.common.tasks import perform
from libs.contracts.principals import Role
from tests.admin.builders import an_account, signed_in
from tests.conftest import Cluster
from tests.world import World

EXPORTS = "/api/admin/exports"
Headers = dict[str, str]


@contextmanager
def a_world_that_answers(cluster: Cluster, **settings: Any) -> Iterator[World]:
    """Yield a world whose services can be read by a run of an export, over HTTP."""
    with serve.listen("127.0.0.1", 0) as listening:  # from now on, so that nobody else gets the port
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with (
            cluster.world(catalog_url=address, booking_url=address, notify_url=address, **settings) as world,
            world.serve(listening),
        ):
            yield world


def an_exporter(
    world: World, username: str = "lin", *, role: Role = Role.SUPER_ADMIN, halls: list[str] | None = None
) -> Headers:
    """Make an account and return the headers of its owner, signed in."""
    an_account(world, username, role=role, halls=halls)
    headers: Headers = signed_in(world, username)["headers"]
    return headers


def ask(world: World, who: Headers, kind: str = "audit", **body: Any) -> httpx2.Response:
    answer: httpx2.Response = world.client.post(EXPORTS, json={"kind": kind} | body, headers=who)
    return answer


def asked(world: World, who: Headers, kind: str = "audit", **body: Any) -> str:
    """Ask for an export and return its id."""
    answer = ask(world, who, kind, **body)
    assert answer.status_code == 202, answer.text
    export_id: str = answer.json()["id"]
    assert answer.headers["Location"] == f"{EXPORTS}/{export_id}"
    return export_id


def do(world: World, task: str) -> Any:
    """Do a background task of admin."""
    runtime = world.runtimes["admin"]
    return perform(runtime, next(one for one in runtime.service.tasks if one.name == f"admin.{task}"))


def seen(world: World, who: Headers, export_id: str) -> dict[str, Any]:
    answer = world.client.get(f"{EXPORTS}/{export_id}", headers=who)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def link(world: World, who: Headers, export_id: str) -> str:
    answer = world.client.post(f"{EXPORTS}/{export_id}/links", headers=who)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["url"]
    return url


def fetched(world: World, who: Headers, export_id: str) -> bytes:
    """Fetch the file of an export as a browser does: by the link alone."""
    answer = world.client.get(link(world, who, export_id))
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == int(answer.headers["Content-Length"])
    content: bytes = answer.content
    return content


def exported(world: World, who: Headers, kind: str, **body: Any) -> bytes:
    """Ask for an export, let a worker run it, and return the file."""
    export_id = asked(world, who, kind, **body)
    do(world, "export")
    found = seen(world, who, export_id)
    assert found["state"] == "done", found
    return fetched(world, who, export_id)


def sheets(content: bytes) -> dict[str, list[list[Any]]]:
    """Return the rows of each sheet by its title; no cell anywhere is a formula."""
    book = load_workbook(io.BytesIO(content))
    for sheet in book:
        assert not [cell.coordinate for row in sheet for cell in row if cell.data_type == "f"]
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        assert not [
            name for name in parts.namelist() if name.startswith("xl/worksheets/") and b"<f" in parts.read(name)
        ]
    return {sheet.title: [[cell.value for cell in row] for row in sheet] for sheet in book}


def records(rows: list[list[Any]]) -> list[dict[str, Any]]:
    """Return the rows below the header by the names of their columns."""
    header, *others = rows
    return [dict(zip(header, row, strict=True)) for row in others]


FILL = """
INSERT INTO booking.joins (id, party_id, user_id, slot_id, item_id, hall_id, code, status, answers, form_version, created_at)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), :user, slots.id, slots.item_id,
    slots.hall_id, (100000000000000 + n)::text, 'booked', CAST(:answers AS jsonb), 1, now()
FROM generate_series(1, :rows) AS n CROSS JOIN slots WHERE slots.id = :slot
"""


def fill(world: World, user_id: str, slot_id: str, rows: int, answers: dict[str, Any] | None = None) -> None:
    """Put many joins into a slot, past the inventory: they are only read."""
    values = {"user": user_id, "slot": slot_id, "rows": rows, "answers": json.dumps(answers or {"name": "王小明"})}
    with world.runtimes["booking"].db.transaction() as session:
        session.execute(text(FILL), values)
