"""What must hold of the line before a full slot when many things happen to it at the same moment."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import httpx2
import pytest
from sqlalchemy.exc import DBAPIError

from libs.common.clock import utcnow
from libs.common.ids import new_id
from services.booking import lines, new_waits
from services.booking.lines import Step
from tests.booking.builders import Headers, Place, people_booked, stock
from tests.booking.waiting import a_full_slot, endings, my_wait, served, waiting
from tests.concurrency.controls import without_looking_again, without_the_line
from tests.world import World, simultaneously

ROUNDS = 2


@pytest.fixture
def http(world: World) -> Iterator[httpx2.Client]:
    limits = httpx2.Limits(max_connections=None)
    with world.serve() as address, httpx2.Client(base_url=address, limits=limits, timeout=60) as client:
        yield client


def _book(http: httpx2.Client, user: Headers, slot_id: str) -> httpx2.Response:
    body = {"slot_id": slot_id, "attendees": [{"answers": {"name": "张三"}}]}
    return http.post("/api/booking/joins", headers=user | {"Idempotency-Key": new_id()}, json=body)


def _cancel(http: httpx2.Client, user: Headers, join_id: str) -> httpx2.Response:
    return http.post(f"/api/booking/joins/{join_id}/cancel", headers=user)


def _accept(http: httpx2.Client, user: Headers, wait_id: str) -> httpx2.Response:
    return http.post(f"/api/booking/waits/{wait_id}/accept", headers=user)


def _leave(http: httpx2.Client, user: Headers, wait_id: str) -> httpx2.Response:
    return http.post(f"/api/booking/waits/{wait_id}/leave", headers=user)


def _assert_counted(world: World, slot_id: str) -> dict[str, Any]:
    """Every number of the slot is what its joins and its line say, and no more is promised than there is."""
    found = stock(world, slot_id)
    line = world.client.get(
        f"/api/booking/staff/slots/{slot_id}/waits", headers=world.staff(), params={"limit": 100}
    ).json()["items"]
    assert found["taken"] == people_booked(world, slot_id)
    assert found["held"] == sum(wait["people"] for wait in line if wait["offered_until"])
    assert found["waiting"] == sum(wait["people"] for wait in line if not wait["offered_until"])
    assert found["taken"] + found["held"] <= found["capacity"]
    assert all(len(ended) == 1 for ended in endings(world).values()), "a wait ended twice"
    return found


def _line(world: World, place: Place, count: int) -> list[tuple[Headers, str]]:
    users = [world.user(f"{new_id()}") for _ in range(count)]
    return [(user, waiting(world, user, place.slot_id)["id"]) for user in users]


# --- newcomers and the line ---


def _newcomers_rush_as_places_are_freed(world: World, http: httpx2.Client) -> tuple[Place, list[Any], list[Any]]:
    """Cancel both places of a slot at once, while 30 newcomers ask for them; return who waited and what was answered."""
    place, owner, joins = a_full_slot(world, people=2)
    line = _line(world, place, 2)
    newcomers = [world.user(new_id()) for _ in range(30)]
    asked: list[Callable[[], httpx2.Response]] = [partial(_book, http, user, place.slot_id) for user in newcomers]
    freed: list[Callable[[], httpx2.Response]] = [partial(_cancel, http, owner, join["id"]) for join in joins]

    answers = simultaneously([*asked[:15], *freed, *asked[15:]])

    assert [answer.status_code for answer in answers[15:17]] == [200, 200]
    return place, line, answers[:15] + answers[17:]


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_places_freed_at_once_go_to_the_line_and_to_no_quicker_newcomer(
    world: World, http: httpx2.Client, attempt: int
) -> None:
    place, line, answers = _newcomers_rush_as_places_are_freed(world, http)
    answers += _more_newcomers(world, http, place)
    served(world)

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "slot_full")}
    assert [my_wait(world, user, wait_id)["outcome"] for user, wait_id in line] == ["booked", "booked"]
    assert _assert_counted(world, place.slot_id)["taken"] == 2


def test_without_the_rule_that_free_places_are_the_lines_newcomers_take_them(
    world: World, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_line(monkeypatch)
    monkeypatch.setattr(lines, "serve", lambda *_, **__: 0)  # late, as after a crash

    place, _, answers = _newcomers_rush_as_places_are_freed(world, http)
    answers += _more_newcomers(world, http, place)

    assert sum(answer.status_code == 201 for answer in answers) == 2


def _more_newcomers(world: World, http: httpx2.Client, place: Place) -> list[httpx2.Response]:
    return [_book(http, world.user(new_id()), place.slot_id) for _ in range(2)]


# --- an offer has one end ---


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_accepting_leaving_and_expiring_at_once_is_one_end(world: World, http: httpx2.Client, attempt: int) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    [(user, wait_id), (next_one, next_wait)] = _line(world, place, 2)
    _cancel(http, owner, join["id"])
    served(world)
    _make_it_due(world, wait_id)

    calls: list[Callable[[], httpx2.Response]] = [partial(_accept, http, user, wait_id)] * 4
    calls += [partial(_leave, http, user, wait_id)] * 4
    calls += [partial(_expire, world, http)] * 2
    answers = simultaneously(calls)
    served(world)

    assert not [answer for answer in answers if answer.status_code >= 500]
    ended = my_wait(world, user, wait_id)["outcome"]
    assert ended in ("left", "expired")  # it is too late to accept
    assert {answer.status_code for answer in answers[:4]} == {409}
    assert _assert_counted(world, place.slot_id) | {"taken": 0, "held": 1} == stock(world, place.slot_id)
    assert my_wait(world, next_one, next_wait)["offered_until"] is not None


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_one_offer_makes_one_party_or_goes_on(world: World, http: httpx2.Client, attempt: int) -> None:
    place, owner, [join] = a_full_slot(world, waitlist="offer")
    [(user, wait_id), (next_one, next_wait)] = _line(world, place, 2)
    _cancel(http, owner, join["id"])
    served(world)

    calls: list[Callable[[], httpx2.Response]] = [partial(_accept, http, user, wait_id)] * 6
    calls += [partial(_leave, http, user, wait_id)]
    calls += [partial(_book, http, world.user(new_id()), place.slot_id) for _ in range(6)]
    answers = simultaneously(calls)
    served(world)

    parties = {answer.json()["party_id"] for answer in answers[:6] if answer.status_code == 200}
    has_left = answers[6].status_code == 200
    assert len(parties) == (0 if has_left else 1)
    assert {answer.status_code for answer in answers[7:]} == {409}
    assert _assert_counted(world, place.slot_id)["taken"] == len(parties)
    assert (my_wait(world, next_one, next_wait)["offered_until"] is not None) == has_left


def _make_it_due(world: World, wait_id: str) -> None:
    """Let the offer's time be over by now."""
    with world.runtimes["booking"].db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE waits SET offered_until = now() WHERE id = %s", (wait_id,))


