"""Histories of concurrent joins, cancels, moves and capacity changes are legal, and the checker would notice if not."""

import random
import threading
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import httpx2
import pytest

from libs.common.ids import new_id
from tests.concurrency.controls import without_the_guard
from tests.concurrency.history import Effect, Fault, History, Refusal, Span, State, check, timed
from tests.concurrency.town import Town
from tests.world import World, eventually, simultaneously

# --- the checker itself -----------------------------------------------------------------------------------------------

EMPTY = {"slot": State(version=0, taken=0, capacity=2, asked=2)}


def _step(
    version: int, taken: int, people: int = 1, *, at: tuple[float, float] | None = None, capacity: int | None = 2
) -> Effect:
    """A step that took from `version` to `version + 0.5` unless it says otherwise."""
    start, end = at or (version, version + 0.5)
    return Effect("slot", Span(start, end), version, taken, capacity, people)


def _defined(version: int, taken: int, asked: int | None, capacity: int | None) -> Effect:
    return Effect("slot", Span(version, version + 0.5), version, taken, capacity, defined=True, asked=asked)


def _refused(start: float, end: float, people: int = 1) -> Refusal:
    return Refusal("slot", Span(start, end), people)


def _kinds(faults: list[Fault]) -> list[str]:
    return [fault.kind for fault in faults]


def test_a_legal_history_has_no_fault() -> None:
    history = [
        _step(1, 1),
        _step(2, 2),
        _defined(3, 2, asked=1, capacity=2),
        _step(4, 1, -1, capacity=1),
        _defined(5, 1, asked=None, capacity=None),
        _step(6, 4, 3, capacity=None),
    ]

    assert check(EMPTY, history, [_refused(2.6, 2.7), _refused(1.2, 1.4, people=2), _refused(4.6, 4.9)]) == []


def test_the_order_in_which_steps_overlap_is_free() -> None:
    assert check(EMPTY, [_step(1, 1, at=(5, 9)), _step(2, 2, at=(4, 6))]) == []


def test_an_oversell_is_found() -> None:
    history = [_step(1, 1), _step(2, 2), _step(3, 3)]

    assert _kinds(check(EMPTY, history)) == ["oversell"]


def test_a_party_too_large_for_what_is_left_is_an_oversell() -> None:
    history = [_step(1, 1), _step(2, 3, 2)]

    assert _kinds(check(EMPTY, history)) == ["oversell"]


def test_an_oversell_into_a_lowered_capacity_is_found() -> None:
    history = [_step(1, 1), _defined(2, 1, asked=0, capacity=1), _step(3, 2, capacity=2)]

    assert _kinds(check(EMPTY, history)) == ["oversell", "wrong step"]


def test_a_lost_update_is_found() -> None:
    history = [_step(1, 1), _step(2, 1)]

    assert _kinds(check(EMPTY, history)) == ["wrong step"]


def test_a_cancellation_that_frees_nothing_is_found() -> None:
    history = [_step(1, 1), _step(2, 1, -1)]

    assert _kinds(check(EMPTY, history)) == ["wrong step"]


def test_a_capacity_that_stays_above_what_was_asked_is_found() -> None:
    history = [_step(1, 1), _step(2, 2), _defined(3, 2, asked=1, capacity=2), _step(4, 1, -1, capacity=2)]

    assert _kinds(check(EMPTY, history)) == ["wrong step"]


def test_one_version_for_two_effects_is_found() -> None:
    history = [_step(1, 1), _step(1, 2)]

    assert _kinds(check(EMPTY, history)) == ["duplicate version"]


def test_a_version_that_the_slot_had_before_is_found() -> None:
    assert _kinds(check({"slot": State(7, 0, 2, 2)}, [_step(7, 1)])) == ["duplicate version"]


def test_a_line_against_real_time_is_found() -> None:
    history = [_step(1, 1, at=(5, 6)), _step(2, 2, at=(3, 4))]

    assert _kinds(check(EMPTY, history)) == ["against real time"]


def test_a_line_against_real_time_is_found_over_a_distance() -> None:
    more = {"slot": State(0, 0, 9, 9)}
    history = [
        _step(1, 1, at=(8, 9), capacity=9),
        _step(2, 2, at=(1, 9), capacity=9),
        _step(3, 3, at=(2, 3), capacity=9),
        _step(4, 4, at=(1, 9), capacity=9),
    ]

    assert _kinds(check(more, history)) == ["against real time"]


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(_refused(0.1, 0.2), id="before it was full"),
        pytest.param(_refused(5.0, 6.0), id="long after it was full"),
        pytest.param(_refused(1.6, 1.9), id="while one place was left"),
    ],
)
def test_an_untrue_refusal_is_found(refusal: Refusal) -> None:
    history = [_step(1, 1), _step(2, 2), _step(3, 1, -1)]

    assert _kinds(check(EMPTY, history, [refusal])) == ["untrue refusal"]


def test_a_refusal_for_a_party_is_true_while_a_single_person_would_find_room() -> None:
    assert check(EMPTY, [_step(1, 1)], [_refused(2, 3, people=2)]) == []


def test_a_refusal_may_rest_on_a_count_that_is_a_moment_old() -> None:
    history = [_step(1, 1), _step(2, 2), _step(3, 1, -1)]

    assert check(EMPTY, history, [_refused(3.7, 3.9)]) == []


