"""How long staff wait for a dashboard over a year of a million joins, through HTTP."""

import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

import httpx2

from bench.ground import HERE, Api, Ground
from bench.report import Row
from bench.scene import Scene
from libs.common.ids import new_id
from libs.common.tokens import TokenKeys
from libs.contracts.principals import Role, Staff, issue_staff_token

JOINS = int(os.environ.get("BENCH_JOINS", "1000000"))
HALLS, ITEMS, HOURS = 10, 5, 8
ROUNDS = 50
ASKED_MS = 100.0
YEAR = {"from": "2026-01-01", "to": "2026-12-31"}
FIRST = date(2025, 1, 1)  # the year before is there as well, for it is compared
FILL = """
INSERT INTO notify.join_records
    (join_id, party_id, user_id, slot_id, item_id, hall_id, day, starts_at, ends_at, status, booked_at, checked_in_at, missed_at,
    version)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), slot.id, slot.item_id, slot.hall_id, slot.day, slot.starts_at,
    slot.starts_at + interval '1 hour', CASE n %% 10 WHEN 0 THEN 'cancelled' WHEN 1 THEN 'revoked' ELSE 'booked' END,
    slot.starts_at - random() * interval '20 days', CASE WHEN n %% 10 > 3 THEN slot.starts_at END,
    CASE WHEN n %% 10 = 2 THEN slot.starts_at END, 1
FROM generate_series(1, %(joins)s::bigint) AS n
JOIN bench_slots AS slot ON slot.number = n %% (SELECT count(*) FROM bench_slots)
"""
SLOTS = """
CREATE TEMPORARY TABLE bench_slots AS
SELECT row_number() OVER () - 1 AS number, gen_random_uuid() AS id, item.item_id, item.hall_id, on_day::date AS day,
    (on_day + make_interval(hours => 9 + hour)) AT TIME ZONE 'Asia/Shanghai' AS starts_at, 9 + hour AS hour
FROM (
    SELECT hall_id, gen_random_uuid() AS item_id
    FROM (SELECT gen_random_uuid() AS hall_id FROM generate_series(1, %(halls)s)) AS halls, generate_series(1, %(items)s)
) AS item
CROSS JOIN generate_series(%(first)s::timestamp, %(first)s::timestamp + interval '729 days', interval '1 day') AS on_day
CROSS JOIN generate_series(0, %(hours)s - 1) AS hour
"""
STATS = """
INSERT INTO notify.slot_stats
    (slot_id, item_id, hall_id, day, hour, booked, cancelled, revoked, checked_in, missed, taken, capacity, slot_version,
    definition_version, version)
SELECT id, item_id, hall_id, day, hour, 0, 0, 0, 0, 0, 0, 20, 1, 0, 1 FROM bench_slots
"""


def measure(scene: Scene) -> Iterator[Row]:
    """p95 of a dashboard over all halls, and over one; the totals are made by a recount, as they would be."""
    ground = scene.ground
    ground.clear_notify()
    hall_id, took_s = _filled(ground)
    yield Row(f"recount of {2 * JOINS:,} joins", took_s, "s", "s an hour has", 3600, 1)
    api = ground.notify
    with _staff_of(ground, api) as staff:
        for name, query in (
            ("all halls", YEAR),
            ("one hall", YEAR | {"hall_id": hall_id}),
        ):
            times = sorted(_asked(staff, query) for _ in range(ROUNDS))
            p95 = times[int(len(times) * 0.95)] * 1000
            print(f"    {name}: median {statistics.median(times) * 1000:.1f} ms", flush=True)
            yield Row(
                f"dashboard, a year of {JOINS:,} joins, {name}, p95", p95, "ms", "ms asked", ASKED_MS, ROUNDS, "< 1"
            )
    ground.clear_notify()


def _filled(ground: Ground) -> tuple[str, float]:
    """Put two years of joins into notify's record, and let it count them; return a hall, and how long that took."""
    with ground.connect() as connection:
        connection.execute(SLOTS, {"halls": HALLS, "items": ITEMS, "first": FIRST, "hours": HOURS})
        connection.execute(FILL, {"joins": 2 * JOINS})
        connection.execute(STATS)
        row = connection.execute("SELECT hall_id::text FROM bench_slots LIMIT 1").fetchone()
        connection.execute("VACUUM ANALYZE notify.join_records, notify.slot_stats")
        started = time.perf_counter()
        ground.task("notify.recount")
        took_s = time.perf_counter() - started
        connection.execute("VACUUM ANALYZE notify.day_stats, notify.hour_stats, notify.slot_stats")
        connection.execute("CHECKPOINT")
    assert row is not None  # slots were made
    return row[0], took_s


def _asked(staff: httpx2.Client, query: dict[str, str]) -> float:
    started = time.perf_counter()
    answer = staff.get("dashboard", params=query)
    took = time.perf_counter() - started
    if not answer.is_success or not answer.json()["total"]["booked"] or not answer.json()["before"]["booked"]:
        raise RuntimeError(f"no dashboard: {answer.status_code} {answer.text[:300]}")
    return took


def _staff_of(ground: Ground, api: Api) -> httpx2.Client:
    keys = TokenKeys(ground.keys.staff_token_keys, algorithm="Ed25519", audience="staff")
    staff = Staff(id=new_id(), name="bench", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
    token = issue_staff_token(keys, staff, now=datetime.now(UTC))
    base_url = f"http://{HERE}:{api.port}/api/notify/staff/"
    return httpx2.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
