"""How fast notify follows joins: events a second beside pgbench with the same rows, and how late a join is told.

The events wait in RabbitMQ when notify's process is started, and the clock is the database's own record of what was
consumed. pgbench writes the rows of one event (inbox, record of the join, notice, the stats of slot, day and hour,
outbox) in one call, with no index but the primary keys and nothing that is read or decided.
"""

import http.client
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

from bench import crowd
from bench.ground import HERE, Api, Ground
from bench.load import Plan, send
from bench.pgbench import Scratch
from bench.report import Row, by_turns
from bench.scene import Scene
from libs.common.bus_rabbit import RabbitPublisher
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.contracts.booking import JoinBooked, JoinStatus, SlotTaken

EVENTS = int(os.environ.get("BENCH_EVENTS", "20000"))
SLOTS = 200
ROUNDS = 3
PGBENCH_S = 3
CLIENTS = (1, 8, 16, 64)
PATIENCE_S = 300
JOINS_PER_S = 1000
STEADY_S = 10.0
ASKED_S = 1.0
TABLES = f"""
CREATE TABLE inbox (consumer text, event_id uuid, consumed_at timestamptz, PRIMARY KEY (consumer, event_id));
CREATE TABLE join_records (
    join_id uuid PRIMARY KEY, party_id uuid, user_id uuid, slot_id int, item_id uuid, hall_id uuid, day date,
    starts_at timestamptz, ends_at timestamptz, status text, booked_at timestamptz, version bigint
);
CREATE TABLE notices (
    id uuid PRIMARY KEY, user_id uuid, kind text, action_id text, join_id uuid, party_id uuid, people int, params jsonb,
    happened_at timestamptz, read_at timestamptz
);
CREATE TABLE slot_stats (slot_id int PRIMARY KEY, booked int, taken int, lead_minutes bigint, version bigint);
CREATE TABLE day_stats (day int PRIMARY KEY, booked int, lead_minutes bigint);
CREATE TABLE hour_stats (hour int PRIMARY KEY, booked int);
CREATE TABLE outbox (id uuid PRIMARY KEY, type text, subject text, version bigint, data jsonb, time timestamptz);
INSERT INTO slot_stats SELECT n, 0, 0, 0, 1 FROM generate_series(1, {SLOTS}) AS n;
INSERT INTO hour_stats SELECT n, 0 FROM generate_series(1, {SLOTS}) AS n;
INSERT INTO day_stats SELECT n, 0, 0 FROM generate_series(1, {SLOTS // crowd.SLOTS_A_DAY}) AS n;
CREATE FUNCTION follow(which int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    who uuid := gen_random_uuid();
BEGIN
    INSERT INTO inbox VALUES ('notify.events', gen_random_uuid(), now());
    INSERT INTO join_records VALUES (who, who, who, which, who, who, current_date, now(), now(), 'booked', now(), 1);
    UPDATE slot_stats SET booked = booked + 1, taken = taken + 1, lead_minutes = lead_minutes + 90, version = version + 1
        WHERE slot_id = which;
    UPDATE day_stats SET booked = booked + 1, lead_minutes = lead_minutes + 90
        WHERE day = 1 + which % {SLOTS // crowd.SLOTS_A_DAY};
    UPDATE hour_stats SET booked = booked + 1 WHERE hour = which;
    INSERT INTO outbox VALUES
        (gen_random_uuid(), 'slot.stat_changed', who::text, 1, jsonb_build_object('data', repeat('d', 300)), now());
    INSERT INTO notices VALUES
        (gen_random_uuid(), who, 'booked', who::text, who, who, 1, jsonb_build_object('params', repeat('p', 150)), now());
END $$;
"""
SCRIPT = f"""\\set which random(1, {SLOTS})
SELECT follow(:which);
"""
BEFORE = ("TRUNCATE inbox, join_records, notices, outbox", "VACUUM slot_stats", "VACUUM day_stats", "VACUUM hour_stats")


def measure(scene: Scene) -> Iterator[Row]:
    """Events/s with notices and stats written ÷ pgbench's best; then the lag of the effect at a steady rate of joins."""
    ground = scene.ground
    scratch = Scratch(ground, "bench_events", TABLES)
    with ExitStack() as stack:
        broker = ground.broker(stack)
        ground.forget_news()  # of the days that other measures have filled
        ground.events(stack, "catalog")  # hears what notify says of its stats
        _make_queue(ground, broker)
        for slots in (SLOTS, 1):
            found = by_turns(
                ROUNDS,
                events=partial(_round, ground, broker, slots),
                **{f"call_{n}": partial(scratch.run, SCRIPT, n, PGBENCH_S, *BEFORE) for n in CLIENTS},
            )
            best = max(CLIENTS, key=lambda clients: found[f"call_{clients}"])
            name = f"events followed, {slots} slot{'s' if slots > 1 else ''}"
            limit = f"pgbench one call, best ({best})"
            yield Row(name, found["events"], "events/s", limit, found[f"call_{best}"], ROUNDS, "≥ 0.3, aim 0.6")
    yield from _lag(scene)


