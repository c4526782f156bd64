"""Exports to Excel beside a bare openpyxl loop with the same cells, and the memory of their worker for a million joins."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openpyxl import load_workbook

from bench import crowd
from bench.ground import Ground, as_json
from bench.load import ROOT
from bench.report import Row, by_turns
from bench.scene import Scene
from deploy.servers.process import clean_environment
from libs.common import tasks
from libs.common.ids import new_id
from services.admin.service import service as admin

ROWS = 50_000
MANY = 1_000_000
ROUNDS = 3
DISTINCT = 5_000  # rows that the bare loop takes turns with
TIMEOUT_S = 3600
FORM = [
    *crowd.FORM,
    *({"key": f"field_{number}", "type": "text", "label": f"问题{number}"} for number in range(1, 9)),
    {"key": "born", "type": "date", "label": "出生日期"},
    {"key": "topics", "type": "checkbox", "label": "事项", "options": ["首次", "换证", "补办"]},
]
FILL = """
INSERT INTO booking.joins
    (id, party_id, user_id, slot_id, item_id, hall_id, code, status, answers, form_version, created_at)
SELECT ('01900000-' || substr(md5(slots.id::text), 1, 4) || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
    gen_random_uuid(), (SELECT id FROM booking.users LIMIT 1), slots.id, slots.item_id, slots.hall_id,
    ((100000000000000 + n * 7919) + (get_byte(decode(md5(slots.id::text), 'hex'), 0) * 1000000000000))::text, 'booked', jsonb_build_object(
        'name', '王小' || n %% 1000, 'mobile', '138' || lpad((n %% 100000000)::text, 8, '0'), 'born', '1990-02-28',
        'topics', jsonb_build_array('换证', '补办'), 'field_1', '广州市天河区天河路' || n || '号', 'field_2', '=1+' || n,
        'field_3', '440106199001' || lpad((n %% 1000000)::text, 6, '0'), 'field_4', '粤A12345', 'field_5', '普通',
        'field_6', '无', 'field_7', '第一次办理', 'field_8', '上午'
    ), 1, now()
FROM generate_series(1, %(rows)s::bigint) AS n CROSS JOIN booking.slots AS slots WHERE slots.id = %(slot)s
"""
JOB = """
INSERT INTO admin.export_jobs (id, owner_id, role, kind, wanted, unmasked, reason, request_id, state, asked_at)
SELECT %(id)s, staff.id, staff.role, 'joins', %(wanted)s, false, '', '', 'queued', now()
FROM admin.staff WHERE username = 'admin'
"""


def measure(scene: Scene) -> Iterator[Row]:
    """Rows of an export a second ÷ rows of the bare loop; then what the worker holds for a million, above idle."""
    ground = scene.ground
    ground.clear()
    crowd.gather(ground, 1)
    few, many = (_filled(ground, rows) for rows in (ROWS, MANY))
    idle_mb = _memory_mb(ground, "VmRSS")
    _export(ground, few)  # everything is loaded from here on
    sample = ground.folder / "sample.json"
    sample.write_text(json.dumps(_cells(ground), default=str), encoding="utf-8")
    found = by_turns(
        ROUNDS,
        export=lambda: _export(ground, few),
        bare=lambda: _bare(ground.folder, sample),
    )
    columns = len(json.loads(sample.read_text(encoding="utf-8"))[0])
    limit = f"bare openpyxl loop, {columns} columns"
    yield Row(f"export of {ROWS:,} joins", found["export"], "rows/s", limit, found["bare"], ROUNDS, "≥ 0.7")
    rate = _export(ground, many)
    yield Row(f"export of {MANY:,} joins", rate, "rows/s", f"of {ROWS:,} joins", found["export"], 1)
    above = _memory_mb(ground, "VmHWM") - idle_mb
    yield Row(f"memory of the worker for {MANY:,} joins, above idle", above, "MB", "MB asked", 150, 1, "< 1")
    ground.clear()


def _filled(ground: Ground, rows: int) -> str:
    """Put joins into a new slot of an item with a form of twelve fields; return the slot."""
    offered = crowd.offer(ground)
    slot_id = offered.slot_ids[0]
    with ground.connect() as connection:
        connection.execute("UPDATE booking.items SET form = %s WHERE id = %s", [as_json(FORM), offered.item_id])
        connection.execute(FILL, {"rows": rows, "slot": slot_id})
        connection.execute("VACUUM ANALYZE booking.joins")
    return slot_id


def _export(ground: Ground, slot_id: str) -> float:
    """Export the joins of a slot; return rows a second, from the begin of the run to the published file."""
    job_id = new_id()
    worker = ground.export_worker
    task = next(task for task in admin.tasks if task.queue == "exports")
    with ground.connect() as connection:
        wanted = as_json({"filter": {"slot_id": slot_id}, "layout": "items"})
        connection.execute(JOB, {"id": job_id, "wanted": wanted})
        with tasks.celery_app(ground.variables["admin.env"]["HALLPASS_REDIS_URL"], []) as app:
            tasks.send(app, task)
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and worker.is_alive():
            row = connection.execute(
                "SELECT state, rows_done / extract(epoch FROM ended_at - begun_at) FROM admin.export_jobs WHERE id = %s",
                [job_id],
            ).fetchone()
            if row is not None and row[0] == "done":
                return float(row[1])
            if row is not None and row[0] not in ("queued", "running"):
                break
            time.sleep(0.05)
    raise RuntimeError(f"the export did not come to its end: {worker.last_lines()}")


def _cells(ground: Ground) -> list[list[Any]]:
    """Return rows of the latest export as its workbook has them."""
    latest = max(ground.exports.rglob("*.xlsx"), key=lambda path: path.stat().st_mtime)
    [sheet, _] = load_workbook(latest, read_only=True).worksheets
    return [list(row) for row in sheet.iter_rows(min_row=2, max_row=1 + DISTINCT, values_only=True)]


def _bare(folder: Path, sample: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare_workbook", str(sample), str(folder / "bare.xlsx"), str(ROWS)],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT), LC_ALL="C.UTF-8", TMPDIR=str(folder)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _memory_mb(ground: Ground, what: str) -> float:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{ground.export_worker.pid}/status").read_text().splitlines()
    )
    return int(status[what].split()[0]) / 1024
