"""What it costs at the hot slot that a hall minds missed visits, where every tenth of those who come has missed one."""

from collections.abc import Iterator, Sequence

from bench import crowd, hot_slot
from bench.crowd import Guest
from bench.ground import Ground, as_json
from bench.report import Row, by_turns
from bench.scene import Scene
from libs.common.ids import new_id

EVERY = 10
LENIENT = {"missed": 100, "within_days": 366, "pause_days": 1}  # so that nobody is refused


def measure(scene: Scene) -> Iterator[Row]:
    """One hot slot of a hall with a policy ÷ one of a hall without."""
    ground = scene.ground
    hot_slot.run(scene, ground.booking)  # pools and caches are warm from here on
    found = by_turns(
        hot_slot.ROUNDS,
        minding=lambda: _rate(scene, policy=True),
        plain=lambda: _rate(scene, policy=False),
    )
    name = "joins, hot slot of a hall that minds what is missed"
    yield Row(name, found["minding"], "joins/s", "a hall that does not", found["plain"], hot_slot.ROUNDS, "≥ 0.95")


def _rate(scene: Scene, *, policy: bool) -> float:
    scene.ground.clear()
    offered = crowd.offer(scene.ground, slots=2)
    _store_misses(scene.ground, scene.guests[::EVERY], offered.slot_ids[1], policy=policy)
    return hot_slot.joins([scene.ground.booking], scene.guests, offered.slot_ids[:1]).rate


def _store_misses(ground: Ground, guests: Sequence[Guest], slot_id: str, *, policy: bool) -> None:
    with ground.connect() as connection, connection.cursor() as cursor:
        if policy:
            cursor.execute(
                "UPDATE booking.halls SET missed_policy = %s"
                " WHERE id = (SELECT hall_id FROM booking.slots WHERE id = %s)",
                [as_json(LENIENT), slot_id],
            )
        cursor.execute("CREATE TEMP TABLE guests (id uuid, party_id uuid, user_id uuid, code text)")
        with cursor.copy("COPY guests FROM STDIN") as rows:
            for number, guest in enumerate(guests):
                rows.write_row((new_id(), new_id(), guest.id, f"{number:015d}"))
        cursor.execute(
            "INSERT INTO booking.joins (id, party_id, user_id, slot_id, item_id, hall_id, code, status, reason, answers,"
            " form_version, missed_at, created_at)"
            " SELECT g.id, g.party_id, g.user_id, s.id, s.item_id, s.hall_id, g.code, 'booked', '', '{}', 1, now(), now()"
            " FROM guests g, booking.slots s WHERE s.id = %s",
            [slot_id],
        )
