"""A flood of join events, some twice, some out of order, some poison: every notice once, every stat right.

The same flood goes over the local bus and over RabbitMQ. `make soak` sends 100,000 events.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from deploy.servers.rabbitmq import RabbitMQ
from libs.common.bus_local import LocalQueue
from libs.common.bus_rabbit import RabbitConsumer, RabbitPublisher
from libs.common.clock import utcnow
from libs.common.dead_letters import DeadLetters, LocalDeadLetters, RabbitDeadLetters
from libs.common.ids import new_id
from libs.common.inbox import InboxRow
from libs.common.messages import Message
from services.notify import recounts
from services.notify.handlers import KINDS, consumer
from services.notify.models import JoinRecord, Notice
from tests.notify.builders import MORNING, Join, Slot, a_join, a_slot, message, rows, totals_counted, totals_of
from tests.notify.test_stats import wander
from tests.world import World, eventually, in_threads

EVENTS = int(os.environ.get("HALLPASS_TEST_FLOOD", "5000"))
SEED = int(os.environ.get("HALLPASS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
TWICE = 0.05
OUT_OF_ORDER = 0.05
POISON = 20
SLOTS = 200
PUT_AT_ONCE = 200
DELAYS_S = [0.05, 0.05]
FOR_AN_HOUR_S = [3600.0]
A_FEW = 500
BROKEN: list[dict[str, Any]] = [  # what no consumer can do: it can't be read, or breaks what is done with it
    {"status": "vanished"},
    {"slot": None},
    {"join_id": "nobody", "version": 99},
]

pytestmark = [pytest.mark.xdist_group("flood"), pytest.mark.timeout(max(300, EVENTS // 50))]


@dataclass(frozen=True)
class Flood:
    """Messages in the order in which they are sent, and the lives that they tell of."""

    messages: list[Message]
    poison: set[str]
    joins: list[Join]
    slots: list[Slot]

    @cached_property
    def sound(self) -> set[str]:
        return {one.id for one in self.messages} - self.poison


def a_flood(seed: int, events: int = EVENTS) -> Flood:
    chance = random.Random(seed)
    hall = a_slot()
    slots = [
        a_slot(
            capacity=chance.choice([None, 5, 50]),
            starts_at=MORNING + timedelta(hours=chance.randrange(8), days=chance.randrange(30)),
            hall_id=hall.hall_id,
            item_id=chance.choice([hall.item_id, hall.id]),
        )
        for _ in range(SLOTS)
    ]
    joins: list[Join] = []
    lives: list[list[Message]] = []
    count = 0
    while count < events:
        here = chance.sample(slots, 3)
        join = a_join(here[0], booked_at=here[0].starts_at - timedelta(minutes=chance.randrange(40_000)))
        steps = [chance.randrange(10) for _ in range(chance.randrange(4))]
        joins.append(join)
        lives.append([message(fact) for fact in wander(join, steps, here)])
        count += len(lives[-1])
    messages = [one for life in lives for one in life]
    for index in chance.sample(range(len(messages)), int(len(messages) * OUT_OF_ORDER)):
        other = min(len(messages) - 1, index + chance.randrange(1, 300))
        messages[index], messages[other] = messages[other], messages[index]
    for one in chance.sample(messages, int(len(messages) * TWICE)):
        messages.insert(chance.randrange(len(messages)), one)
    poison = [
        _poisoned(one, BROKEN[number % len(BROKEN)]) for number, one in enumerate(chance.sample(messages, POISON))
    ]
    for one in poison:
        messages.insert(chance.randrange(len(messages)), one)
    return Flood(messages, {one.id for one in poison}, joins, slots)


def _poisoned(one: Message, broken: dict[str, Any]) -> Message:
    return one.model_copy(update={"id": new_id(), "data": one.data | broken})


@dataclass(frozen=True)
class Bus:
    """What takes messages to notify's consumer, and its dead letters."""

    send: Callable[[list[Message]], object]
    letters: DeadLetters


@contextmanager
def local_bus(world: World, delays_s: list[float]) -> Iterator[Bus]:
    db = world.runtimes["notify"].db
    queue = LocalQueue(consumer, db, retry_delays_s=delays_s)
    with in_threads(queue):
        yield Bus(queue.put, LocalDeadLetters(db, consumer.name))


