"""What must hold when many people ask at the same moment, through a real server and a real PostgreSQL."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx2
import pytest

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField
from tests.booking.builders import NAME, a_slot, booked, people_booked, stock
from tests.concurrency.controls import without_the_guard
from tests.world import World, simultaneously

Headers = dict[str, str]
BUSY = 503


@pytest.fixture
def http(world: World) -> Iterator[httpx2.Client]:
    """A client of the served product that may hold many connections."""
    with world.serve() as address, _client(address) as client:
        yield client


def _client(address: str) -> httpx2.Client:
    return httpx2.Client(base_url=address, limits=httpx2.Limits(max_connections=None), timeout=60)


def _book(
    http: httpx2.Client, user: Headers, slot_id: str, *, key: str | None = None, **answers: Any
) -> httpx2.Response:
    return http.post(
        "/api/booking/joins",
        headers=user | {"Idempotency-Key": key or new_id()},
        json={"slot_id": slot_id, "attendees": [{"answers": {"name": "张三"} | answers}]},
    )


def _assert_counted(world: World, slot_id: str) -> int:
    found = stock(world, slot_id)
    people = people_booked(world, slot_id)
    assert found["taken"] == people
    assert found["capacity"] is None or found["taken"] <= found["capacity"]
    return people


def test_two_hundred_ask_for_the_last_twenty_places_and_twenty_get_them(world: World, http: httpx2.Client) -> None:
    place = a_slot(world, capacity=20)
    users = [world.user(f"user {number}") for number in range(200)]

    answers = simultaneously([partial(_book, http, user, place.slot_id) for user in users])

    assert Counter(answer.status_code for answer in answers) == {201: 20, 409: 180}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"slot_full"}
    assert _assert_counted(world, place.slot_id) == 20


def _rush_at_two_desks(world: World, places: int) -> tuple[str, int]:
    """Let 200 people ask for the places, half of them at another desk; return the slot and how many were told yes."""
    place = a_slot(world, capacity=places)
    users = [world.user(f"user {number}") for number in range(200)]
    with world.serve() as one, world.serve() as other:
        clients = [_client(one), _client(other)]
        calls: list[Callable[[], httpx2.Response]] = [
            partial(_book, clients[n % 2], user, place.slot_id) for n, user in enumerate(users)
        ]
        answers = simultaneously(calls)
        for client in clients:
            client.close()
    return place.slot_id, sum(answer.status_code == 201 for answer in answers)


def test_two_desks_give_out_the_last_places_once(world: World) -> None:
    slot_id, told_yes = _rush_at_two_desks(world, 20)

    assert told_yes == 20
    assert _assert_counted(world, slot_id) == 20


def test_without_locks_and_guard_the_same_race_oversells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_guard(monkeypatch)

    slot_id, told_yes = _rush_at_two_desks(world, 1)

    assert told_yes == 2
    assert people_booked(world, slot_id) == told_yes
    assert stock(world, slot_id)["taken"] != told_yes


def test_forty_requests_with_one_key_make_one_join(world: World, http: httpx2.Client) -> None:
    place = a_slot(world, capacity=100, max_per_slot=50)
    user = world.user("wang")

    answers = simultaneously([lambda: _book(http, user, place.slot_id, key="one")] * 40)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert _assert_counted(world, place.slot_id) == 1


@pytest.mark.parametrize("rules", [{}, {"max_per_slot": 9, "max_per_day": 3}, {"max_per_slot": 9, "max_ahead": 3}])
def test_one_users_requests_never_pass_the_users_limit(
    world: World, http: httpx2.Client, rules: dict[str, Any]
) -> None:
    place = a_slot(world, **rules)
    slots = [place.slot_id, place.another_slot(date=place.slot.date).slot_id] if rules else [place.slot_id]
    user = world.user("wang")

    answers = simultaneously([partial(_book, http, user, slots[n % len(slots)]) for n in range(30)])

    allowed = 3 if rules else 1
    assert Counter(answer.status_code for answer in answers) == {201: allowed, 409: 30 - allowed}
    assert sum(_assert_counted(world, slot) for slot in slots) == allowed


def test_one_person_is_booked_once_however_many_ask(world: World, http: httpx2.Client) -> None:
    card = FormField(key="id_card", type=FieldType.ID_CARD, label="身份证号", unique="item")
    place = a_slot(world, form=[NAME, card])
    other = place.another_slot()
    users = [world.user(f"user {number}") for number in range(20)]
    slots = [place.slot_id, other.slot_id]

    answers = simultaneously(
        [
            partial(_book, http, user, slots[number % 2], id_card="11010519491231002X")
            for number, user in enumerate(users)
        ]
    )

    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 19}
    assert sum(_assert_counted(world, slot) for slot in slots) == 1


def test_a_join_is_checked_in_once_however_many_scan_it(world: World, http: httpx2.Client) -> None:
    place = a_slot(world, checkin_opens_minutes=60 * 24)
    [join] = booked(world, world.user("wang"), place.slot_id)
    staff = world.staff()
    body = {"code": join["code"], "override": True, "reason": "提前到场"}

    answers = simultaneously([lambda: http.post("/api/booking/staff/check-ins", json=body, headers=staff)] * 20)

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}


def test_a_last_place_given_back_goes_to_one_of_those_who_wait(world: World, http: httpx2.Client) -> None:
    place = a_slot(world, capacity=1)
    owner = world.user("owner")
    [join] = booked(world, owner, place.slot_id)
    users = [world.user(f"user {number}") for number in range(20)]

    answers = simultaneously(
        [lambda: http.post(f"/api/booking/joins/{join['id']}/cancel", headers=owner)]
        + [partial(_book, http, user, place.slot_id) for user in users]
    )

    assert answers[0].status_code == 200
    assert sum(answer.status_code == 201 for answer in answers[1:]) <= 1
    assert _assert_counted(world, place.slot_id) <= 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everything_at_once_keeps_the_count(world: World, http: httpx2.Client, seed: int) -> None:
    """Book, cancel, move, check in, undo, revoke, restore and capacity changes raced against each other."""
    place = a_slot(world, capacity=6, cancel="anytime", max_per_slot=3)
    slots = [place.slot_id, place.another_slot(capacity=6).slot_id, place.another_slot(capacity=3).slot_id]
    users = [world.user(f"user {number}") for number in range(8)]
    staff = world.staff()
    joins = _Known()
    statuses: Counter[int] = Counter()
    stop_at = 60

    def person(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        user = users[number]
        for _ in range(stop_at):
            answer = _do_something(chance, http, user, staff, slots, joins)
            statuses[answer.status_code] += 1

    def operator() -> None:
        chance = random.Random(seed)
        for _ in range(20):
            place.change_slot(capacity=chance.choice([0, 3, 6, 9]))

    threads = [threading.Thread(target=person, args=(number,)) for number in range(len(users))]
    threads.append(threading.Thread(target=operator))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not [status for status in statuses if status >= 500 and status != BUSY], statuses
    assert statuses[BUSY] < 0.1 * statuses.total(), "a machine with much else to do sends people away now and then"
    assert statuses[201] > 10
    for slot_id in slots:
        _assert_counted(world, slot_id)
    page = http.get("/api/booking/staff/joins", params={"limit": 100, "checked_in": True}, headers=staff).json()
    assert all(join["status"] == "booked" for join in page["items"])


class _Known:
    """Joins that anybody in the race has made, for the others to act upon."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._joins: list[tuple[str, Headers]] = []

    def add(self, join_id: str, user: Headers) -> None:
        with self._lock:
            self._joins.append((join_id, user))

    def pick(self, chance: random.Random) -> tuple[str, Headers] | None:
        with self._lock:
            return chance.choice(self._joins) if self._joins else None


