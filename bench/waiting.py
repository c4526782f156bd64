"""Whether joins of a slot without a line are slower where people wait for others."""

from collections.abc import Iterator
from functools import partial

from bench import crowd, hot_slot
from bench.report import Row, by_turns
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
    """Joins of one hot slot beside many full ones for which people wait ÷ beside as many for which nobody does."""
    hot_slot.run(scene, scene.ground.booking)
    found = by_turns(ROUNDS, beside=partial(_round, scene, LONG), without=partial(_round, scene, 0))
    name = f"joins, hot slot, {LINES * LONG:,} people wait elsewhere"
    yield Row(name, found["beside"], "joins/s", "nobody waits", found["without"], ROUNDS, "≥ 0.9")


def _round(scene: Scene, long: int) -> float:
    """Begin with nothing stored but full slots, each with so long a line."""
    ground = scene.ground
    ground.clear()
    full = crowd.offer(ground, slots=LINES).slot_ids
    with ground.connect() as connection:
        connection.execute(FILL, {"slots": full, "long": long})
        connection.execute(
            "UPDATE booking.slots SET asked = 0, capacity = 0, waiting = %s WHERE id = ANY(%s)", [long, full]
        )
        connection.execute("VACUUM ANALYZE booking.waits, booking.slots")
    return hot_slot.joins([ground.booking], scene.guests, crowd.offer(ground).slot_ids).rate
