"""Requests that are settled in one transaction: each has the answer that it would have had alone."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.crypto import Sealer, SealError
from libs.common.errors import HallpassError
from libs.common.ids import new_id
from services.booking import counter_scripts as scripts
from services.booking import ledger, settle
from services.booking.asks import Ask, Booking, Cancelling, Moving
from services.booking.counters import Counters
from services.booking.counts import Ask as Asked
from tests.booking.at_the_counter import ask, redis_of, stranger
from tests.booking.builders import Place, a_slot, booked, people_booked, stock
from tests.world import World, eventually


def settled(world: World, *asks: Ask, again: Sequence[Ask] = ()) -> list[Any]:
    """Settle all of them as one group, and then those of `again`; return the last group's answers, in order."""
    runtime = world.runtimes["booking"]

    async def story() -> list[Any]:
        counter = runtime.resources.desk.here()
        try:
            results = await counter.settle([(asked, None) for asked in asks])
            return list(await counter.settle([(asked, None) for asked in again])) if again else results
        finally:
            await counter.close()

    return asyncio.run(story())


def codes(results: list[Any]) -> list[str]:
    return [result.code if isinstance(result, HallpassError) else "yes" for result in results]


@pytest.fixture
def user_id(world: World) -> Callable[[str], str]:
    def found(name: str) -> str:
        answer = world.client.get("/api/booking/me", headers=world.user(name))
        user: str = answer.json()["id"]
        return user

    return found


def _lost_key(self: Sealer, sealed: bytes, *, about: str) -> bytes:
    raise SealError("no key")


def booking(user_id: str, place: Place, *, people: int = 1, key: str = "", **answers: Any) -> Booking:
    attendees = [{"name": "张三"} | answers for _ in range(people)]
    return Booking(user_id=user_id, key=key or new_id(), slot_id=place.slot_id, attendees=attendees, now=utcnow())


def test_those_who_come_first_in_a_group_get_the_last_places(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world, capacity=3, party_max=3)
    one, two, three = map(user_id, ("one", "two", "three"))

    results = settled(world, booking(one, place, people=2), booking(two, place, people=2), booking(three, place))

    assert codes(results) == ["yes", "slot_full", "yes"]
    assert results[1].params["left"] == 1
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 3


def test_a_users_limit_counts_what_they_got_in_the_same_group(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world, capacity=10)
    one = user_id("one")

    results = settled(world, booking(one, place), booking(one, place))

    assert codes(results) == ["yes", "already_joined"]


def test_one_key_twice_in_a_group_is_one_booking(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world, capacity=10, max_per_slot=5)
    one = user_id("one")

    results = settled(
        world, booking(one, place, key="k"), booking(one, place, key="k"), booking(one, place, people=2, key="k")
    )

    assert codes(results) == ["yes", "yes", "idempotency_key_reused"]
    assert results[0] == results[1]
    assert people_booked(world, place.slot_id) == 1


def test_a_place_given_back_goes_to_who_comes_after_in_the_group(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world, capacity=1)
    owner = world.user("owner")
    [join] = booked(world, owner, place.slot_id)
    late, later = user_id("late"), user_id("later")
    cancelling = Cancelling(user_id=user_id("owner"), join_id=join["id"], now=utcnow())

    results = settled(world, booking(late, place), cancelling, booking(later, place))

    assert codes(results) == ["slot_full", "yes", "yes"]
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 1


def test_two_acts_on_one_join_are_decided_one_after_another(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world, capacity=1)
    target = place.another_slot(capacity=1)
    [join] = booked(world, world.user("owner"), place.slot_id)
    owner = user_id("owner")
    moving = Moving(user_id=owner, join_id=join["id"], slot_id=target.slot_id, now=utcnow())
    cancelling = [Cancelling(user_id=owner, join_id=join["id"], now=utcnow()) for _ in range(2)]

    results = settled(world, moving, *cancelling)

    assert codes(results) == ["yes", "yes", "join_not_booked"]
    assert [stock(world, slot)["taken"] for slot in (place.slot_id, target.slot_id)] == [0, 0]


