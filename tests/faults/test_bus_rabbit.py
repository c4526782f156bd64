"""The bus over a real RabbitMQ: nothing lost, nothing twice, one bad message stops no other."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker
from sqlalchemy import event
from sqlalchemy.orm import Session

from deploy.servers.postgres import Postgres
from deploy.servers.rabbitmq import RabbitMQ
from libs.common import dead_letters, outbox
from libs.common.bus_rabbit import DELIVERY_LIMIT, EXCHANGE, RabbitConsumer, RabbitPublisher
from libs.common.db import Database
from libs.common.dead_letters import UNREADABLE, DeadLetter, InUse, RabbitDeadLetters
from libs.common.ids import new_id
from libs.common.inbox import Consumer
from libs.common.messages import Message
from libs.common.outbox import Relay
from libs.contracts.envelope import Event
from tests.world import World, eventually, in_threads

ROOT = Path(__file__).parents[2]


class Rang(Event):
    """Something happened, for these tests."""

    type: ClassVar[str] = "bell.rang"
    bell: str

    @property
    def subject(self) -> str:
        return self.bell


class Ring:
    """A relay and a consumer over the broker, each in a thread, as an events process runs them.

    What is heard is written down when it is committed.
    """

    def __init__(self, db: Database, rabbit: RabbitMQ) -> None:
        self.db = db
        self.rabbit = rabbit
        self.heard: Counter[str] = Counter()
        self.failing: set[str] = set()
        self.consumer = Consumer(f"booking.test-{new_id()}")
        self.consumer.on(self._fact())(self._hear)
        self._bus: list[Any] = []

    def _fact(self) -> type[Rang]:
        # A type of its own, so that the queues of other tests on the same broker take nothing of it.
        self.fact: type[Rang] = type("Rang", (Rang,), {"type": f"bell.rang.{new_id()}", "__module__": __name__})
        return self.fact

    def _hear(self, session: Session, fact: Any, message: Message) -> None:
        if fact.bell in self.failing:
            raise RuntimeError(f"{fact.bell} can't be heard")
        event.listen(session, "after_commit", lambda _: self.heard.update([fact.bell]), once=True)

    def ring(self, *bells: str) -> None:
        with self.db.transaction() as session:
            outbox.record(session, *(self.fact(version=1, bell=bell) for bell in bells))

    def pending(self) -> int:
        with self.db.transaction() as session:
            return outbox.pending(session)

    @contextmanager
    def running(self, *, relays: int = 1) -> Iterator[RabbitConsumer]:
        with self.consuming() as consumer, self.relaying(relays):
            yield consumer

    @contextmanager
    def consuming(self) -> Iterator[RabbitConsumer]:
        consumer = RabbitConsumer(self.rabbit.url, self.consumer, self.db, retry_delays_s=[0.05, 0.05])
        with in_threads(consumer):
            yield consumer

    @contextmanager
    def relaying(self, relays: int = 1) -> Iterator[None]:
        publishers = [RabbitPublisher(self.rabbit.url, name="test relay") for _ in range(relays)]
        with in_threads(*(Relay(self.db, publisher, source="booking", poll_s=0.02) for publisher in publishers)):
            yield
        for publisher in publishers:
            publisher.close()

    def make_queues(self) -> None:
        """Let the broker know the consumer, as it does wherever one has run before."""
        with self.consuming():
            eventually(self._has_queues)

    def _has_queues(self) -> bool:
        channel = self.channel()
        try:
            channel.queue_declare(self.consumer.name, passive=True)
            channel.queue_bind(self.consumer.name, EXCHANGE, routing_key=self.fact.type)
        except ChannelClosedByBroker:
            return False
        channel.connection.close()
        return True

    def channel(self) -> Any:
        """A plain connection of the test's own, to look from outside."""
        return pika.BlockingConnection(pika.URLParameters(self.rabbit.url)).channel()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever is at dead letters wait for a minute: the broker and everybody else may stand still for seconds."""
    for name in ("TURN_WITHIN_S", "SILENT_S", "BROKER_WITHIN_S"):
        monkeypatch.setattr(dead_letters, name, 60.0)


@pytest.fixture
def ring(world: World, rabbit: RabbitMQ) -> Ring:
    return Ring(world.runtimes["booking"].db, rabbit)


def test_every_event_is_heard_once(ring: Ring) -> None:
    bells = [f"bell {number}" for number in range(500)]
    with ring.running(relays=2):
        for start in range(0, 500, 50):
            ring.ring(*bells[start : start + 50])

        eventually(lambda: len(ring.heard) == 500 and ring.pending() == 0)

    assert set(ring.heard.values()) == {1}


def test_events_wait_while_the_broker_is_away_and_arrive_when_it_is_back(ring: Ring) -> None:
    with ring.running():
        ring.ring("before")
        eventually(lambda: ring.heard["before"] and ring.pending() == 0)
        ring.rabbit.stop()
        ring.ring(*[f"meanwhile {number}" for number in range(200)])
        waiting = ring.pending()
        ring.rabbit.start()

        eventually(lambda: len(ring.heard) == 201 and ring.pending() == 0, timeout_s=60)

    assert waiting == 200
    assert set(ring.heard.values()) == {1}


def test_an_event_without_any_queue_is_not_taken_for_published(ring: Ring) -> None:
    publisher = RabbitPublisher(ring.rabbit.url, name="test relay")
    ring.ring("nobody listens")

    moved = Relay(ring.db, publisher, source="booking", poll_s=0.02).relay_once()
    publisher.close()

    assert moved == 0
    assert ring.pending() == 1


def test_a_message_that_always_fails_is_parked_and_the_others_go_on(ring: Ring) -> None:
    ring.failing = {"bad"}
    with ring.running() as consumer:
        ring.ring("one", "bad", "two")
        eventually(lambda: ring.heard["one"] and ring.heard["two"])
        channel = ring.channel()
        parked = eventually(lambda: channel.basic_get(consumer.dead_queue, auto_ack=True)[2])
        channel.connection.close()

    assert Message.model_validate_json(parked).subject == "bad"
    assert ring.heard == {"one": 1, "two": 1}


def test_dead_letters_are_looked_at_any_number_of_times_and_sent_again(ring: Ring) -> None:
    ring.failing = {"bad", "worse"}
    letters = RabbitDeadLetters(ring.rabbit.url, ring.consumer.name, ring.db)
    assert letters.all() == []
    with ring.running():
        ring.ring("bad", "worse", "good")
        eventually(lambda: len(letters.all()) == 2)
        for _ in range(DELIVERY_LIMIT + 5):
            found = {letter.subject: letter for letter in letters.all()}
            assert set(found) == {"bad", "worse"}

        ring.failing = set()
        sent = letters.replay(unnoted, [found["bad"].id])
        eventually(lambda: ring.heard["bad"])

    assert sent == [found["bad"].id]
    assert found["bad"].type == ring.fact.type
    assert found["bad"].error == "RuntimeError: bad can't be heard"
    assert found["bad"].parked_at
    assert [letter.subject for letter in letters.all()] == ["worse"]
    assert ring.heard == {"good": 1, "bad": 1}


def test_nonsense_on_the_queue_is_parked_at_once(ring: Ring) -> None:
    with ring.running() as consumer:
        ring.ring("one")
        eventually(lambda: ring.heard["one"])
        channel = ring.channel()
        channel.basic_publish(EXCHANGE, ring.fact.type, b"{nonsense")
        parked = eventually(lambda: channel.basic_get(consumer.dead_queue, auto_ack=True)[2])
        channel.connection.close()

    assert parked == b"{nonsense"


def test_nonsense_among_dead_letters_is_shown_as_such_and_can_be_sent_again(ring: Ring) -> None:
    letters = RabbitDeadLetters(ring.rabbit.url, ring.consumer.name, ring.db)
    with ring.running():
        ring.ring("one")
        eventually(lambda: ring.heard["one"])
        channel = ring.channel()
        channel.basic_publish(EXCHANGE, ring.fact.type, b"{nonsense")
        channel.connection.close()
        [first] = eventually(letters.all)
        letters.replay(unnoted)
        [second] = eventually(letters.all)

    assert first.id.startswith(f"{UNREADABLE}-")
    assert (first.type, first.subject, first.content) == (UNREADABLE, UNREADABLE, None)
    assert second.id == first.id
    assert "nonsense" not in first.error


def unnoted(session: Session, letter: DeadLetter) -> None:
    """Record nothing about what is done to a letter."""


def parked(ring: Ring, *bells: str) -> RabbitDeadLetters:
    """Return the dead letters of a consumer that failed at these bells for good."""
    ring.failing = set(bells)
    letters = RabbitDeadLetters(ring.rabbit.url, ring.consumer.name, ring.db)
    with ring.running():
        ring.ring(*bells)
        eventually(lambda: len(letters.all()) == len(bells), timeout_s=60)
    return letters


def test_a_letter_is_dropped_by_its_id_when_that_is_on_record(ring: Ring) -> None:
    letters = parked(ring, "bad", "worse")
    ids = {letter.subject: letter.id for letter in letters.all()}
    noted: list[str] = []

    dropped = letters.drop(lambda _, letter: noted.append(letter.subject), [ids["bad"], new_id()])

    assert (dropped, noted) == ([ids["bad"]], ["bad"])
    assert [(letter.subject, letter.attempts) for letter in letters.all()] == [("worse", 3)]


def test_people_who_are_at_the_same_letters_at_once_see_and_lose_nothing_twice(ring: Ring) -> None:
    bells = [f"bell {number}" for number in range(6)]
    letters = parked(ring, *bells)
    ids = [letter.id for letter in letters.all()]

    with ThreadPoolExecutor(6) as people:
        looked = [people.submit(letters.all) for _ in range(4)]
        dropped = [people.submit(letters.drop, unnoted, ids[:4]) for _ in range(2)]

    for look in looked:
        seen = Counter(letter.subject for letter in look.result())
        assert set(seen.values()) == {1}
        assert len(seen) in (2, 6)
    assert sorted(len(drop.result()) for drop in dropped) == [0, 4]
    assert sorted(letter.id for letter in letters.all()) == sorted(ids[4:])


def test_a_letter_that_cannot_be_noted_stays_with_those_behind_it_and_the_others_are_sent(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "CONFIRM_WINDOW", 2)  # several windows
    bells = [f"bell {number}" for number in range(5)]
    letters = parked(ring, *bells)
    order = [letter.subject for letter in letters.all()]
    noted: list[str] = []

    def note(session: Session, letter: DeadLetter) -> None:
        if len(noted) == 3:
            raise RuntimeError("the database is away")
        noted.append(letter.subject)

    for _ in range(DELIVERY_LIMIT + 5):  # what is given back unread is dropped in the end
        noted.clear()
        noted += ["", "", ""]
        with pytest.raises(RuntimeError):
            letters.replay(note)
    noted.clear()
    with pytest.raises(RuntimeError):
        letters.replay(note)

    assert len(noted) == 3
    assert sorted([*noted, *(letter.subject for letter in letters.all())]) == sorted(order)
    channel = ring.channel()
    eventually(lambda: dead(channel, letters) == 2)
    channel.connection.close()


KILLED = """
import os, signal, sys
from pika.adapters.blocking_connection import BlockingChannel
from libs.common import dead_letters
from libs.common.dead_letters import RabbitDeadLetters