def test_a_success_that_booking_has_not_recorded_is_found() -> None:
    history = History()
    history.told("join.booked", "a join", span=Span(1, 2))

    with pytest.raises(AssertionError, match="told, but recorded nowhere"):
        history.effects([])


def test_an_event_that_nobody_was_told_about_is_found() -> None:
    slot = {"slot_id": "slot", "version": 1, "taken": 1, "capacity": 2}
    event = {"join_id": "a join", "version": 1, "slot": slot, "people": 1, "action_id": "an action"}

    with pytest.raises(AssertionError, match="nobody was told"):
        History().effects([("join.booked", event)])


# --- the product ------------------------------------------------------------------------------------------------------

CLIENTS = 40
REQUESTS = 25


@dataclass
class Mine:
    """A place that a client holds."""

    join_id: str
    slot_id: str


class Client:
    """One user who joins, cancels and moves at random and tells the history of it."""

    def __init__(self, address: str, user: dict[str, str], slots: list[str], history: History, seed: int) -> None:
        self._http = httpx2.Client(base_url=address, headers=user, timeout=60, trust_env=False)
        self._slots = slots
        self._history = history
        self._chance = random.Random(seed)
        self._mine: list[Mine] = []
        self.failures: list[str] = []

    def run(self) -> None:
        with self._http:
            for _ in range(REQUESTS):
                self._do_something()

    def _do_something(self) -> None:
        if not self._mine or (len(self._mine) < 4 and self._chance.random() < 0.4):
            self._join()
        elif self._chance.random() < 0.5:
            self._cancel()
        else:
            self._move()

    def _join(self) -> None:
        slot_id, people = self._chance.choice(self._slots), self._chance.choice([1, 1, 1, 2])
        body = {"slot_id": slot_id, "attendees": [{"answers": {"name": "张三"}}] * people}
        answer, span = self._ask("/api/booking/joins", body, {"Idempotency-Key": new_id()})
        if answer.status_code == 201:
            joins = [join["id"] for join in answer.json()["joins"]]
            self._mine += [Mine(join_id, slot_id) for join_id in joins]
            self._history.told("join.booked", *joins, span=span)
        else:
            self._refused(answer, span, slot_id, people)

    def _cancel(self) -> None:
        mine = self._mine.pop(self._chance.randrange(len(self._mine)))
        answer, span = self._ask(f"/api/booking/joins/{mine.join_id}/cancel")
        if answer.status_code == 200:
            self._history.told("join.cancelled", mine.join_id, span=span)
        else:
            self.failures.append(answer.text)

    def _move(self) -> None:
        mine = self._chance.choice(self._mine)
        slot_id = self._chance.choice([slot for slot in self._slots if slot != mine.slot_id])
        answer, span = self._ask(f"/api/booking/joins/{mine.join_id}/move", {"slot_id": slot_id})
        if answer.status_code == 200:
            mine.slot_id = slot_id
            self._history.told("join.moved", mine.join_id, span=span)
        else:
            self._refused(answer, span, slot_id, 1)

    def _ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[httpx2.Response, Span]:
        return timed(lambda: self._http.post(path, json=body, headers=headers))

    def _refused(self, answer: httpx2.Response, span: Span, slot_id: str, people: int) -> None:
        if answer.status_code == 409 and answer.json()["code"] == "slot_full":
            self._history.refused(slot_id, people, span)
        else:
            self.failures.append(answer.text)


def _play(town: Town, *, seed: int) -> list[Client]:
    """Let everybody do what they want at once; return them when all are done."""
    users = [town.world.user(f"user {number}") for number in range(CLIENTS)]
    stopping = threading.Event()

    def operator() -> None:
        chance = random.Random(seed)
        while not stopping.wait(0.05):
            slot_id = chance.choice(town.slots)
            unlimited = [None] if slot_id == town.slots[0] else []  # there is always a slot that can be full
            town.change(slot_id, chance.choice([0, 3, 6, 9, 12, *unlimited]))

    with town.world.serve() as one, town.world.serve() as other:
        clients = [
            Client((one, other)[number % 2], user, town.slots, town.history, seed * 1000 + number)
            for number, user in enumerate(users)
        ]
        threads = [threading.Thread(target=client.run) for client in clients]
        changing = threading.Thread(target=operator)
        for thread in (changing, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        stopping.set()
        changing.join()
    return clients


@pytest.mark.parametrize("seed", [1, 2])
def test_what_concurrent_clients_are_told_is_one_legal_line(world: World, seed: int) -> None:
    town = Town(world, 12, 6, 9)

    clients = _play(town, seed=seed)

    assert [failure for client in clients for failure in client.failures] == []
    assert town.faults() == []
    eventually(town.counters_are_silent_or_right)
    kinds = {kind for kind, _ in town.events()}
    assert kinds == {"join.booked", "join.cancelled", "join.moved"}
    assert len(town.history.refusals) > 20


def test_without_the_guard_the_checker_finds_lost_updates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_guard(monkeypatch)
    town = Town(world, 12)
    users = [world.user(f"user {number}") for number in range(60)]

    with world.serve() as one, world.serve() as other:
        desks = cycle([one, other])
        simultaneously([partial(town.join, next(desks), user) for user in users])

    assert {"duplicate version", "wrong step"} <= set(_kinds(town.faults()))