def _do_something(
    chance: random.Random, http: httpx2.Client, user: Headers, staff: Headers, slots: list[str], joins: _Known
) -> httpx2.Response:
    known = joins.pick(chance)
    if known is None or chance.random() < 0.35:
        answer = _book(http, user, chance.choice(slots))
        if answer.status_code == 201:
            joins.add(answer.json()["joins"][0]["id"], user)
        return answer
    join_id, owner = known
    reason = {"reason": "设备检修"}
    actions: list[Callable[[], httpx2.Response]] = [
        lambda: http.post(f"/api/booking/joins/{join_id}/cancel", headers=owner),
        lambda: http.post(f"/api/booking/joins/{join_id}/move", json={"slot_id": chance.choice(slots)}, headers=owner),
        lambda: http.post(
            "/api/booking/staff/check-ins",
            json={"join_id": join_id, "override": True, "reason": "提前到场"},
            headers=staff,
        ),
        lambda: http.post("/api/booking/staff/check-ins/undo", json={"join_id": join_id} | reason, headers=staff),
        lambda: http.post(f"/api/booking/staff/joins/{join_id}/revoke", json=reason, headers=staff),
        lambda: http.post(f"/api/booking/staff/joins/{join_id}/restore", headers=staff),
        lambda: http.post(f"/api/booking/staff/slots/{chance.choice(slots)}/revoke", json=reason, headers=staff),
    ]
    weights = [4, 4, 3, 2, 2, 2, 0.3]
    return chance.choices(actions, weights)[0]()