dead_letters.TURN_WITHIN_S = dead_letters.SILENT_S = dead_letters.BROKER_WITHIN_S = 60.0
BlockingChannel.basic_ack = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # published again, and never acknowledged
RabbitDeadLetters(sys.argv[1], sys.argv[2], None).all()
"""


def test_who_is_killed_between_two_steps_leaves_letters_twice_at_worst_and_the_next_look_makes_one_of_two(
    ring: Ring,
) -> None:
    letters = parked(ring, "bad", "worse")
    channel = ring.channel()

    killed = subprocess.run([sys.executable, "-c", KILLED, ring.rabbit.url, ring.consumer.name], cwd=ROOT, timeout=120)
    left = eventually(lambda: dead(channel, letters) == 4 and 4)
    found = letters.all()

    assert (killed.returncode, left) == (-signal.SIGKILL, 4)
    assert sorted(letter.subject for letter in found) == ["bad", "worse"]
    eventually(lambda: dead(channel, letters) == 2)
    channel.connection.close()


def dead(channel: Any, letters: RabbitDeadLetters) -> int:
    count: int = channel.queue_declare(letters.queue, passive=True).method.message_count
    return count


def test_who_waits_too_long_for_somebody_else_is_told(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = parked(ring, "bad")
    begun, over = threading.Event(), threading.Event()

    def take_time(session: Session, letter: DeadLetter) -> None:
        begun.set()
        over.wait(60)

    with ThreadPoolExecutor(1) as somebody:
        dropping = somebody.submit(letters.drop, take_time, [letters.all()[0].id])
        assert begun.wait(60)
        with monkeypatch.context() as hurried:
            hurried.setattr(dead_letters, "TURN_WITHIN_S", 0.2)
            with pytest.raises(InUse):
                letters.all()
        over.set()

    assert len(dropping.result()) == 1
    assert letters.all() == []


def test_a_message_delivered_twice_has_its_effect_once(ring: Ring) -> None:
    with ring.running():
        ring.ring("one")
        eventually(lambda: ring.heard["one"] and ring.pending() == 0)
        with ring.db.transaction() as session:
            row = session.query(outbox.OutboxRow).one()
            row.published_at = None
        eventually(lambda: ring.pending() == 0)
        ring.ring("two")
        eventually(lambda: ring.heard["two"])

    assert ring.heard == {"one": 1, "two": 1}


def test_a_backlog_waits_for_a_database_that_is_away_for_longer_than_every_retry(
    fragile_world: World, own_postgres: Postgres, rabbit: RabbitMQ
) -> None:
    ring = Ring(fragile_world.runtimes["booking"].db, rabbit)
    bells = [f"bell {number}" for number in range(60)]
    ring.make_queues()
    with ring.relaying():
        ring.ring(*bells)
        eventually(lambda: ring.pending() == 0)

    own_postgres.stop()
    with ring.consuming() as consumer:
        time.sleep(2)  # many times what all retries take together
        own_postgres.start()
        eventually(lambda: len(ring.heard) == 60, timeout_s=60)

    channel = ring.channel()
    assert channel.basic_get(consumer.dead_queue)[2] is None
    channel.connection.close()
    assert set(ring.heard.values()) == {1}
