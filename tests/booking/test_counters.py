"""The atomic counters: what they may say, whatever has reached them, in any order."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis import Redis

from deploy.servers.valkey import Valkey
from libs.common.ids import new_id
from services.booking import counter_applier, counter_scripts
from services.booking.counter_scripts import Script, keys_of
from services.booking.counters import Ask, Count, Counters, Full
from tests.booking.at_the_counter import a_count, ask, epoch_of, outcomes, record, redis_of, say, stranger
from tests.booking.builders import a_slot, booked, user_id
from tests.world import World, eventually

# --- in any order -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """What one commit did: who got places (0: gave one back, or the capacity changed), and what it left."""

    user: int
    taken: int
    capacity: int


History = tuple[list[Change], list[tuple[str, int]]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a slot's commits, and what reaches Redis of them: some twice, some never, some as readings, in any order."""
    taken, capacity, commits = 0, 3, []
    for _ in range(draw(st.integers(1, 8))):
        moves = [("take", n) for n in (1, 2) if taken + n <= capacity]
        moves += [("give", 1)] if taken else []
        moves += [("capacity", n) for n in (2, 3, 4) if n >= taken]
        kind, number = draw(st.sampled_from(moves))
        user = 0
        if kind == "take":
            taken, user = taken + number, draw(st.integers(1, 5))
        elif kind == "give":
            taken -= 1
        else:
            capacity = number
        commits.append(Change(user, taken, capacity))
    one = st.tuples(st.sampled_from(["commit", "commit", "commit", "reading", "row"]), st.integers(1, len(commits)))
    return commits, draw(st.lists(one, max_size=14))


def _told(slot_id: str, users: dict[int, str], commits: Sequence[Change], kind: str, version: int) -> Count:
    left = commits[version - 1]
    before = {"commit": version - 1, "reading": 0, "row": version}[kind]
    holders = frozenset(users[change.user] for change in commits[before:version] if change.user)
    return a_count(slot_id, version, left.taken, capacity=left.capacity, before=before, holders=holders)


def _hold_the_counter_to(counters: Counters, commits: list[Change], reached: list[tuple[str, int]]) -> None:
    slot_id, users = new_id(), {number: new_id() for number in range(1, 6)}
    for kind, version in reached:
        say(counters, _told(slot_id, users, commits, kind, version), is_reading=kind != "commit")
    found = record(counters, slot_id)
    newest = max((version for _, version in reached), default=None)
    if newest is None:
        assert found is None
        return
    left = commits[newest - 1]
    assert found is not None
    assert (found.version, found.taken, found.capacity) == (newest, left.taken, left.capacity)

    holders = {users[change.user] for change in commits[:newest] if change.user}
    # The largest party first: who is let through has a lease, and is not refused then.
    asks = [Ask(slot_id, user, people) for user in [*users.values(), new_id()] for people in (3, 2, 1)]
    for each, verdict in zip(asks, ask(counters, *asks), strict=True):
        if verdict is not None:
            assert left.taken + each.people > left.capacity, "refused where there was room"
            assert each.user_id not in holders, "refused somebody who may be repeating a success"
            assert verdict == Full(left=left.capacity - left.taken, version=newest)

    every_commit = {("commit", version) for version in range(1, newest + 1)}
    if every_commit <= set(reached) or ("reading", newest) in reached:
        refused = ask(counters, stranger(slot_id, people=9))
        assert refused == [Full(left=left.capacity - left.taken, version=newest)], (
            "nothing is missing, yet it is silent"
        )


ANY_HISTORY = settings(max_examples=150, database=None)


A_LATE_COMMIT: History = ([Change(1, 3, 3), Change(0, 2, 3)], [("commit", 2), ("commit", 1)])
A_LOST_COMMIT: History = ([Change(1, 1, 3), Change(2, 3, 3)], [("commit", 2)])
A_FULL_SLOT: History = ([Change(1, 3, 3)], [("commit", 1)])


