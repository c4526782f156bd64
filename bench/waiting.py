"""Whether joins of a slot without a line are slower where people wait for others."""

from collections.abc import Iterator

from bench import crowd, hot_slot
from bench.report import Row, medians
from bench.scene import Scene

LINES, LONG = 1_000, 20
ROUNDS = 3
FILL = """
INSERT INTO booking.waits
    (id, user_id, slot_id, item_id, hall_id, people, position, sealed, form_version, created_at)
SELECT gen_random_uuid(), guests.id, full_slots.id, full_slots.item_id, full_slots.hall_id, 1, guests.number,
    decode(repeat('ab', 70), 'hex'), 1, now()
FROM (SELECT id, item_id, hall_id FROM booking.slots WHERE id = ANY(%(slots)s)) AS full_slots
CROSS JOIN (SELECT id, row_number() OVER () AS number FROM booking.users LIMIT %(long)s) AS guests
"""


def measure(scene: Scene) -> Iterator[Row]:
    """Joins of one hot slot with many lines elsewhere ÷ with none: these two can't take turns."""
    ground = scene.ground
    hot_slot.run(scene, ground.booking)
    ground.clear()
    full = crowd.offer(ground, slots=LINES).slot_ids
    without = [_round(scene) for _ in range(ROUNDS)]
    with ground.connect() as connection:
        connection.execute(FILL, {"slots": full, "long": LONG})
        connection.execute(
            "UPDATE booking.slots SET asked = 0, capacity = 0, waiting = %s WHERE id = ANY(%s)", [LONG, full]
        )
        connection.execute("VACUUM ANALYZE booking.waits")
        beside = [_round(scene) for _ in range(ROUNDS)]
        connection.execute("DELETE FROM booking.waits")
    ground.clear()
    found = medians({"without": without, "beside": beside})
    name = f"joins, hot slot, {LINES * LONG:,} people wait elsewhere"
    yield Row(name, found["beside"], "joins/s", "nobody waits", found["without"], ROUNDS, "≥ 0.9")


def _round(scene: Scene) -> float:
    slot_ids = crowd.offer(scene.ground).slot_ids
    return hot_slot.joins([scene.ground.booking], scene.guests, slot_ids).rate
