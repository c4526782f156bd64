"""How webhooks are called, and what becomes of one that fails."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from deploy.loops import Loops
from libs.common.clock import utcnow
from services.notify.channels.webhook import DELAYS_S, OF_ONE, OF_UNWELL, rest_s
from services.notify.metrics import DELIVERIES
from tests.common.receiver import Exchange, Posted, Receiver, receiver
from tests.notify.builders import a_join, hear
from tests.notify.hooking import (
    ELSEWHERE,
    HERE,
    a_hook,
    audited,
    carrier,
    carry,
    changed,
    later,
    listed,
    shown,
    verified,
)
from tests.world import World, eventually


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose webhooks may be on this machine."""
    return make_world(**HERE)


def failing(status: int) -> Callable[[Exchange, Posted], None]:
    return lambda exchange, _: exchange.answer(status, "no \x00thank you")


def test_who_fails_is_called_again_with_the_same_id_until_it_answers(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(503)
    hear(world, a_join().booked())

    now = utcnow()
    assert carry(world, clock=lambda: now) == 1
    assert carry(world, clock=lambda: now) == 0, "not before it is due"
    assert carry(world, clock=later(timedelta(seconds=DELAYS_S[0] + 1))) == 1
    theirs.behaviour = lambda exchange, _: exchange.answer(204)
    assert carry(world, clock=later(timedelta(seconds=DELAYS_S[0] + DELAYS_S[1] + 2))) == 1

    assert len({posted.headers["webhook-id"] for posted in theirs.posted}) == 1
    for posted in theirs.posted:
        verified(posted, hook["secret"])
    [delivery] = listed(world, hook, "deliveries")
    assert (delivery["state"], delivery["attempts"], delivery["answer"]) == ("sent", 3, "")
    calls = listed(world, hook, "attempts")
    assert [(call["number"], call["status"], call["answer"]) for call in calls] == [
        (3, 204, ""),
        (2, 503, "no thank you"),
        (1, 503, "no thank you"),
    ]
    assert {call["delivery_id"] for call in calls} == {delivery["id"]}
    assert shown(world, hook)["failures"] == 0


def test_an_event_is_given_up_after_about_a_day(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())

    passed = timedelta()
    carry(world)
    for delay in DELAYS_S:
        passed += timedelta(seconds=delay + 1)
        assert carry(world, clock=later(passed)) == 1

    assert timedelta(hours=24) < passed < timedelta(hours=28)
    [delivery] = listed(world, hook, "deliveries", state="failed")
    assert (delivery["attempts"], delivery["answer"]) == (len(DELAYS_S) + 1, "answered 500")
    assert carry(world, clock=later(passed * 2)) == 0


@pytest.mark.parametrize(
    ("behave", "status", "reason"),
    [
        (lambda exchange, _: exchange.hang(), None, "too_slow"),
        (lambda exchange, _: exchange.trickle(), None, "too_slow"),
        (lambda exchange, _: exchange.break_off(), None, "broken_off"),
        (lambda exchange, _: exchange.flood(b"heads"), None, "answer_too_large"),
        (lambda exchange, _: exchange.answer(302, Location="http://127.0.0.1/"), 302, ""),
        (lambda exchange, _: exchange.answer(404), 404, ""),
    ],
)
def test_what_is_no_success_is_tried_again_and_logged(
    make_world: Callable[..., World], theirs: Receiver, behave: Any, status: int | None, reason: str
) -> None:
    world = make_world(**HERE | ({"webhook_timeout_s": 0.5} if reason == "too_slow" else {}))
    hook = a_hook(world, theirs.address)
    theirs.behaviour = behave
    hear(world, a_join().booked())

    assert carry(world) == 1

    [call] = listed(world, hook, "attempts")
    assert (call["status"], call["reason"]) == (status, reason)
    assert call["duration_ms"] >= 490 or reason != "too_slow"
    [delivery] = listed(world, hook, "deliveries")
    assert (delivery["state"], delivery["answer"]) == ("queued", reason or f"answered {status}")


def test_a_success_that_goes_on_for_ever_is_one(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = lambda exchange, _: exchange.flood(b"body")
    hear(world, a_join().booked())

    carry(world)

    [call] = listed(world, hook, "attempts")
    assert (call["status"], call["answer"]) == (200, "x" * 1000)
    assert listed(world, hook, "deliveries")[0]["state"] == "sent"


def test_410_disables_it_for_good(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(410)
    hear(world, *(a_join().booked() for _ in range(3)))

    assert carry(world) == 1

    found = shown(world, hook)
    assert (found["status"], found["disabled_reason"]) == ("disabled", "gone")
    assert {(row["state"], row["attempts"]) for row in listed(world, hook, "deliveries")} == {
        ("failed", 1),
        ("failed", 0),
    }
    told = audited(world)[-1]
    assert (told["action"], told["actor_id"], told["after"]["disabled_reason"]) == (
        "webhook.disabled",
        "hallpass",
        "gone",
    )
    hear(world, a_join().booked())
    assert len(listed(world, hook, "deliveries")) == 3


def test_who_fails_for_three_days_is_disabled_and_can_be_made_active_again(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())
    carry(world)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET failing_since = failing_since - interval '73 hours'"))
    carry(world, clock=later(timedelta(minutes=1)))
    found = shown(world, hook)
    assert (found["status"], found["disabled_reason"], found["failures"]) == ("disabled", "failing", 2)

    theirs.behaviour = lambda exchange, _: exchange.answer(200)
    again = changed(world, hook, status="active")
    hear(world, a_join().booked())

    assert (again["disabled_reason"], again["failures"], again["failing_since"]) == (None, 0, None)
    assert carry(world) == 1


def test_another_address_does_not_answer_for_the_failures_of_the_one_before(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())
    carry(world)
    was = shown(world, hook)

    theirs.behaviour = lambda exchange, _: exchange.answer(200)
    found = changed(world, hook, url=f"{theirs.address}/mended")
    hear(world, a_join().booked())

    assert (was["failures"], found["failures"], found["failing_since"]) == (1, 0, None)
    assert carry(world) == 1  # at once: what is told to it for the first time does not wait for the rest of the other


def test_who_fails_is_left_alone_for_longer_each_time(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, *(a_join().booked() for _ in range(5)))

    assert carry(world) == 1, "one failure keeps the others waiting"
    assert [rest_s(failures) for failures in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]


def test_who_asks_for_time_is_given_some(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = lambda exchange, _: exchange.answer(429, Retry_After="120")
    hear(world, a_join().booked())

    now = utcnow()
    carry(world, clock=lambda: now)

    [delivery] = listed(world, hook, "deliveries")
    assert datetime.fromisoformat(delivery["due_at"]) - now == timedelta(seconds=120)


def test_a_private_address_is_never_called(make_world: Callable[..., World], theirs: Receiver) -> None:
    world = make_world()
    hook = a_hook(world, f"http://localhost:{theirs.port}/")
    hear(world, a_join().booked())

    assert carry(world) == 1

    assert [call["reason"] for call in listed(world, hook, "attempts")] == ["private_address"]
    assert theirs.posted == []


def test_two_that_hang_delay_no_third(make_world: Callable[..., World], theirs: Receiver) -> None:
    world = make_world(**HERE | {"webhook_timeout_s": 60})
    joins = [a_join().booked() for _ in range(20)]
    with (
        receiver(lambda exchange, _: exchange.hang()) as first,
        receiver(lambda exchange, _: exchange.hang()) as second,
    ):
        for address in (first.address, second.address, theirs.address):
            a_hook(world, address)
        sender = carrier(world)
        loops = Loops([sender] * sender.channel.at_once)
        loops.start()
        hear(world, *joins, at_once=20)
        theirs.wait_for(20)

        assert len(first.posted) <= OF_ONE
        assert len(second.posted) <= OF_ONE
        first.over.set()
        second.over.set()
        loops.stop()


def test_one_address_is_called_for_a_few_events_at_a_time(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    hear(world, *(a_join().booked() for _ in range(OF_ONE + 2)))
    sender = carrier(world)

    taken = [sender.take() for _ in range(OF_ONE + 1)]
    assert taken[:OF_ONE] == [one for one in taken if one is not None]
    assert taken[OF_ONE] is None

    for one in taken[:OF_ONE]:
        assert one is not None
        sender.carry(one)
    assert carry(world) == 2


def test_a_slow_address_is_called_for_one_event_at_a_time(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET last_ms = 3000"))
    hear(world, *(a_join().booked() for _ in range(3)))
    sender = carrier(world)

    assert [sender.take() is None for _ in range(2)] == [False, True]


def test_however_many_are_slow_leave_calls_for_the_others(world: World) -> None:
    slow = [a_hook(world, f"{ELSEWHERE}/{index}")["id"] for index in range(OF_UNWELL + 2)]
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET last_ms = 3000"))
    hear(world, *(a_join().booked() for _ in range(3)))
    well = a_hook(world, ELSEWHERE)["id"]
    hear(world, a_join().booked())
    sender = carrier(world)

    called = []
    while (taken := sender.take()) is not None:
        called.append(taken.delivering.announced.webhook_id)

    assert called.count(well) == 1
    assert len(called) == len(set(called)) == OF_UNWELL + 1
    assert set(called) <= {well, *slow}


def test_addresses_take_turns_however_much_waits_for_one(world: World, theirs: Receiver) -> None:
    busy = a_hook(world, theirs.address)["id"]
    hear(world, *(a_join().booked() for _ in range(4)))
    quiet = a_hook(world, theirs.address)["id"]
    hear(world, a_join().booked(), a_join().booked())
    sender = carrier(world)

    called = []
    while (taken := sender.take()) is not None:
        called.append(taken.delivering.announced.webhook_id)
        sender.carry(taken)

    assert called[:4] == [busy, quiet, busy, quiet]
    assert called[4:] == [busy] * 4


def test_a_process_that_dies_while_it_calls_has_the_event_sent_again(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())

    for minutes in (0, 2, 4):
        assert carrier(world, clock=later(timedelta(minutes=minutes))).take() is not None  # and dies with it
    assert carry(world, clock=later(timedelta(minutes=6))) == 1

    [delivery] = listed(world, hook, "deliveries")
    assert (delivery["state"], delivery["attempts"], delivery["possibly_twice"]) == ("sent", 4, True)


def test_calls_are_counted_by_their_results(world: World, theirs: Receiver) -> None:
    def count(result: str) -> float:
        found: float = DELIVERIES.labels("notify", "webhook", result)._value.get()
        return found

    sent, retried = count("sent"), count("retried")
    a_hook(world, theirs.address)
    hear(world, a_join().booked())
    carry(world)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())
    carry(world)

    assert (count("sent") - sent, count("retried") - retried) == (1, 1)


def test_what_is_queued_goes_out_at_once(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    sender = carrier(world, poll_s=60)
    sender.wake_on_commit(world.runtimes["notify"].db)
    loops = Loops([sender])
    loops.start()

    hear(world, a_join().booked())

    eventually(lambda: theirs.posted)
    loops.stop()
