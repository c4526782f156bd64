"""Deliveries: once each, whoever carries them, whatever the provider says, and whoever dies."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from deploy.loops import Loops
from libs.common.clock import utcnow
from services.notify import deliveries
from services.notify.channel import Delivering, Off
from services.notify.deliveries import Taken
from services.notify.models import Delivery, Notice
from services.notify.outcomes import Later, Outcome, Refused, Sent, Unknown
from services.notify.sender import Sender
from tests.notify.builders import Join, a_join, a_slot, deliver, hear, message, rows
from tests.notify.pigeons import Pigeons, carry_all, delivery_of, queued, sender, told
from tests.notify.test_announcements import written
from tests.world import World, eventually

IN_A_WHILE = timedelta(minutes=3)  # longer than any lease, and than the first waits
RACES = 40
CARRIERS = 4
Look = Callable[[Session, str, datetime], Delivery | None]


def later() -> datetime:
    return utcnow() + IN_A_WHILE


def test_a_notice_goes_out_once_by_a_channel(world: World) -> None:
    [notice] = told(world)
    pigeons = Pigeons()

    queued(world, notice)
    queued(world, notice)

    assert carry_all(world, pigeons) == 1
    found = delivery_of(world, notice)
    assert (found["state"], found["provider_id"], found["attempts"]) == ("sent", "coo", 1)
    assert (found["possibly_twice"], found["answer"]) == (False, "")
    assert found["ended_at"] is not None


def test_a_channel_with_several_targets_delivers_to_each(world: World) -> None:
    [notice] = told(world)
    pigeons = Pigeons()

    for target in ("one", "two", "one"):
        queued(world, notice, target=target)

    assert carry_all(world, pigeons) == 2


def test_what_the_provider_refuses_has_failed_and_says_why(world: World) -> None:
    [notice] = told(world)
    queued(world, notice)

    carry_all(world, Pigeons(lambda _: Refused("no such loft")))

    found = delivery_of(world, notice)
    assert (found["state"], found["answer"], found["attempts"]) == ("failed", "no such loft", 1)


@pytest.mark.parametrize(
    ("outcome", "state", "said"),
    [
        (Sent("a\0b"), "sent", "ab"),
        (Sent("a\ud800b" + "c" * 600), "sent", "ab" + "c" * 498),
        (Refused("no\0 such\udcff loft\x1b"), "failed", "no such loft"),
        (Later("st\0orm"), "queued", "storm"),
    ],
    ids=["NUL in an id", "half a pair in a long id", "a refusal", "a delay"],
)
def test_whatever_a_provider_says_is_recorded_at_once(world: World, outcome: Outcome, state: str, said: str) -> None:
    [notice] = told(world)
    queued(world, notice)
    pigeons = Pigeons(lambda _: outcome)

    carry_all(world, pigeons)

    found = delivery_of(world, notice)
    assert (found["state"], found["provider_id"] + found["answer"], found["attempts"]) == (state, said, 1)
    assert len(pigeons.flown) == 1


def test_what_may_be_tried_again_is_when_it_is_due(world: World) -> None:
    [notice] = told(world)
    queued(world, notice)
    answers: list[Outcome] = [Later("storm"), Sent()]
    pigeons = Pigeons(lambda _: answers.pop(0))

    assert carry_all(world, pigeons) == 1
    assert (delivery_of(world, notice)["state"], delivery_of(world, notice)["answer"]) == ("queued", "storm")
    assert carry_all(world, pigeons, clock=later) == 1

    found = delivery_of(world, notice)
    assert (found["state"], found["attempts"], found["possibly_twice"], found["answer"]) == ("sent", 2, False, "")


def test_a_lost_answer_is_marked_for_good(world: World) -> None:
    [notice] = told(world)
    queued(world, notice)
    answers: list[Outcome] = [Unknown("silence"), Sent()]
    pigeons = Pigeons(lambda _: answers.pop(0))

    carry_all(world, pigeons)
    carry_all(world, pigeons, clock=later)

    found = delivery_of(world, notice)
    assert (found["state"], found["possibly_twice"], found["attempts"]) == ("sent", True, 2)


def test_what_a_dead_process_was_sending_goes_out_again_as_possibly_twice_and_not_a_third_time(world: World) -> None:
    notices = told(world, 2)
    pigeons = Pigeons()
    queued(world, *notices)
    dying = sender(world, pigeons)
    assert dying.take() is not None
    assert dying.take() is not None  # and dies with both

    assert carry_all(world, pigeons) == 0, "they are still the other's"
    again = sender(world, pigeons, clock=later)
    first = again.take()
    assert first is not None
    again.carry(first)
    assert again.take() is not None  # and dies, too
    assert carry_all(world, pigeons, clock=lambda: utcnow() + 2 * IN_A_WHILE) == 0

    found = sorted((row["state"], row["possibly_twice"], row["attempts"]) for row in rows(world, Delivery))
    assert found == [("failed", True, 2), ("sent", True, 2)]
    assert len(pigeons.flown) == 1


def test_an_answer_that_comes_after_another_has_taken_over_changes_nothing(world: World) -> None:
    [notice] = told(world)
    pigeons = Pigeons()
    queued(world, notice)
    slow = sender(world, pigeons)
    taken = slow.take()
    assert taken is not None

    carry_all(world, pigeons, clock=later)
    slow.carry(taken)

    assert delivery_of(world, notice)["attempts"] == 2
    assert pigeons.settled == [Sent("coo")]


def test_what_is_of_no_use_any_more_is_not_sent(world: World) -> None:
    [notice] = told(world)
    pigeons = Pigeons()
    queued(world, notice, good_until=utcnow() - timedelta(seconds=1))

    assert carry_all(world, pigeons) == 0
    assert (delivery_of(world, notice)["state"], pigeons.flown) == ("failed", [])


def test_what_is_due_later_waits(world: World) -> None:
    [notice] = told(world)
    queued(world, notice, due_at=utcnow() + timedelta(minutes=1))

    assert carry_all(world, Pigeons()) == 0
    assert carry_all(world, Pigeons(), clock=later) == 1


def test_what_is_held_for_later_does_not_wait_but_what_is_tried_again_does(world: World) -> None:
    held, tried = told(world, 2)
    queued(world, held, due_at=utcnow() + timedelta(hours=8))
    queued(world, tried)
    carry_all(world, Pigeons(lambda _: Later("no wind")))

    with world.runtimes["notify"].db.transaction() as session:
        assert deliveries.pending(session, "pigeon") == 1


def test_a_channel_that_was_switched_off_ends_what_waits_for_it(world: World) -> None:
    [notice] = told(world)
    queued(world, notice)

    assert carry_all(world, Off("pigeon")) == 0
    assert delivery_of(world, notice)["answer"] == "the channel is switched off"


def test_each_that_cant_be_sent_ends_by_itself_however_many_they_are(world: World) -> None:
    ended_by_then = []

    class Closed(Pigeons):
        def prepare(self, session: Session, delivering: Delivering) -> Refused:
            ended_by_then.append(len(rows(world, Delivery, state="failed")))
            return Refused("no way there")

    queued(world, *told(world, 3))

    assert carry_all(world, Closed()) == 0
    assert ended_by_then == [0, 1, 2]


def test_a_message_that_cant_be_made_ready_keeps_no_other_waiting(world: World) -> None:
    class Sick(Pigeons):
        def prepare(self, session: Session, delivering: Delivering) -> Delivering | Refused:
            if delivering.told.id == sick:
                session.execute(select(Delivery.id).where(Delivery.id == "no id"))
            return delivering

    sick, well = told(world, 2)
    queued(world, sick, well)

    assert carry_all(world, Sick()) == 1
    assert delivery_of(world, well)["state"] == "sent"
    assert delivery_of(world, sick)["state"] == "queued"
    assert "internal error" in delivery_of(world, sick)["answer"]


def test_a_channel_that_breaks_down_may_have_sent(world: World) -> None:
    def broken(_: Delivering) -> Outcome:
        raise RuntimeError("feathers everywhere")

    [notice] = told(world)
    queued(world, notice)

    carry_all(world, Pigeons(broken))

    found = delivery_of(world, notice)
    assert (found["state"], found["possibly_twice"]) == ("queued", True)
    assert found["answer"] == "internal error (RuntimeError)"


@pytest.mark.parametrize("broken_by", ["40P01", "55P03", "57014"])  # a deadlock, no lock in time, cancelled
def test_an_answer_whose_record_the_database_breaks_is_recorded_after_all(world: World, broken_by: str) -> None:
    class Unlucky(Pigeons):
        def settle(self, session: Session, delivering: Delivering, letter: Delivering, outcome: Outcome) -> None:
            super().settle(session, delivering, letter, outcome)
            if len(self.settled) == 1:
                session.execute(text(f"DO $$ BEGIN RAISE SQLSTATE '{broken_by}'; END $$"))

    [notice] = told(world)
    queued(world, notice)
    pigeons = Unlucky()

    carry_all(world, pigeons)
    carry_all(world, pigeons, clock=later)

    assert delivery_of(world, notice)["state"] == "sent"
    assert len(pigeons.flown) == 1


def test_a_hanging_channel_delays_no_other_and_no_inbox(world: World) -> None:
    let_go = threading.Event()
    hanging = Pigeons(lambda _: Sent() if let_go.wait(100) else Unknown("silence"), name="hanging")
    quick = Pigeons(name="quick")
    notices = told(world, 6)
    senders = [sender(world, channel) for channel in (hanging, quick)]
    loops = Loops([one for one in senders for _ in range(2)])
    queued(world, *notices, channel="hanging")
    for one in senders:
        one.wake_on_commit(world.runtimes["notify"].db)

    loops.start()
    eventually(lambda: len(hanging.flown) == hanging.at_once)
    queued(world, *notices, channel="quick")
    eventually(lambda: len(quick.flown) == 6)
    deliver(world, message(a_join().booked()))
    assert len(hanging.flown) == hanging.at_once, "the others wait for their own channel"

    let_go.set()
    eventually(lambda: {row["state"] for row in rows(world, Delivery)} == {"sent"})
    loops.stop()
    assert sorted(hanging.flown) == sorted(set(hanging.flown))


def test_a_delivery_goes_out_after_its_commit_and_not_when_it_would_be_looked_for(world: World) -> None:
    pigeons = Pigeons()
    carrier = sender(world, pigeons, poll_s=60)
    carrier.wake_on_commit(world.runtimes["notify"].db)
    loops = Loops([carrier])
    loops.start()
    [notice] = told(world)

    queued(world, notice)
    eventually(lambda: pigeons.flown)

    loops.stop()


def race(world: World, pigeons: Pigeons) -> list[Exception]:
    """Let several senders, as of several processes, carry what is due at the same time; return what they ran into."""
    notices = told(world, RACES)
    queued(world, *notices)
    carriers = [sender(world, pigeons) for _ in range(CARRIERS)]
    barrier = threading.Barrier(len(carriers))
    ran_into: list[Exception] = []

    def work(carrier: Sender[Delivering]) -> None:
        barrier.wait()
        try:
            while (taken := carrier.take()) is not None:
                carrier.carry(taken)
        except DBAPIError as error:
            ran_into.append(error)

    threads = [threading.Thread(target=work, args=(carrier,)) for carrier in carriers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return ran_into


def test_senders_that_race_for_deliveries_send_each_once(world: World) -> None:
    pigeons = Pigeons()

    assert race(world, pigeons) == []

    assert len(pigeons.flown) == len(set(pigeons.flown)) == RACES
    assert {(row["state"], row["attempts"]) for row in rows(world, Delivery)} == {("sent", 1)}


def test_what_a_sender_has_looked_at_is_nobody_elses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent_by_two(world, monkeypatch, look=deliveries._next_due) == 1


def test_without_the_lock_two_senders_send_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what keeps two senders from the same delivery is taken out, and the test above would notice."""

    def unlocked(session: Session, channel: str, now: datetime) -> Delivery | None:
        return session.scalar(select(Delivery).where(Delivery.channel == channel, Delivery.due_at <= now))

    assert sent_by_two(world, monkeypatch, look=unlocked) == 2