def _expire(world: World, http: httpx2.Client) -> httpx2.Response:
    served(world)
    return http.get("/livez")


# --- a crowd that wants to wait ---


def _ask_to_wait(http: httpx2.Client, user: Headers, slot_id: str) -> httpx2.Response:
    body = {"attendees": [{"answers": {"name": "张三"}}]}
    return http.post(f"/api/booking/slots/{slot_id}/wait", headers=user | {"Idempotency-Key": new_id()}, json=body)


@contextmanager
def _locked(world: World, slot_id: str) -> Iterator[None]:
    """Hold the lock of a slot's row, as somebody who is busy with it."""
    with world.runtimes["booking"].db.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1 FROM slots WHERE id = %s FOR NO KEY UPDATE", (slot_id,))
        yield


def test_who_is_not_let_into_a_line_waits_for_nobody_who_is_busy_with_it(world: World, http: httpx2.Client) -> None:
    place, _, _ = a_full_slot(world, max_waiting=1)
    [(in_line, _)] = _line(world, place, 1)
    newcomer = world.user("newcomer")

    with _locked(world, place.slot_id):
        assert _ask_to_wait(http, newcomer, place.slot_id).json()["code"] == "line_full"
        assert _ask_to_wait(http, in_line, place.slot_id).json()["code"] == "waiting_already"


def test_a_crowd_that_wants_to_wait_leaves_connections_for_others(
    world: World, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_waits, "PATIENCE_S", 0.5)  # as it is outside of tests
    place, owner, _ = a_full_slot(world)
    pool = world.runtimes["booking"].settings.database_pool_size
    turns = pool // 4
    crowd = [world.user(new_id()) for _ in range(pool + 4)]

    with ThreadPoolExecutor(len(crowd)) as threads:
        with _locked(world, place.slot_id):
            asked = [threads.submit(_ask_to_wait, http, user, place.slot_id) for user in crowd]
            turned_away = list(islice(as_completed(asked), len(crowd) - turns))
            assert {answer.result().json()["code"] for answer in turned_away} == {"unavailable"}
            assert http.get("/api/booking/joins", headers=owner).status_code == 200
        let_in = [answer.result() for answer in asked if answer not in turned_away]

    assert [answer.status_code for answer in let_in] == [201] * turns
    assert _assert_counted(world, place.slot_id)["waiting"] == turns