def test_counts_may_be_lost_repeated_and_reordered(counters: Counters) -> None:
    @ANY_HISTORY
    @example(A_LATE_COMMIT)
    @example(A_LOST_COMMIT)
    @example(A_FULL_SLOT)
    @example(([Change(user, user, 5) for user in range(1, 6)], [("commit", version) for version in (1, 3, 5, 2, 4)]))
    @given(histories())
    def holds(history: History) -> None:
        _hold_the_counter_to(counters, *history)

    holds()


@pytest.mark.parametrize(
    ("guard", "without", "history"),
    [
        pytest.param("if version >= had.version then", "if true then", A_LATE_COMMIT, id="without versions"),
        pytest.param("stretches = {{before,", "stretches = {{0,", A_LOST_COMMIT, id="without looking for gaps"),
        pytest.param("redis.call('SADD', holders, ARGV[i])", "", A_FULL_SLOT, id="without holders"),
    ],
)
def test_the_same_histories_find_a_script_that_lacks_a_guard(
    counters: Counters, monkeypatch: pytest.MonkeyPatch, guard: str, without: str, history: History
) -> None:
    broken = counter_scripts.APPLY.text.replace(guard, without)
    assert broken != counter_scripts.APPLY.text
    monkeypatch.setattr(counter_scripts, "APPLY", Script(broken))

    with pytest.raises(AssertionError):
        _hold_the_counter_to(counters, *history)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_full_slot_turns_strangers_away_and_lets_holders_ask(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=2, party_max=2)
    user = world.user("wang")
    booked(world, user, place.slot_id, "张三", "李四")
    eventually(lambda: (found := record(counters, place.slot_id)) and found.taken == 2)

    verdicts = ask(counters, stranger(place.slot_id), Ask(place.slot_id, user_id(world, user), 1))

    assert verdicts == [Full(left=0, version=1), None]


def test_a_party_is_refused_where_only_a_single_person_fits(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 1, taken=1))

    assert ask(counters, stranger(slot_id, 2), stranger(slot_id, 1)) == [Full(left=1, version=1), None]


def test_one_group_may_ask_about_many_slots(counters: Counters) -> None:
    full, free, unlimited, unknown = (new_id() for _ in range(4))
    say(counters, a_count(full, 1, 2), a_count(free, 1, 1), a_count(unlimited, 1, 9, capacity=None))

    verdicts = ask(counters, *(stranger(slot) for slot in (full, free, full, unlimited, unknown)))

    assert verdicts == [Full(0, 1), None, Full(0, 1), None, None]


def test_a_closed_slot_is_left_to_postgresql(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 1, 2, is_open=False))

    assert ask(counters, stranger(slot_id)) == [None]


def test_without_redis_nothing_is_known(world: World) -> None:
    counters = Counters(None, "")
    counters.start()

    counters.apply([a_count(new_id(), 1, 2)])

    assert ask(counters, stranger(new_id()), stranger(new_id())) == [None, None]
    counters.close()


# --- how long it may be believed ----------------------------------------------------------------------------------------


def _long_ago() -> float:
    return time.monotonic() - 3600


def test_what_nobody_has_confirmed_for_long_refuses_nobody(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 1, 2, seen_at=_long_ago()))
    before = outcomes("unconfirmed")

    assert ask(counters, stranger(slot_id)) == [None]
    assert outcomes("unconfirmed") == before + 1


def test_a_count_that_was_long_under_way_confirms_nothing(counters: Counters) -> None:
    slot_id = new_id()
    late = a_count(slot_id, 1, 2, seen_at=_long_ago())
    say(counters, late)
    say(counters, late)

    assert ask(counters, stranger(slot_id)) == [None]

    say(counters, a_count(slot_id, 1, 2))
    assert ask(counters, stranger(slot_id)) == [Full(0, 1)]