def sent_by_two(world: World, monkeypatch: pytest.MonkeyPatch, look: Look) -> int:
    """Let a sender take what is due while another has looked and not yet taken it; return how often it was sent."""
    [notice] = told(world)
    queued(world, notice)
    pigeons = Pigeons()
    one, other = sender(world, pigeons), sender(world, pigeons)
    by_other: list[Taken[Delivering] | None] = []

    def interrupted(session: Session, channel: str, now: datetime) -> Delivery | None:
        found = look(session, channel, now)
        monkeypatch.setattr(deliveries, "_next_due", look)
        by_other.append(other.take())
        return found

    monkeypatch.setattr(deliveries, "_next_due", interrupted)
    for carrier, taken in ((one, one.take()), (other, by_other[0])):
        if taken is not None:
            carrier.carry(taken)
    return len(pigeons.flown)


def test_old_deliveries_are_forgotten_when_they_are_over(world: World) -> None:
    done, waiting = told(world, 2)
    queued(world, done)
    carry_all(world, Pigeons())
    queued(world, waiting)

    with world.runtimes["notify"].db.transaction() as session:
        forgotten = deliveries.forget(session, before=utcnow() + timedelta(seconds=1))

    assert forgotten == 1
    assert [row["notice_id"] for row in rows(world, Delivery)] == [waiting]


def news_to(world: World, how_many: int) -> tuple[list[Join], list[str]]:
    """Let so many users of a hall be told of an announcement; return their joins, and the ids of the notices."""
    slot = a_slot(starts_at=utcnow() + timedelta(days=3))
    joins = [a_join(slot) for _ in range(how_many)]
    hear(world, *(join.booked() for join in joins), at_once=100)
    written(world, hall_id=slot.hall_id, tell={"upcoming": True})
    runtime = world.runtimes["notify"]
    next(task for task in runtime.service.tasks if task.name == "notify.announce").run(runtime)
    return joins, [row["id"] for row in rows(world, Notice, kind="announcement")]


def test_news_to_many_lets_what_is_about_somebodys_own_booking_go_first(world: World) -> None:
    joins, news = news_to(world, 12)
    pigeons = Pigeons()
    queued(world, *news, due_at=utcnow() - timedelta(minutes=1))
    hear(world, joins[0].revoked())
    [revoked] = rows(world, Notice, kind="revoked")

    queued(world, revoked["id"])
    carry_all(world, pigeons)

    assert pigeons.flown[0] == delivery_of(world, revoked["id"])["id"]
    assert len(pigeons.flown) == 13
