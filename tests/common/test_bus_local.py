"""The local bus keeps the broker's promises: once each, retried with delay, parked in the end."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.bus_local import LocalBus, LocalQueue, QueueRow
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.dead_letters import DeadLetter, LocalDeadLetters
from libs.common.ids import new_id
from libs.common.inbox import Consumer
from libs.common.messages import Message
from libs.common.outbox import Relay
from libs.contracts.envelope import Event
from tests.world import World, eventually


class Rang(Event):
    """Something happened, for these tests."""

    type: ClassVar[str] = "bell.rang"
    bell: str

    @property
    def subject(self) -> str:
        return self.bell


class Ring:
    """A relay, a local queue and a consumer that writes down what it hears, as far as it is committed."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.heard: list[str] = []
        self.failing: set[str] = set()
        self.consumer = Consumer("booking.test")
        self.consumer.on(Rang)(self._hear)
        self.queue = LocalQueue(self.consumer, db, retry_delays_s=[0.01, 0.01])
        self.relay = Relay(db, LocalBus([self.queue]), source="booking", poll_s=0.05)

    def _hear(self, session: Session, fact: Any, message: Message) -> None:
        if fact.bell in self.failing:
            raise RuntimeError(f"{fact.bell} can't be heard")
        event.listen(session, "after_commit", lambda _: self.heard.append(fact.bell), once=True)

    def ring(self, *bells: str) -> None:
        with self.db.transaction() as session:
            outbox.record(session, *(Rang(version=1, bell=bell) for bell in bells))

    def pending(self) -> int:
        with self.db.transaction() as session:
            return outbox.pending(session)


@pytest.fixture
def ring(world: World) -> Ring:
    return Ring(world.runtimes["booking"].db)


def test_an_event_of_a_transaction_that_failed_is_never_heard(ring: Ring) -> None:
    def fail(session: Session) -> None:
        outbox.record(session, Rang(version=1, bell="undone"))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ring.db.run(fail)
    ring.relay.relay_once()

    assert not ring.queue.consume_once()


def test_a_message_put_twice_has_its_effect_once(ring: Ring) -> None:
    ring.ring("a")
    ring.relay.relay_once()
    with ring.db.transaction() as session:
        message = Message.model_validate(session.scalars(select(QueueRow)).one().message)
    ring.queue.consume_once()

    ring.queue.put([message])
    while ring.queue.consume_once():
        pass

    assert ring.heard == ["a"]


def test_a_failing_message_is_tried_again_and_then_parked_while_others_go_on(ring: Ring) -> None:
    ring.failing = {"bad"}
    ring.ring("before", "bad", "after")
    ring.relay.relay_once()

    eventually(lambda: not ring.queue.consume_once() and ring.queue.parked())

    [parked] = ring.queue.parked()
    assert sorted(ring.heard) == ["after", "before"]
    assert parked.attempts == 3
    assert "can't be heard" in (parked.error or "")
    assert ring.queue.waiting() == 0


