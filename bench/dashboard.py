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
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, slot.id, slot.id, slot.id, slot.item_id, slot.hall_id, slot.day,
    slot.starts_at,
    slot.starts_at + interval '1 hour', CASE fate WHEN 0 THEN 'cancelled' WHEN 1 THEN 'revoked' ELSE 'booked' END,
    slot.starts_at - random() * interval '20 days', CASE WHEN fate > 3 THEN slot.starts_at END,
    CASE WHEN fate = 2 THEN slot.starts_at END, 1
FROM (SELECT n, floor(random() * 10) AS fate FROM generate_series(1, %(joins)s::bigint) AS n) AS joined
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
# As notify would have counted them, which would take minutes. `make test` has that it counts like this.
STATS = """
INSERT INTO notify.slot_stats
    (slot_id, item_id, hall_id, day, hour, booked, cancelled, revoked, checked_in, missed, taken, capacity, slot_version,
    definition_version, version, lead_minutes, lead_hour, lead_day, lead_three_days, lead_week, lead_fortnight)
SELECT slot.id, slot.item_id, slot.hall_id, slot.day, slot.hour, count(*) FILTER (WHERE is_booked),
    count(*) FILTER (WHERE status = 'cancelled'), count(*) FILTER (WHERE status = 'revoked'), count(checked_in_at) FILTER (WHERE is_booked),
    count(missed_at) FILTER (WHERE is_booked), 0, 20, 1, 0, 1, coalesce(sum(minutes) FILTER (WHERE is_booked), 0),
    count(*) FILTER (WHERE is_booked AND minutes < 60), count(*) FILTER (WHERE is_booked AND minutes BETWEEN 60 AND 1439),
    count(*) FILTER (WHERE is_booked AND minutes BETWEEN 1440 AND 4319), count(*) FILTER (WHERE is_booked AND minutes BETWEEN 4320 AND 10079),
    count(*) FILTER (WHERE is_booked AND minutes BETWEEN 10080 AND 20159)
FROM bench_slots AS slot
JOIN (
    SELECT *, status = 'booked' AS is_booked, floor(extract(epoch FROM starts_at - booked_at) / 60) AS minutes
    FROM notify.join_records
) AS record ON record.slot_id = slot.id
GROUP BY slot.id, slot.item_id, slot.hall_id, slot.day, slot.hour
"""
_STATES = (
    "count(*), sum(booked), sum(cancelled), sum(revoked), sum(checked_in), sum(missed), sum(booked), sum(capacity)"
)
DAYS = f"""
INSERT INTO notify.day_stats
SELECT day, hall_id, item_id, {_STATES}, sum(lead_minutes), sum(lead_hour), sum(lead_day), sum(lead_three_days), sum(lead_week),
    sum(lead_fortnight)
FROM notify.slot_stats GROUP BY day, hall_id, item_id
"""
HOURS_OF_DAYS = f"""
INSERT INTO notify.hour_stats
SELECT day, hall_id, item_id, hour, {_STATES} FROM notify.slot_stats GROUP BY day, hall_id, item_id, hour
"""


def measure(scene: Scene) -> Iterator[Row]:
    """p95 of a dashboard over all halls, and over one."""
    ground = scene.ground
    ground.clear_notify()
    hall_id, booked = _filled(ground)
    api = ground.notify
    with _staff_of(ground, api) as staff:
        for name, query, expected in (
            ("all halls", YEAR, booked),
            ("one hall", YEAR | {"hall_id": hall_id}, None),
        ):
            times = sorted(_asked(staff, query, expected) for _ in range(ROUNDS))
            p95 = times[int(len(times) * 0.95)] * 1000
            print(f"    {name}: median {statistics.median(times) * 1000:.1f} ms", flush=True)
            yield Row(
                f"dashboard, a year of {JOINS:,} joins, {name}, p95", p95, "ms", "ms asked", ASKED_MS, ROUNDS, "< 1"
            )
    ground.clear_notify()


def _filled(ground: Ground) -> tuple[str, int]:
    """Put two years of joins into notify; return a hall, and how many are booked in the later one."""
    with ground.connect() as connection:
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute(SLOTS, {"halls": HALLS, "items": ITEMS, "first": FIRST, "hours": HOURS})
        connection.execute("ANALYZE bench_slots")
        connection.execute(FILL, {"joins": 2 * JOINS})
        for statement in (STATS, DAYS, HOURS_OF_DAYS):
            connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE notify.day_stats, notify.hour_stats, notify.slot_stats, notify.join_records")
        connection.execute("CHECKPOINT")
        row = connection.execute(
            "SELECT (SELECT hall_id::text FROM bench_slots LIMIT 1), count(*) FROM notify.join_records"
            " WHERE status = 'booked' AND day BETWEEN %(from)s AND %(to)s",
            YEAR,
        ).fetchone()
    assert row is not None  # an aggregate has a row
    return row[0], row[1]


def _asked(staff: httpx2.Client, query: dict[str, str], booked: int | None) -> float:
    started = time.perf_counter()
    answer = staff.get("dashboard", params=query)
    took = time.perf_counter() - started
    if not answer.is_success or answer.json()["total"]["booked"] != (booked or answer.json()["total"]["booked"] or -1):
        raise RuntimeError(f"no dashboard of {booked} bookings: {answer.status_code} {answer.text[:300]}")
    return took


def _staff_of(ground: Ground, api: Api) -> httpx2.Client:
    keys = TokenKeys(ground.keys.staff_token_keys, algorithm="Ed25519", audience="staff")
    staff = Staff(id=new_id(), name="bench", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
    token = issue_staff_token(keys, staff, now=datetime.now(UTC))
    base_url = f"http://{HERE}:{api.port}/api/notify/staff/"
    return httpx2.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
