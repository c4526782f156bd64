"""The moment of release: 3,000 people with open connections, 500 places, and a minute that has just begun."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from bench import crowd, hot_slot
from bench.crowd import ZONE, Guest
from bench.ground import Api, Ground
from bench.load import Outcome, Plan, send
from bench.report import Row, by_turns
from bench.scene import Scene

PEOPLE = 3000
PLACES = 500
UNTIL_RELEASE_S = 8.0  # to connect everybody
ROUNDS = 3


def measure(scene: Scene) -> Iterator[Row]:
    """Time until everybody has an answer: plain ORM route ÷ product. Exactly 500 are told yes, or it is no measure."""
    ground, guests = scene.ground, scene.guests[:PEOPLE]
    found = by_turns(
        ROUNDS,
        ours=lambda: _release(ground, ground.booking, guests, crowd.JOINS).all_s,
        control=lambda: _release(ground, ground.control, guests, hot_slot.CONTROL_JOINS).all_s,
    )
    name = f"release of {PLACES} places to {PEOPLE:,} connections"
    yield Row(name, found["ours"], "s", "plain ORM route", found["control"], ROUNDS, "≥ 10", is_inverse=True)


def _release(ground: Ground, api: Api, guests: list[Guest], path: str) -> Outcome:
    ground.clear()
    opens = datetime.now(ZONE) + timedelta(seconds=UNTIL_RELEASE_S)
    rules = {"opens_days_before": 1, "opens_at": opens.time().isoformat()}
    offered = crowd.offer(ground, capacity=PLACES, rules=rules, first_day=(opens + timedelta(days=1)).date())
    requests = crowd.join_requests(guests, offered.slot_ids, path=path)
    _is_closed_before(api, requests[0])
    outcome = send(Plan("once", (api.port,), PEOPLE, requests=requests, wanted=201, start_at=opens.timestamp()))
    if outcome.counts != {"201": PLACES, "409 slot_full": PEOPLE - PLACES}:
        raise RuntimeError(f"{PLACES} of {PEOPLE} had to be told yes, and the others that it is full: {outcome.counts}")
    _is_true(ground, offered.slot_ids[0])
    return outcome


def _is_closed_before(api: Api, request: bytes) -> None:
    send(Plan("once", (api.port,), 1, requests=[request], wanted=409)).require("409 too_early")


def _is_true(ground: Ground, slot_id: str) -> None:
    """What the crowd was told is what the tables hold."""
    with ground.connect() as connection:
        row = connection.execute(
            "SELECT taken, (SELECT count(*) FROM booking.joins WHERE slot_id = slots.id AND status = 'booked')"
            " FROM booking.slots WHERE id = %s",
            [slot_id],
        ).fetchone()
    if row != (PLACES, PLACES):
        raise RuntimeError(f"{PLACES} were told yes, but (taken, joins) is {row}")
