"""Live stats: a screen sees the slots of its hall as they change, for as long as it may."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from queue import Empty, Queue
from typing import Any

import httpx2
import pytest
import time_machine

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.admin import StaffSignedOut
from libs.contracts.principals import STAFF_TOKEN_LIFETIME, Role, Staff, issue_staff_token
from services.notify.live import OF_ONE_ACCOUNT, Live
from tests.notify.builders import MORNING, Slot, a_join, a_slot, deliver, hear, message
from tests.world import World, bearer, eventually, simultaneously

QUICK: dict[str, Any] = {"live_poll_ms": 20, "live_heartbeat_s": 0.2}
PATIENCE_S = 60
BURST = 40


class Screen:
    """A listener on a thread of its own; `next` waits for the next event, `beat` for the next sign of life."""

    def __init__(self, address: str, headers: dict[str, str], **query: Any) -> None:
        self._heard: Queue[tuple[str, dict[str, Any], str]] = Queue()
        self._beats: Queue[float] = Queue()
        self._http = httpx2.Client(base_url=address, timeout=PATIENCE_S, trust_env=False)
        self._request = self._http.build_request("GET", "/api/notify/staff/live", params=query, headers=headers)
        self.answer = self._http.send(self._request, stream=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        found: dict[str, str] = {}
        try:
            for line in self.answer.iter_lines():
                if line == ":":
                    self._beats.put(time.monotonic())
                elif line:
                    name, _, value = line.partition(": ")
                    found[name] = value
                elif "event" in found:
                    self._heard.put((found["event"], json.loads(found["data"]), found.get("id", "")))
                    found = {}
        except (httpx2.TransportError, httpx2.StreamError):
            return  # the test has hung up

    def next(self) -> tuple[str, dict[str, Any], str]:
        return self._heard.get(timeout=PATIENCE_S)

    def beat(self) -> float:
        return self._beats.get(timeout=PATIENCE_S)

    def hears_nothing(self) -> bool:
        """Tell whether two signs of life come with no event between."""
        self.beat()
        self.beat()
        try:
            self._heard.get_nowait()
        except Empty:
            return True
        return False

    def hang_up(self) -> None:
        self.answer.close()
        self._http.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(**QUICK)


def screen(address: str, headers: dict[str, str], slot: Slot) -> AbstractContextManager[Screen]:
    """Show the day of a slot at its hall."""
    day = (slot.starts_at + timedelta(hours=8)).date().isoformat()
    return around(address, headers, hall_id=slot.hall_id, day=day)


@contextmanager
def around(address: str, headers: dict[str, str], **query: Any) -> Iterator[Screen]:
    listening = Screen(address, headers, **query)
    try:
        yield listening
    finally:
        listening.hang_up()


def a_slot_known_to(world: World) -> Slot:
    """Return a slot of a hall that notify has heard of, which nobody has joined yet."""
    slot = a_slot()
    hear(world, slot.hall())
    return slot


def listeners(world: World) -> int:
    live: Live = world.runtimes["notify"].resources.live
    return len(live._listeners)


def test_a_screen_sees_what_is_there_and_then_what_changes(world: World) -> None:
    slot, other = a_slot(capacity=5), a_slot()
    first = a_join(slot)
    hear(world, first.booked(), a_join(other).booked())
    with world.serve() as address, screen(address, world.staff(), slot) as listening:
        name, shown, _ = listening.next()
        hear(world, a_join(other).booked(), first.checked_in())
        changed = listening.next()

    assert (listening.answer.status_code, name) == (200, "snapshot")
    assert listening.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert listening.answer.headers["x-accel-buffering"] == "no"
    [line] = shown["slots"]
    assert (line["slot_id"], line["booked"], line["checked_in"], line["capacity"]) == (slot.id, 1, 0, 5)
    assert changed[0] == "changes"
    assert [(line["slot_id"], line["checked_in"]) for line in changed[1]["slots"]] == [(slot.id, 1)]


def test_a_screen_hears_of_what_another_process_consumes(make_world: Callable[..., World], world: World) -> None:
    slot = a_slot_known_to(world)
    superuser_url, database, redis_url, _ = world._made_of
    elsewhere = World(superuser_url, database, redis_url, **QUICK)
    try:
        with elsewhere.serve() as address, screen(address, elsewhere.staff(), slot) as listening:
            snapshot = listening.next()
            for _ in range(20):
                hear(world, a_join(slot).booked())
            booked = 0
            while booked < 20:
                booked = listening.next()[1]["slots"][0]["booked"]
    finally:
        elsewhere.close()

    assert snapshot[:2] == ("snapshot", {"slots": []})
    assert booked == 20


def test_what_a_slow_transaction_changed_is_not_passed_over(world: World) -> None:
    slow, quick = a_slot(), a_slot()
    quick.hall_id = slow.hall_id
    hear(world, a_join(slow).booked(), a_join(quick).booked())
    runtime = world.runtimes["notify"]
    with world.serve() as address, screen(address, world.staff(), slow) as listening:
        listening.next()
        with runtime.db.transaction() as session:
            runtime.service.consumers[0].handle(session, [message(a_join(slow).booked())])  # the lower number
            hear(world, a_join(quick).booked())
            before = listening.next()[1]["slots"]
        after = listening.next()[1]["slots"]

    assert [line["slot_id"] for line in before] == [quick.id]
    assert [line["slot_id"] for line in after] == [slow.id]


def test_who_comes_again_hears_what_has_changed_since(world: World) -> None:
    slot, still = a_slot(), a_slot()
    still.hall_id = slot.hall_id
    hear(world, a_join(slot).booked(), a_join(still).booked())
    with world.serve() as address:
        with screen(address, world.staff(), slot) as listening:
            last_id = listening.next()[2]
        hear(world, a_join(slot).booked())
        with screen(address, world.staff() | {"Last-Event-ID": last_id}, slot) as again:
            resumed = again.next()
        of_another_database = f"{10**17}.{last_id.partition('.')[2]}"
        with screen(address, world.staff() | {"Last-Event-ID": of_another_database}, slot) as lost:
            afresh = lost.next()

    assert resumed[0] == "changes"
    assert [(line["slot_id"], line["booked"]) for line in resumed[1]["slots"]] == [(slot.id, 2)]
    assert (afresh[0], len(afresh[1]["slots"])) == ("snapshot", 2)


def test_who_comes_again_after_midnight_is_shown_the_day_that_has_come_into_view(world: World) -> None:
    before_midnight = datetime(2027, 3, 9, 23, 59, 50, tzinfo=UTC)
    today = a_slot(starts_at=datetime(2027, 3, 10, 3, tzinfo=UTC))
    tomorrow = a_slot(starts_at=datetime(2027, 3, 11, 3, tzinfo=UTC), hall_id=today.hall_id)
    where = {"hall_id": today.hall_id}
    hear(world, a_join(today).booked(), a_join(tomorrow).booked())
    with world.serve() as address:
        with time_machine.travel(before_midnight, tick=False), around(address, world.staff(), **where) as listening:
            _, shown, last_id = listening.next()
        with (
            time_machine.travel(before_midnight + timedelta(seconds=12), tick=False),
            around(address, world.staff() | {"Last-Event-ID": last_id}, **where) as again,
        ):
            name, shown_again, _ = again.next()

    assert [line["slot_id"] for line in shown["slots"]] == [today.id]
    assert (name, [line["slot_id"] for line in shown_again["slots"]]) == ("snapshot", [today.id, tomorrow.id])


def test_the_id_of_another_hall_or_day_is_good_for_neither(world: World) -> None:
    slot, later, elsewhere = a_slot(), a_slot(starts_at=MORNING + timedelta(days=1)), a_slot()
    later.hall_id = slot.hall_id
    hear(world, *(a_join(each).booked() for each in (slot, later, elsewhere)))
    with world.serve() as address:
        with screen(address, world.staff(), slot) as listening:
            staff = world.staff() | {"Last-Event-ID": listening.next()[2]}
        with screen(address, staff, later) as another_day, screen(address, staff, elsewhere) as another_hall:
            found = [another_day.next(), another_hall.next()]

    assert [(name, len(data["slots"])) for name, data, _ in found] == [("snapshot", 1), ("snapshot", 1)]


@pytest.mark.parametrize("last_id", ["7", "x", "9" * 40, "1.2.3", "-1", "."])
def test_an_odd_id_is_as_good_as_none(world: World, last_id: str) -> None:
    slot = a_slot_known_to(world)
    with world.serve() as address, screen(address, world.staff() | {"Last-Event-ID": last_id}, slot) as listening:
        assert listening.next()[:2] == ("snapshot", {"slots": []})


def test_signs_of_life_come_while_nothing_changes(world: World) -> None:
    slot = a_slot_known_to(world)
    with world.serve() as address, screen(address, world.staff(), slot) as listening:
        listening.next()

        assert listening.hears_nothing()


def test_a_screen_that_hangs_up_leaves_nothing(world: World) -> None:
    slot = a_slot_known_to(world)
    live: Live = world.runtimes["notify"].resources.live
    with world.serve() as address:
        with screen(address, world.staff(), slot) as listening:
            listening.next()
            assert listeners(world) == 1

        eventually(lambda: listeners(world) == 0 and live._looking is not None and live._looking.done())
        assert world.runtimes["notify"].db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a QueuePool


def staff_of(slot: Slot) -> Staff:
    halls = frozenset([slot.hall_id])
    return Staff(id=new_id(), name="door", role=Role.VERIFIER, halls=halls, session_id=new_id())


def test_a_stream_ends_with_the_token(world: World) -> None:
    slot = a_slot_known_to(world)
    token = issue_staff_token(world.runtimes["admin"].staff_keys, staff_of(slot), now=utcnow())
    with world.serve() as address, screen(address, bearer(token), slot) as listening:
        listening.next()

        with time_machine.travel(utcnow() + STAFF_TOKEN_LIFETIME, tick=True):
            assert listening.next()[:2] == ("end", {"reason": "time_up"})


def test_a_stream_ends_with_the_sign_in(world: World) -> None:
    slot = a_slot_known_to(world)
    staff = staff_of(slot)
    keys = world.runtimes["admin"].staff_keys
    old, new = (bearer(issue_staff_token(keys, replace(staff, version=version), now=utcnow())) for version in (1, 2))
    with world.serve() as address, screen(address, old, slot) as ended, screen(address, new, slot) as going_on:
        ended.next()
        going_on.next()
        deliver(world, message(StaffSignedOut(version=2, staff_id=staff.id)))

        assert ended.next()[:2] == ("end", {"reason": "signed_out"})
        assert going_on.hears_nothing()


def test_a_screen_of_another_hall_or_of_none_is_shown_nothing(world: World) -> None:
    slot = a_slot_known_to(world)
    foreign = world.staff(Role.VERIFIER, [a_slot().hall_id])
    with (
        world.serve() as address,
        screen(address, foreign, slot) as of_another,
        screen(address, world.staff(), a_slot()) as of_none,
    ):
        assert (of_another.answer.status_code, of_none.answer.status_code) == (404, 404)


def test_no_account_holds_all_streams_of_a_process(world: World) -> None:
    slot, greedy = a_slot_known_to(world), world.staff()
    with world.serve() as address, ExitStack() as open_streams:
        for _ in range(OF_ONE_ACCOUNT):
            open_streams.enter_context(screen(address, greedy, slot)).next()
        with screen(address, greedy, slot) as one_more:
            refused = one_more.answer.status_code
        with screen(address, world.staff(), slot) as other:
            assert (refused, other.answer.status_code) == (503, 200)


def test_nor_by_asking_for_them_all_at_once(world: World) -> None:
    slot, greedy = a_slot_known_to(world), world.staff()
    with world.serve() as address, ExitStack() as clients:

        def ask() -> httpx2.Response:
            http = clients.enter_context(httpx2.Client(base_url=address, timeout=PATIENCE_S, trust_env=False))
            params = {"hall_id": slot.hall_id}
            wanted = http.build_request("GET", "/api/notify/staff/live", params=params, headers=greedy)
            return http.send(wanted, stream=True)

        answers = simultaneously([ask] * BURST)
        for answer in answers:
            answer.close()

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: OF_ONE_ACCOUNT, 503: BURST - OF_ONE_ACCOUNT}


def test_a_process_holds_so_many_streams_and_no_more(make_world: Callable[..., World]) -> None:
    world = make_world(**QUICK | {"live_listeners": 1})
    slot = a_slot_known_to(world)
    with world.serve() as address, screen(address, world.staff(), slot) as first:
        first.next()
        with screen(address, world.staff(), slot) as second:
            refused = second.answer.status_code
    with world.serve() as address, screen(address, world.staff(), slot) as third:
        again = third.answer.status_code

    assert (refused, again) == (503, 200)