def test_nobody_is_refused_for_a_neighbours_fault(
    world: World, user_id: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = a_slot(world, capacity=10)
    one, poison, two = map(user_id, ("one", "poison", "two"))
    healthy = ledger.Ledger.book

    def book(self: ledger.Ledger, asked: Booking, drafted: Any) -> bytes:
        if asked.user_id == poison:
            raise ZeroDivisionError
        return healthy(self, asked, drafted)

    monkeypatch.setattr(ledger.Ledger, "book", book)

    results = settled(world, booking(one, place), booking(poison, place), booking(two, place))

    assert codes([results[0], results[2]]) == ["yes", "yes"]
    assert isinstance(results[1], ZeroDivisionError)
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 2


def test_one_who_breaks_a_group_does_not_cost_a_transaction_for_everybody_in_it(
    world: World, user_id: Callable[[str], str]
) -> None:
    place = a_slot(world, capacity=100, max_per_slot=100)
    target = place.another_slot()
    [join] = booked(world, world.user("owner"), place.slot_id)
    owner, guest = user_id("owner"), user_id("guest")
    twice = [Moving(user_id=owner, join_id=join["id"], slot_id=target.slot_id, now=utcnow()) for _ in range(2)]

    results = settled(world, *twice, *(booking(guest, place) for _ in range(62)))

    assert codes(results) == ["yes", "same_slot", *["yes"] * 62]
    with world.runtimes["booking"].db.transaction() as session:
        transactions = session.scalar(text("SELECT count(DISTINCT xmin::text) FROM joins"))
    assert transactions <= 8


def test_nobody_before_a_full_slot_is_refused_for_a_neighbours_fault(
    world: World, user_id: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = a_slot(world, capacity=1)
    free = full.another_slot(capacity=1)
    first = booking(user_id("owner"), full)
    late, other = booking(user_id("late"), full), replace(booking(user_id("other"), full), slot_id=free.slot_id)
    again = [replace(first, now=utcnow()), late, other]
    monkeypatch.setattr(Sealer, "open", _lost_key)  # of the answer that is kept under the owner's key

    results = settled(world, first, again=again)

    assert isinstance(results[0], SealError)
    assert codes(results[1:]) == ["slot_full", "yes"]


@pytest.mark.usefixtures("patience")
def test_a_crowd_before_a_full_slot_is_turned_away_at_the_counter(make_world: Callable[..., World]) -> None:
    world = make_world(crowd=3)
    place = a_slot(world, capacity=2, party_max=2)
    resources = world.runtimes["booking"].resources
    owner, *crowd = (world.client.get("/api/booking/me", headers=world.user(name)).json()["id"] for name in "abcde")
    first = booking(owner, place, people=2, key="k")

    def asks() -> list[Booking]:
        return [replace(first, now=utcnow()), *(booking(user, place) for user in crowd)]

    settled(world, first)
    eventually(lambda: resources.counters.applier.records([place.slot_id]))
    told_before = _told_full()
    results = eventually(
        lambda: (found := settled(world, *asks(), again=asks())) and _told_full() > told_before and found
    )

    assert codes(results) == ["yes", *["slot_full"] * 4]
    assert _told_full() >= told_before + 4


def _told_full() -> float:
    labels = {"service": "booking", "outcome": "full"}
    return REGISTRY.get_sample_value("hallpass_counter_asks_total", labels) or 0.0


def test_a_refusal_takes_back_no_lease_that_another_process_was_given(
    world: World, counters: Counters, user_id: Callable[[str], str]
) -> None:
    """The counters were not asked about it: the lease is that of another request of the same user."""
    place = a_slot(world, capacity=3)
    one, marker = user_id("one"), stranger(place.slot_id)
    leases = scripts.keys_of(place.slot_id)[2]
    ask(counters, Asked(place.slot_id, one, 1), marker)

    assert codes(settled(world, booking(one, place, people=9))) == ["party_too_large"]

    counters.release([marker])  # told after whatever the refusal has told
    eventually(lambda: redis_of(world).zscore(leases, marker.user_id) is None)
    assert redis_of(world).zscore(leases, one) is not None


def test_a_request_is_bound_by_the_moment_it_came(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world, capacity=10)
    early = booking(user_id("one"), place)
    late = booking(user_id("two"), place)
    early.now, late.now = place.slot.ends_at - timedelta(milliseconds=1), place.slot.ends_at

    assert codes(settled(world, late, early)) == ["slot_ended", "yes"]


def test_a_slot_that_somebody_holds_for_long_takes_no_other_with_it(
    world: World, user_id: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "SETTINGS", f"{settle.SETTINGS} -c lock_timeout=1s")
    held, free = a_slot(world), a_slot(world)
    asks = [booking(user_id(name), held if name == "held" else free) for name in ("one", "held", "two", "three")]

    with world.runtimes["booking"].db.transaction() as holder:
        holder.execute(text("SELECT FROM slots WHERE id = :id FOR UPDATE"), {"id": held.slot_id})
        results = settled(world, *asks)

    assert codes(results) == ["yes", "unavailable", "yes", "yes"]
    assert codes(settled(world, asks[1])) == ["yes"]


def test_a_column_that_changes_its_type_meanwhile_stops_nobody(world: World, user_id: Callable[[str], str]) -> None:
    place = a_slot(world)
    url = world.runtimes["booking"].settings.database_url.get_secret_value()

    async def story() -> list[Any]:
        counter = world.runtimes["booking"].resources.desk.here()
        before = await counter.settle([(booking(user_id("one"), place), None)])
        with psycopg.connect(url.replace("+psycopg", "")) as migrating:
            migrating.execute("ALTER TABLE slots ALTER taken TYPE bigint")
        after = await counter.settle([(booking(user_id("two"), place), None)])
        await counter.close()
        return [*before, *after]

    assert codes(asyncio.run(story())) == ["yes", "yes"]