def test_an_old_confirmation_is_renewed_by_a_reading(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    booked(world, world.user("wang"), place.slot_id)
    eventually(lambda: (found := record(counters, place.slot_id)) and found.taken == 1)
    redis_of(world).hset(keys_of(place.slot_id)[0], "seen", 0)

    assert ask(counters, stranger(place.slot_id)) == [None]
    eventually(lambda: ask(counters, stranger(place.slot_id)) == [Full(0, 1)])


def test_a_crowd_keeps_its_refusals_confirmed(world: World, counters: Counters) -> None:
    place = a_slot(world, capacity=1)
    booked(world, world.user("wang"), place.slot_id)
    eventually(lambda: ask(counters, stranger(place.slot_id)) == [Full(0, 1)])
    redis, key = redis_of(world), keys_of(place.slot_id)[0]
    first = int(redis.hget(key, "seen") or 0)

    def is_confirmed_again() -> bool:
        assert ask(counters, stranger(place.slot_id)) == [Full(0, 1)], "not let go before there is another"
        return int(redis.hget(key, "seen") or 0) > first

    eventually(is_confirmed_again)


# --- whose history --------------------------------------------------------------------------------------------------------


def test_a_later_timeline_outvotes_more_versions(counters: Counters) -> None:
    slot_id = new_id()
    epoch = epoch_of(counters)
    say(counters, a_count(slot_id, 90, 2), timeline=epoch.timeline - 1)
    say(counters, a_count(slot_id, 7, 1, holders=frozenset({new_id()})))

    found = record(counters, slot_id)

    assert found is not None
    assert (found.epoch, found.version, found.taken, found.holders) == (epoch, 7, 1, 1)


@pytest.mark.parametrize("older", ["timeline", "started_us"])
def test_an_earlier_history_changes_nothing(counters: Counters, older: str) -> None:
    slot_id = new_id()
    epoch = epoch_of(counters)
    say(counters, a_count(slot_id, 7, 1))

    say(counters, a_count(slot_id, 90, 2), **{older: getattr(epoch, older) - 1})

    found = record(counters, slot_id)
    assert found is not None
    assert (found.epoch, found.version) == (epoch, 7)


def test_another_cluster_replaces_whatever_was_there(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 90, 2), timeline=99, system="another")
    assert ask(counters, stranger(slot_id)) == [None]

    say(counters, a_count(slot_id, 1, 2))

    assert ask(counters, stranger(slot_id)) == [Full(0, 1)]


def test_two_states_under_one_version_refuse_nobody(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 1, 2))

    say(counters, a_count(slot_id, 1, 1))

    assert record(counters, slot_id) is None


def test_a_record_that_no_history_explains_is_replaced_by_a_reading(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 90, 2, seen_at=_long_ago()))

    say(counters, a_count(slot_id, 7, 1, before=7), is_reading=True)

    found = record(counters, slot_id)
    assert found is not None
    assert (found.version, found.is_complete) == (7, False)


def test_a_reading_does_not_replace_what_was_committed_since(counters: Counters) -> None:
    slot_id = new_id()
    reading = a_count(slot_id, 7, 1, before=7)
    say(counters, a_count(slot_id, 8, 2))

    say(counters, reading, is_reading=True)

    found = record(counters, slot_id)
    assert found is not None
    assert (found.version, found.taken) == (8, 2)


# --- leases -----------------------------------------------------------------------------------------------------------------


def test_leases_tell_a_crowd_and_refuse_nobody(counters: Counters) -> None:
    slot_id = new_id()
    say(counters, a_count(slot_id, 1, 0))
    crowded, room = outcomes("crowded"), outcomes("room")

    verdicts = ask(counters, *(stranger(slot_id) for _ in range(5)))

    assert verdicts == [None] * 5
    assert (outcomes("room"), outcomes("crowded")) == (room + 2, crowded + 3)