@contextmanager
def rabbit_bus(world: World, rabbit: RabbitMQ, delays_s: list[float]) -> Iterator[Bus]:
    publisher = RabbitPublisher(rabbit.url, name="flood")
    taking = RabbitConsumer(rabbit.url, consumer, world.runtimes["notify"].db, retry_delays_s=delays_s)
    letters = RabbitDeadLetters(rabbit.url, consumer.name, world.runtimes["notify"].db)
    letters_before = len(letters.all())
    assert letters_before == 0

    def send(messages: list[Message]) -> None:
        waiting = messages
        while waiting:  # until the consumer has made its queue
            stored = set(publisher.publish(waiting))
            waiting = [one for one in waiting if one.id not in stored]

    with in_threads(taking):
        yield Bus(send, letters)
    letters.drop(lambda *_: None, [letter.id for letter in letters.all()])
    publisher.close()


@pytest.fixture(params=["local", "rabbit"])
def bus_of(request: pytest.FixtureRequest, world: World) -> Callable[[list[float]], AbstractContextManager[Bus]]:
    """Return what opens a bus that tries again after these delays."""
    if request.param == "local":
        return lambda delays_s: local_bus(world, delays_s)
    rabbit: RabbitMQ = request.getfixturevalue("rabbit")
    return lambda delays_s: rabbit_bus(world, rabbit, delays_s)


def test_a_flood_of_events_tells_everybody_once_and_counts_right(
    world: World, bus_of: Callable[[list[float]], AbstractContextManager[Bus]]
) -> None:
    print(f"seed {SEED}: HALLPASS_TEST_SEED={SEED} repeats the flood")
    flood = a_flood(SEED)
    db = world.runtimes["notify"].db
    sent_at: dict[str, datetime] = {}
    with capture_logs(), bus_of(DELAYS_S) as bus:  # to print a traceback with every value in it takes a second
        for start in range(0, len(flood.messages), PUT_AT_ONCE):
            some = flood.messages[start : start + PUT_AT_ONCE]
            _wait_for_the_consumer(world, flood, sent_at)
            sent_at |= {one.id: utcnow() for one in some if one.id not in sent_at}
            bus.send(some)
        eventually(lambda: _done(world) >= len(flood.sound), timeout_s=max(60, EVENTS / 100))
        letters = eventually(lambda: found if len(found := bus.letters.all()) >= POISON else None, timeout_s=120)

    assert sorted(letter.id for letter in letters) == sorted(flood.poison)
    assert _done(world) == len(flood.sound)
    _every_notice_once(world, flood)
    assert totals_of(world) == totals_counted(world, flood.joins, [slot for slot in flood.slots if slot.version])
    with db.transaction() as session:
        recounts.ask(session, None, None, now=utcnow())
    assert recounts.run_all(db)["differing"] == 0
    consumed = rows(world, InboxRow)
    late = max(row["consumed_at"] - sent_at[row["event_id"]] for row in consumed if row["event_id"] in sent_at)
    print(f"the latest of {len(flood.sound)} events was done {late.total_seconds():.1f} s after it was sent")


def test_no_event_waits_for_poison_that_is_to_be_tried_again(
    world: World, bus_of: Callable[[list[float]], AbstractContextManager[Bus]]
) -> None:
    flood = a_flood(SEED, A_FEW)

    with capture_logs(), bus_of(FOR_AN_HOUR_S) as bus:
        bus.send(flood.messages)
        eventually(lambda: _done(world) == len(flood.sound), timeout_s=120)

        assert len(bus.letters.all()) < POISON  # RabbitMQ's consumer parks at once what can't be read


def _done(world: World) -> int:
    with world.runtimes["notify"].db.transaction() as session:
        return session.scalar(select(func.count()).select_from(InboxRow)) or 0


def _wait_for_the_consumer(world: World, flood: Flood, sent: dict[str, datetime]) -> None:
    """Send no faster than is consumed: what is printed is how long poison delays others, not how long a queue is."""
    wanted = len(sent.keys() - flood.poison)
    eventually(lambda: _done(world) >= wanted, timeout_s=120)


def _every_notice_once(world: World, flood: Flood) -> None:
    kinds = {fact.type for fact in KINDS}
    told = Counter(
        (one.data["user_id"], one.data["action_id"])
        for one in {one.id: one for one in flood.messages}.values()
        if one.id in flood.sound and one.type in kinds
    )
    with world.runtimes["notify"].db.transaction() as session:
        found = Counter(map(tuple, session.execute(select(Notice.user_id, Notice.action_id)).all()))
        known = set(session.scalars(select(JoinRecord.join_id)))
    assert found == Counter(dict.fromkeys(told, 1))
    assert known == {join.id for join in flood.joins}