def test_what_somebody_has_written_gets_into_no_log(
    ring: Ring, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    unfit = Message(
        id=new_id(),
        type=Rang.type,
        source="test",
        subject="x",
        time=utcnow(),
        version=1,
        data={"name": "张三 13800138000"},
    )

    ring.queue.put([unfit])
    eventually(lambda: not ring.queue.consume_once() and ring.queue.parked())

    said = caplog.text + capsys.readouterr().out
    assert "event failed" in said
    assert "13800138000" not in said


def test_a_message_that_fails_for_a_while_is_heard_in_the_end(ring: Ring) -> None:
    ring.failing = {"late"}
    ring.ring("late")
    ring.relay.relay_once()
    ring.queue.consume_once()

    ring.failing = set()

    eventually(lambda: not ring.queue.consume_once() and ring.heard)
    assert ring.heard == ["late"]
    assert ring.queue.parked() == []


def test_a_relay_that_dies_before_it_marks_publishes_again(ring: Ring) -> None:
    class Dying:
        def publish(self, messages: list[Message]) -> list[str]:
            ring.queue.put(messages)
            raise OSError("died after handing over")

    ring.ring("a")
    with pytest.raises(OSError, match="died"):
        Relay(ring.db, Dying(), source="booking", poll_s=0.05).relay_once()
    assert ring.pending() == 1

    ring.relay.relay_once()
    while ring.queue.consume_once():
        pass

    assert ring.pending() == 0
    assert ring.heard == ["a"]


def test_what_the_bus_did_not_store_stays_in_the_outbox(ring: Ring) -> None:
    class Half:
        def publish(self, messages: list[Message]) -> list[str]:
            return [message.id for message in messages if message.subject != "b"]

    ring.ring("a", "b", "c")

    stored = Relay(ring.db, Half(), source="booking", poll_s=0.05).relay_once()

    assert stored == 2
    assert ring.pending() == 1


def test_a_dead_letter_that_is_sent_again_has_its_effect_once(ring: Ring) -> None:
    ring.failing = {"bad", "worse"}
    ring.ring("bad", "worse", "good")
    ring.relay.relay_once()
    letters = LocalDeadLetters(ring.db, ring.consumer.name)
    eventually(lambda: not ring.queue.consume_once() and len(letters.all()) == 2)
    bad = next(letter for letter in letters.all() if letter.subject == "bad")

    ring.failing = set()
    sent = letters.replay(unnoted, [bad.id])
    again = letters.replay(unnoted, [bad.id])
    eventually(lambda: not ring.queue.consume_once() and ring.queue.waiting() == 0)

    assert (bad.type, bad.error) == ("bell.rang", "RuntimeError: bad can't be heard")
    assert (sent, again) == ([bad.id], [])
    assert sorted(ring.heard) == ["bad", "good"]
    assert [letter.subject for letter in letters.all()] == ["worse"]


def unnoted(session: Session, letter: DeadLetter) -> None:
    """Record nothing about what is done to a letter."""


def test_a_letter_is_dropped_only_with_its_record(ring: Ring) -> None:
    ring.failing = {"bad"}
    ring.ring("bad")
    ring.relay.relay_once()
    letters = LocalDeadLetters(ring.db, ring.consumer.name)
    [bad] = eventually(lambda: not ring.queue.consume_once() and letters.all())

    def refuse(session: Session, letter: DeadLetter) -> None:
        raise RuntimeError("the record can't be written")

    with pytest.raises(RuntimeError):
        letters.drop(refuse, [bad.id])
    kept = letters.all()
    dropped = letters.drop(unnoted, [bad.id, new_id(), "no id"])

    assert [letter.id for letter in kept] == [bad.id]
    assert dropped == [bad.id]
    assert letters.all() == []


def test_what_waits_is_carried_out_together_and_in_its_order(ring: Ring) -> None:
    bells = [f"bell {number:02}" for number in range(50)]
    ring.ring(*bells)
    ring.relay.relay_once()
    commits: list[Any] = []
    event.listen(ring.db.engine, "commit", lambda connection: commits.append(connection))

    ring.queue.consume_once()

    assert len(commits) <= 2  # one to look, one for all the work
    assert ring.heard == bells
    assert ring.queue.waiting() == 0


def test_what_fails_takes_nothing_of_its_batch_along(ring: Ring) -> None:
    ring.failing = {"bad"}
    ring.ring("before", "bad", "after")
    ring.relay.relay_once()

    ring.queue.consume_once()

    assert ring.heard == ["before", "after"]
    assert ring.queue.waiting() == 1


def test_two_batches_of_one_consumer_do_not_run_into_each_other(ring: Ring) -> None:
    """Each wants the rows of the other; without an order between them PostgreSQL would have to break a deadlock."""

    begun: list[str] = []

    def hold(session: Session, fact: Any, message: Message) -> None:
        begun.append(message.id)
        session.execute(select(func.pg_advisory_xact_lock(int(fact.bell))))
        time.sleep(0.1)  # the other one is to come in between

    consumer = Consumer("booking.holding")
    consumer.on(Rang)(hold)
    there, back = [message_of("1"), message_of("2")], [message_of("2"), message_of("1")]

    with ThreadPoolExecutor(2) as pool:
        errors = list(pool.map(lambda messages: consumer.receive_all(ring.db, messages), [there, back]))

    assert errors == [{}, {}]
    assert sorted(begun) == sorted(message.id for message in there + back), "a broken deadlock is begun anew"


def message_of(bell: str) -> Message:
    fact = Rang(version=1, bell=bell)
    return Message(
        id=new_id(),
        type=fact.type,
        source="test",
        subject=fact.subject,
        time=utcnow(),
        version=1,
        data=fact.model_dump(mode="json"),
    )
