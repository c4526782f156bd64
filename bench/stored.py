"""Whether joins become slower with the joins and users that are stored already."""

import os
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from bench import crowd, hot_slot
from bench.report import Row, medians
from bench.scene import Scene

FEW = 10_000
MANY = 10_000_000 if os.environ.get("BENCH_FULL") == "1" else 1_000_000
ROUNDS = 3
OLD_SLOTS = 1_000
STRANGERS = 1_000_000
FILL = """
WITH old AS MATERIALIZED (
    SELECT id, item_id, hall_id, row_number() OVER () - 1 AS number FROM booking.slots WHERE id = ANY(%(slots)s)
), guests AS MATERIALIZED (
    SELECT id, row_number() OVER () - 1 AS number FROM booking.users
), sizes AS (
    SELECT (SELECT count(*) FROM old) AS old, (SELECT count(*) FROM guests) AS guests
)
INSERT INTO booking.joins
    (id, party_id, user_id, slot_id, item_id, hall_id, code, status, answers, sealed, form_version, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), guests.id, old.id, old.item_id, old.hall_id,
    (100000000000000 + n * 7919)::text, 'booked', '{"name": "王小明"}', decode(repeat('ab', 70), 'hex'), 1, now()
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
CROSS JOIN sizes
JOIN old ON old.number = n %% sizes.old
JOIN guests ON guests.number = n %% sizes.guests
"""


def measure(scene: Scene) -> Iterator[Row]:
    """Joins of one hot slot with many joins stored ÷ with few: these two can't take turns."""
    ground = scene.ground
    hot_slot.run(scene, ground.booking)
    ground.clear()
    old = crowd.offer(ground, slots=OLD_SLOTS).slot_ids
    with ground.connect() as connection:
        _fill(connection, old, range(FEW))
        few = [_round(scene) for _ in range(ROUNDS)]
        _fill(connection, old, range(FEW, MANY))
        many = [_round(scene) for _ in range(ROUNDS)]
    found = medians({"few": few, "many": many})
    ground.clear()
    yield Row(
        f"joins, hot slot, {MANY:,} stored", found["many"], "joins/s", f"{FEW:,} stored", found["few"], ROUNDS, "≥ 0.8"
    )


def users(scene: Scene) -> Iterator[Row]:
    """Joins of one hot slot among many users ÷ among the guests alone: these two can't take turns either."""
    ground = scene.ground
    hot_slot.run(scene, ground.booking)
    few = [hot_slot.run(scene, ground.booking).rate for _ in range(ROUNDS)]
    with ground.connect() as connection:
        connection.execute(
            "INSERT INTO booking.users (id, provider, openid, created_at)"
            " SELECT gen_random_uuid(), 'dev', 'stranger-' || n, now() FROM generate_series(1, %s) AS n",
            [STRANGERS],
        )
        connection.execute("VACUUM ANALYZE booking.users")
        many = [hot_slot.run(scene, ground.booking).rate for _ in range(ROUNDS)]
        connection.execute("DELETE FROM booking.users WHERE openid LIKE 'stranger-%'")
        connection.execute("VACUUM booking.users")
    found = medians({"few": few, "many": many})
    name = f"joins, hot slot, {STRANGERS:,} more users"
    yield Row(name, found["many"], "joins/s", f"{len(scene.guests):,} users", found["few"], ROUNDS)


def _round(scene: Scene) -> float:
    slot_ids = crowd.offer(scene.ground).slot_ids
    return hot_slot.joins([scene.ground.booking], scene.guests, slot_ids).rate


def _fill(connection: psycopg.Connection[Any], slot_ids: list[str], numbers: range) -> None:
    """Store joins of the crowd in these slots; indexes are made anew afterwards, which is many times faster."""
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'booking' AND tablename = 'joins'"
        " AND indexname NOT LIKE 'pk_%'"
    ).fetchall()
    with connection.transaction():
        connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX booking.{}").format(sql.Identifier(name)))
        connection.execute(FILL, {"slots": slot_ids, "first": numbers.start, "last": numbers.stop - 1})
        for _, definition in indexes:
            connection.execute(definition)
    connection.execute("VACUUM ANALYZE booking.joins")
    connection.execute("CHECKPOINT")