# --- everything at once ---


@pytest.mark.parametrize("waitlist", ["take", "offer"])
def test_whatever_frees_places_and_whoever_serves_the_line_keeps_its_order(
    world: World, http: httpx2.Client, waitlist: str
) -> None:
    """Cancellations, revocations and a larger capacity at once, with several workers at the line."""
    place, owner, joins = a_full_slot(world, people=6, waitlist=waitlist)
    line = _line(world, place, 12)
    staff = world.staff()
    reason = {"reason": "设备检修"}

    def grow() -> httpx2.Response:
        place.change_slot(capacity=8)
        return http.get("/livez")

    calls: list[Callable[[], httpx2.Response]] = [partial(_cancel, http, owner, join["id"]) for join in joins[:3]]
    calls += [
        partial(http.post, f"/api/booking/staff/joins/{join['id']}/revoke", json=reason, headers=staff)
        for join in joins[3:5]
    ]
    calls += [grow, *[partial(_expire, world, http)] * 2]
    calls += [partial(_leave, http, *line[-1]), partial(_leave, http, *line[0])]
    calls += [partial(_book, http, world.user(new_id()), place.slot_id) for _ in range(6)]
    answers = simultaneously(calls)
    served(world)

    assert not [answer for answer in answers if answer.status_code >= 500]
    assert {answer.status_code for answer in answers[-6:]} == {409}
    found = _assert_counted(world, place.slot_id)
    assert found["taken"] + found["held"] == 8, "nothing stays free while somebody waits"
    waits_now = [my_wait(world, user, wait_id) for user, wait_id in line]
    served_ones = [wait["outcome"] == "booked" or wait["offered_until"] is not None for wait in waits_now]
    in_line = [wait["place"] is not None for wait in waits_now]
    first_in_line = in_line.index(True)
    assert not any(served_ones[first_in_line:]), "somebody was passed over"


def test_any_number_of_servers_give_a_place_once(world: World, http: httpx2.Client) -> None:
    place, owner, joins = a_full_slot(world, people=3)
    line = _line(world, place, 6)
    for join in joins:
        _cancel(http, owner, join["id"])

    simultaneously([partial(_expire, world, http)] * 6)

    outcomes = Counter(my_wait(world, user, wait_id)["outcome"] for user, wait_id in line)
    assert outcomes == {"booked": 3, None: 3}
    assert [my_wait(world, user, wait_id)["outcome"] for user, wait_id in line[:3]] == ["booked"] * 3
    assert _assert_counted(world, place.slot_id)["taken"] == 3


def _serve_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Place, list[DBAPIError]]:
    """Free two places of a line of two, and let two servers look at it before either does anything, then each take its step.

    Returns what PostgreSQL refused, too.
    """
    place, owner, joins = a_full_slot(world, people=2)
    _line(world, place, 2)
    booking = world.runtimes["booking"]
    monkeypatch.setattr(booking.resources.steward, "serve", lambda slot_id: None)
    for join in joins:
        _cancel(world.client, owner, join["id"])
    both_have_looked, both_have_acted = threading.Barrier(2), threading.Barrier(2)
    look, act = lines._next, lines._step
    firsts = threading.local()

    def look_together(*args: Any) -> Step | None:
        step = look(*args)
        if not hasattr(firsts, "look"):
            firsts.look = True
            both_have_looked.wait(60)
        return step

    def act_together(*args: Any, **words: Any) -> int | None:
        try:
            return act(*args, **words)
        finally:
            if not hasattr(firsts, "act"):
                firsts.act = True
                both_have_acted.wait(60)

    monkeypatch.setattr(lines, "_next", look_together)
    monkeypatch.setattr(lines, "_step", act_together)
    errors: list[DBAPIError] = []

    def serve() -> None:
        try:
            lines.serve(booking, place.slot_id, now=utcnow())
        except DBAPIError as error:
            errors.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    return place, errors


def test_two_servers_that_see_the_same_line_serve_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    place, errors = _serve_at_once(world, monkeypatch)

    assert not errors
    assert _assert_counted(world, place.slot_id)["taken"] == 2


def test_without_looking_again_under_the_lock_they_count_it_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_looking_again(monkeypatch)

    place, _ = _serve_at_once(world, monkeypatch)

    with pytest.raises(AssertionError):
        _assert_counted(world, place.slot_id)