def _make_queue(ground: Ground, broker: str) -> None:
    """Let the broker know notify, as it does wherever one has run before."""
    publisher = RabbitPublisher(broker, name="bench")
    with ExitStack() as stack:
        ground.events(stack, "notify")
        while not publisher.publish(_bookings(1)[:1]):
            time.sleep(0.2)
    publisher.close()


def _round(ground: Ground, broker: str, slots: int) -> float:
    """Let events wait in the queue, start notify, and return how many it followed a second."""
    ground.clear_notify()
    publisher = RabbitPublisher(broker, name="bench")
    messages = _bookings(slots)
    stored = publisher.publish(messages)
    publisher.close()
    if len(stored) != EVENTS:
        raise RuntimeError(f"{EVENTS} events were sent, and {len(stored)} stored")
    with ExitStack() as stack:
        ground.events(stack, "notify")
        deadline = time.monotonic() + PATIENCE_S
        while (told := _told(ground))[0] < EVENTS:
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {PATIENCE_S} s {told[0]} of {EVENTS} events were followed")
            time.sleep(0.1)
        _, first, last = _told(ground)
    return EVENTS / (last - first).total_seconds()


def _told(ground: Ground) -> tuple[int, datetime, datetime]:
    with ground.connect() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM notify.notices), min(consumed_at), max(consumed_at) FROM notify.inbox"
        ).fetchone()
    assert row is not None  # an aggregate has a row
    return row[0], row[1], row[2]


def _bookings(slots: int) -> list[Message]:
    """Return joins of many users, the slots taking turns: one item, ten slots a day."""
    hall_id, item_id = new_id(), new_id()
    now = datetime.now(UTC)
    first = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    made = []
    for number in range(slots):
        starts = first + timedelta(days=number // crowd.SLOTS_A_DAY, hours=number % crowd.SLOTS_A_DAY)
        made.append((new_id(), starts))
    messages = []
    for number in range(EVENTS):
        slot_id, starts = made[number % slots]
        local = starts.astimezone(crowd.ZONE)
        taken = number // slots + 1
        join_id = new_id()
        fact = JoinBooked(
            version=1,
            join_id=join_id,
            party_id=new_id(),
            user_id=new_id(),
            action_id=new_id(),
            people=1,
            hall_id=hall_id,
            hall_name="天河政务中心",
            item_id=item_id,
            item_title="护照办理",
            slot_id=slot_id,
            date=local.date(),
            start=local.time(),
            end=(local + timedelta(hours=1)).time(),
            starts_at=starts,
            ends_at=starts + timedelta(hours=1),
            timezone="Asia/Shanghai",
            status=JoinStatus.BOOKED,
            booked_at=now,
            slot=SlotTaken(slot_id=slot_id, taken=taken, capacity=crowd.PLENTY, version=taken),
        )
        messages.append(
            Message(
                id=new_id(),
                type=fact.type,
                source="booking",
                subject=join_id,
                time=now,
                version=1,
                data=fact.model_dump(mode="json"),
            )
        )
    return messages


def _lag(scene: Scene) -> Iterator[Row]:
    """From a join's event to the commit of its notice and stats, everything following, as notify's own metric has it."""
    ground = scene.ground
    ground.clear()
    ground.clear_notify()
    with ExitStack() as stack:
        ground.broker(stack)
        for name in ("booking", "catalog"):
            ground.events(stack, name)
        notify = ground.events(stack, "notify")
        requests = crowd.join_requests(
            scene.guests[: int(JOINS_PER_S * STEADY_S)], crowd.offer(ground, slots=SLOTS).slot_ids
        )
        send(
            Plan("open", (ground.booking.port,), 256, requests, 201, seconds=STEADY_S - 0.1, rate=JOINS_PER_S)
        ).require("201")
        deadline = time.monotonic() + PATIENCE_S
        while ground.unpublished() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        p99 = _quantile(_buckets(notify), 0.99)
    name = f"from commit to inbox, p99, {JOINS_PER_S:,} joins/s"
    yield Row(name, p99, "s", "s asked", ASKED_S, 1, "< 1")


def _buckets(api: Api) -> list[tuple[float, float]]:
    """Return the lag of events at notify's consumer: how many took at most so many seconds."""
    connection = http.client.HTTPConnection(HERE, api.port, timeout=30)
    connection.request("GET", "/metrics")
    said = connection.getresponse().read().decode()
    connection.close()
    found = []
    for labels, value in re.findall(r"^hallpass_event_lag_seconds_bucket\{(.*)\} (\S+)$", said, re.MULTILINE):
        if 'consumer="notify.events"' in labels:
            [bound] = re.findall(r'le="([^"]+)"', labels)
            found.append((float(bound), float(value)))
    return sorted(found)


def _quantile(buckets: list[tuple[float, float]], part: float) -> float:
    """Return a quantile of a histogram, as if each bucket were evenly filled."""
    wanted = buckets[-1][1] * part
    below, passed = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            return below + (bound - below) * (wanted - passed) / (count - passed)
        below, passed = bound, count
    raise RuntimeError("notify has no lag to show")