def test_whoever_was_let_through_is_not_refused_until_postgresql_has_answered(counters: Counters) -> None:
    """Their request may have taken a place that was given back, in a process that was killed before it told anybody."""
    slot_id = new_id()
    let_through = stranger(slot_id)
    assert ask(counters, let_through) == [None]
    say(counters, a_count(slot_id, 1, 2))

    assert ask(counters, let_through, stranger(slot_id)) == [None, Full(0, 1)]

    counters.release([let_through, let_through])
    eventually(lambda: _leases(counters, slot_id) == 0)
    assert ask(counters, let_through) == [Full(0, 1)]


def test_a_release_of_one_request_leaves_the_lease_of_another(counters: Counters) -> None:
    slot_id = new_id()
    twice = stranger(slot_id)
    other = stranger(slot_id)
    say(counters, a_count(slot_id, 1, 0))
    ask(counters, twice, twice, other)

    counters.release([twice, other])

    eventually(lambda: _leases(counters, slot_id) == 1)
    say(counters, a_count(slot_id, 2, 2))
    assert ask(counters, twice, other) == [None, Full(0, 2)]


def test_a_lease_ends_by_itself(counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_scripts, "LEASE_MS", 50)
    slot_id = new_id()
    let_through = stranger(slot_id)
    ask(counters, let_through)
    eventually(lambda: _leases(counters, slot_id) == 0)

    say(counters, a_count(slot_id, 1, 2))

    assert ask(counters, let_through) == [Full(0, 1)]


def test_a_lease_ends_with_the_commit_that_it_was_for(counters: Counters) -> None:
    slot_id, user = new_id(), new_id()
    say(counters, a_count(slot_id, 1, 0))
    ask(counters, Ask(slot_id, user, 1), stranger(slot_id))
    assert _leases(counters, slot_id) == 2

    say(counters, a_count(slot_id, 2, 1, holders=frozenset({user})))

    assert _leases(counters, slot_id) == 1


def _leases(counters: Counters, slot_id: str) -> int:
    assert counters.applier is not None
    found: int = counters.applier._redis.zcard(keys_of(slot_id)[2])
    return found


# --- its limits ----------------------------------------------------------------------------------------------------------------------


def test_counts_that_do_not_fit_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_applier, "QUEUE_LIMIT", 3)
    nobody = Counters(f"unix://{tmp_path}/nobody.sock", "postgresql+psycopg://nobody@127.0.0.1:1/nothing")

    def dropped() -> float:
        labels = {"service": "booking", "reason": "queue_full"}
        return REGISTRY.get_sample_value("hallpass_counter_applies_dropped_total", labels) or 0

    before = dropped()

    nobody.apply([a_count(new_id(), 1, 1) for _ in range(5)])

    assert dropped() == before + 2
    nobody.close()


class ClusterOfOne(Valkey):
    """A Redis Cluster of one node: it refuses commands and scripts whose keys lie in different hash slots."""

    def _config(self) -> str:
        return super()._config() + "cluster-enabled yes\n"


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[Valkey]:
    with ClusterOfOne(tmp_path / "cluster") as server:
        with Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
            eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield server


@pytest.mark.usefixtures("patience")
def test_redis_cluster_serves_as_it_is(make_world: Callable[..., World], redis_cluster: Valkey) -> None:
    world = make_world()
    database_url = world.runtimes["booking"].settings.database_url.get_secret_value()
    counters = Counters(redis_cluster.url, database_url)
    counters.start()
    eventually(lambda: counters.applier and counters.applier.epoch)
    slots = [new_id() for _ in range(20)]
    counters.apply([a_count(slot, 1, 2, holders=frozenset({new_id()})) for slot in slots])
    eventually(lambda: record(counters, slots[-1]))

    verdicts = ask(counters, *(stranger(slot) for slot in slots))

    assert verdicts == [Full(0, 1)] * 20
    counters.close()
