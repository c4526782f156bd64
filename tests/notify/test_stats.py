"""Stats: what notify counts from its own record of joins, whatever way the events come."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, select, update

from libs.common import outbox, tasks
from libs.common.clock import utcnow
from libs.common.inbox import InboxRow
from libs.common.outbox import OutboxRow
from libs.common.service import Task
from libs.contracts.booking import JoinEvent
from libs.contracts.notify import SlotStatChanged
from libs.contracts.principals import Role
from services.notify.models import JoinRecord, SlotStat
from tests.notify.builders import (
    COUNTS,
    MORNING,
    Join,
    Slot,
    a_join,
    a_slot,
    counts_of,
    deliver,
    hear,
    kinds_told,
    message,
    published_stats,
    record_of,
    stat_of,
    stats_of,
    totals_counted,
    totals_of,
)
from tests.world import World

Life = Callable[[Join, Slot, Slot], list[JoinEvent]]

LIVES: dict[str, Life] = {
    "cancelled": lambda join, home, other: [join.booked(), join.cancelled()],
    "moved and checked in": lambda join, home, other: [join.booked(), join.moved(other), join.checked_in()],
    "moved away and back": lambda join, home, other: [
        join.booked(),
        join.moved(other),
        join.moved(home),
        join.missed(),
    ],
    "missed, checked in late, undone": lambda join, home, other: [
        join.booked(),
        join.missed(),
        join.checked_in(),
        join.check_in_undone(),
    ],
    "revoked, restored, moved": lambda join, home, other: [
        join.booked(),
        join.revoked(),
        join.restored(),
        join.moved(other),
    ],
}


@pytest.mark.parametrize("at_once", [1, 2, 10])
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES.keys())
def test_every_order_of_the_events_of_a_join_ends_in_the_same_record_and_stats(
    world: World, life: Life, at_once: int
) -> None:
    length = len(life(a_join(a_slot()), a_slot(), a_slot()))

    for order in permutations(range(length)):
        home, other = a_slot(), a_slot()
        join = a_join(home)
        facts = life(join, home, other)

        hear(world, *(facts[index] for index in order), at_once=at_once)

        record = record_of(world, join)
        assert (record["slot_id"], record["status"], record["version"]) == (join.slot.id, join.status, length)
        assert (record["checked_in_at"], record["missed_at"]) == (join.checked_in_at, join.missed_at)
        assert counts_of(world, join.slot) == _counts_of_state(join)
        for slot in (home, other):
            if slot.version:
                stat = stat_of(world, slot)
                assert (stat["taken"], stat["slot_version"]) == (slot.taken, slot.version)
                assert slot is join.slot or not any(stat[name] for name in COUNTS)
        assert len(kinds_told(world, join.user_id)) == sum(fact.type != "join.check_in_undone" for fact in facts)


def _counts_of_state(join: Join) -> dict[str, int]:
    counts = {join.status.value: 1}
    if join.status == "booked" and join.checked_in_at:
        counts["checked_in"] = 1
    if join.status == "booked" and join.missed_at:
        counts["missed"] = 1
    return counts


STEPS = st.lists(st.integers(0, 9), max_size=7)


@settings(max_examples=20)
@given(
    lives=st.lists(STEPS, min_size=1, max_size=4),
    shuffled=st.randoms(use_true_random=False),
    at_once=st.sampled_from([1, 3, 100]),
)
def test_any_lives_of_many_joins_add_up_however_often_and_late_they_are_told(
    world: World, lives: list[list[int]], shuffled: random.Random, at_once: int
) -> None:
    slots = [a_slot(), a_slot(), a_slot()]
    joins = [a_join(slots[0]) for _ in lives]
    facts = [fact for join, steps in zip(joins, lives, strict=True) for fact in wander(join, steps, slots)]
    messages = [message(fact) for fact in facts]
    messages += shuffled.sample(messages, len(messages) // 2) + [message(fact) for fact in facts[:3]]
    shuffled.shuffle(messages)

    deliver(world, *messages, at_once=at_once)

    for slot in slots:
        if slot.version == 0:
            continue
        expected = sum((Counter(_counts_of_state(join)) for join in joins if join.slot is slot), Counter[str]())
        assert counts_of(world, slot) == dict(expected)
        stat = stat_of(world, slot)
        assert (stat["taken"], stat["slot_version"]) == (slot.taken, slot.version)
        last = published_stats(world, slot)[-1]
        assert {name: last[name] for name in (*COUNTS, "taken", "slot_version")} == {
            name: stat[name] for name in (*COUNTS, "taken", "slot_version")
        }


def wander(join: Join, steps: list[int], slots: list[Slot]) -> list[JoinEvent]:
    """Lead a life that booking would allow; a step that does not fit is left out."""
    facts: list[JoinEvent] = [join.booked()]
    for step in steps:
        if join.status == "revoked":
            facts.append(join.restored())
        elif join.status == "cancelled":
            break
        elif join.checked_in_at:
            facts.append(join.check_in_undone())
        elif step == 0:
            facts.append(join.cancelled())
        elif step in (1, 2):
            facts.append(join.revoked())
        elif step in (3, 4, 5):
            facts.append(join.moved(slots[(slots.index(join.slot) + 1 + step % 2) % 3]))
        elif step == 6 and not join.missed_at:
            facts.append(join.missed())
        else:
            facts.append(join.checked_in())
    return facts


def test_a_cancelled_join_stays_and_is_counted(world: World) -> None:
    slot = a_slot()
    first, second = a_join(slot), a_join(slot)

    hear(world, first.booked(), second.booked(), first.cancelled())

    assert counts_of(world, slot) == {"booked": 1, "cancelled": 1}
    assert record_of(world, first)["status"] == "cancelled"


def test_the_stat_of_a_moved_join_is_that_of_the_slot_it_is_in_now(world: World) -> None:
    old, new = a_slot(), a_slot()
    join = a_join(old)
    hear(world, join.booked())

    hear(world, join.moved(new))

    assert counts_of(world, old) == {}
    assert stat_of(world, old)["taken"] == 0
    assert counts_of(world, new) == {"booked": 1}


def test_a_slot_known_only_as_the_one_left_is_published_once_its_place_is_known(world: World) -> None:
    old, new = a_slot(), a_slot()
    join = a_join(old)
    booked, moved = join.booked(), join.moved(new)

    hear(world, moved)
    unplaced = published_stats(world, old)
    hear(world, booked)

    assert unplaced == []
    assert [(fact["taken"], fact["hall_id"]) for fact in published_stats(world, old)] == [(0, old.hall_id)]


def test_an_event_delivered_twice_changes_and_publishes_nothing(world: World) -> None:
    slot = a_slot()
    join = a_join(slot)
    booked = message(join.booked())
    deliver(world, booked)
    before = stat_of(world, slot)

    deliver(world, booked, booked)

    assert stat_of(world, slot) == before
    assert len(published_stats(world, slot)) == 1
    assert kinds_told(world, join.user_id) == ["booked"]


def test_an_older_event_published_once_more_changes_nothing(world: World) -> None:
    slot = a_slot()
    join = a_join(slot)
    booked, cancelled = join.booked(), join.cancelled()
    hear(world, booked, cancelled)
    before = stat_of(world, slot)

    deliver(world, message(booked, replayed=True), message(cancelled, replayed=True))

    assert stat_of(world, slot) == before
    assert kinds_told(world, join.user_id) == ["booked", "cancelled"]


def test_replayed_events_fill_an_empty_record_and_tell_nobody(world: World) -> None:
    slot = a_slot()
    join = a_join(slot)

    deliver(world, message(join.booked(), replayed=True))

    assert counts_of(world, slot) == {"booked": 1}
    assert kinds_told(world, join.user_id) == []


def test_every_change_of_a_stat_is_published_with_a_greater_version(world: World) -> None:
    slot = a_slot(capacity=5)
    join = a_join(slot)

    hear(world, join.booked(), join.checked_in(), join.check_in_undone(), join.cancelled())

    facts = [SlotStatChanged.model_validate(fact) for fact in published_stats(world, slot)]
    assert [(fact.booked, fact.checked_in, fact.cancelled, fact.taken) for fact in facts] == [
        (1, 0, 0, 1),
        (1, 1, 0, 1),
        (1, 0, 0, 1),
        (0, 0, 1, 0),
    ]
    assert [fact.version - facts[0].version for fact in facts] == [0, 1, 2, 3]
    assert {(fact.capacity, fact.item_id, fact.hall_id) for fact in facts} == {(5, slot.item_id, slot.hall_id)}


def test_a_rush_into_one_slot_is_one_change_of_its_stat(world: World) -> None:
    slot = a_slot(capacity=50)
    joins = [a_join(slot) for _ in range(40)]

    hear(world, *(join.booked() for join in joins), at_once=40)

    [fact] = published_stats(world, slot)
    assert (fact["booked"], fact["taken"]) == (40, 40)
    assert [kinds_told(world, join.user_id) for join in joins] == [["booked"]] * 40


def test_many_consumers_at_once_count_right_and_never_deadlock(world: World) -> None:
    slots = [a_slot(capacity=None), a_slot(capacity=None)]
    joins = [a_join(slots[index % 2]) for index in range(40)]
    facts: list[JoinEvent] = [join.booked() for join in joins]
    for index, join in enumerate(joins):
        facts.append(join.moved(slots[1 - slots.index(join.slot)]))
        facts.append(join.checked_in() if index % 4 else join.cancelled())
    messages = [message(fact) for fact in facts] * 2
    random.Random(7).shuffle(messages)
    errors: list[BaseException] = []
    failed: list[BaseException | None] = []  # what the database refused, also where it was tried again
    event.listen(
        world.runtimes["notify"].db.engine, "handle_error", lambda context: failed.append(context.original_exception)
    )

    def consume(share: int) -> None:
        try:
            deliver(world, *messages[share::8])
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test
            errors.append(error)

    threads = [threading.Thread(target=consume, args=(share,)) for share in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tasks.perform(world.runtimes["notify"], _task(world, "notify.recount"))
    for thread in threads:
        thread.join()

    assert errors == failed == []
    assert totals_of(world) == totals_counted(world, joins, slots)
    for slot in slots:
        here = [join for join in joins if join.slot is slot]
        expected = sum((Counter(_counts_of_state(join)) for join in here), Counter[str]())
        assert counts_of(world, slot) == dict(expected)
        assert stat_of(world, slot)["taken"] == slot.taken
        versions = [fact["version"] for fact in published_stats(world, slot)]
        assert len(set(versions)) == len(versions)


# --- counting again ---


def _task(world: World, name: str) -> Task:
    return next(task for task in world.runtimes["notify"].service.tasks if task.name == name)


def test_a_recount_finds_and_repairs_what_differs_and_publishes_it(world: World) -> None:
    damaged, sound = a_slot(), a_slot()
    hear(world, a_join(damaged).booked(), a_join(sound).booked())
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(update(SlotStat).where(SlotStat.slot_id == damaged.id).values(booked=7, missed=-1))

    done = tasks.perform(world.runtimes["notify"], _task(world, "notify.recount"))

    assert done == {"recounts": 1, "slots": 2, "days": 2, "differing": 3}  # the slot, its day and its hour
    assert counts_of(world, damaged) == {"booked": 1}
    assert [fact["booked"] for fact in published_stats(world, damaged)] == [1, 1]
    assert len(published_stats(world, sound)) == 1


def test_a_recount_brings_back_a_stat_that_was_lost(world: World) -> None:
    slot = a_slot()
    hear(world, a_join(slot).booked())
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(delete(SlotStat))

    done = tasks.perform(world.runtimes["notify"], _task(world, "notify.recount"))

    assert done == {"recounts": 1, "slots": 1, "days": 1, "differing": 3}
    assert counts_of(world, slot) == {"booked": 1}


def test_a_recount_of_sound_stats_changes_nothing(world: World) -> None:
    slot = a_slot()
    join = a_join(slot)
    hear(world, join.booked(), join.checked_in())
    before = stat_of(world, slot)

    done = tasks.perform(world.runtimes["notify"], _task(world, "notify.recount"))

    assert done == {"recounts": 1, "slots": 1, "days": 1, "differing": 0}
    assert stat_of(world, slot) == before


def test_an_emptied_notify_publishes_greater_versions_than_before(world: World) -> None:
    slot = a_slot()
    booked = a_join(slot).booked()
    hear(world, booked)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(update(SlotStat).values(version=SlotStat.version - 60))  # as if a minute had passed since
        before = stat_of(world, slot)["version"] - 60
        session.execute(delete(SlotStat))
        session.execute(delete(JoinRecord))

    deliver(world, message(booked, replayed=True))

    assert stat_of(world, slot)["version"] > before


def test_republishing_says_the_stat_of_every_slot_again(world: World) -> None:
    slots = [a_slot(), a_slot()]
    hear(world, *(a_join(slot).booked() for slot in slots))
    runtime = world.runtimes["notify"]
    assert runtime.service.republish is not None

    count = outbox.republish(runtime.db, runtime.service.republish, batch=1)

    assert count == 2
    for slot in slots:
        first, again = published_stats(world, slot)
        assert again == first


def test_upkeep_forgets_what_is_long_done_and_keeps_what_is_not_published_yet(world: World) -> None:
    slot = a_slot()
    join = a_join(slot)
    hear(world, join.booked(), join.checked_in(), join.check_in_undone())
    now = utcnow()
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(update(InboxRow).values(consumed_at=now - timedelta(days=29)))
        done_long_ago = select(InboxRow.event_id).limit(1).scalar_subquery()
        session.execute(
            update(InboxRow).where(InboxRow.event_id == done_long_ago).values(consumed_at=now - timedelta(days=31))
        )
        first = select(OutboxRow.id).order_by(OutboxRow.position).limit(1).scalar_subquery()
        session.execute(update(OutboxRow).where(OutboxRow.id == first).values(published_at=now - timedelta(days=2)))

    done = tasks.perform(world.runtimes["notify"], _task(world, "notify.upkeep"))

    assert done == {"outbox": 1, "inbox": 1, "recounts": 0, "deliveries": 0, "webhook_events": 0}
    assert len(published_stats(world, slot)) == 2


# --- the capacity in force ---


def test_a_capacity_edited_without_a_join_is_in_the_stats_at_once(world: World) -> None:
    slot = a_slot(capacity=4)
    hear(world, a_join(slot).booked(), a_join(slot).booked())

    hear(world, slot.defined(capacity=8, version=2))

    [line] = stats_of(world)["items"]
    assert (line["capacity"], line["fill_rate"]) == (8, 0.25)
    assert [fact["capacity"] for fact in published_stats(world, slot)] == [4, 4, 8]


@pytest.mark.parametrize(("asked", "in_force"), [(1, 2), (0, 2), (2, 2), (3, 3), (None, None)])
def test_the_capacity_is_what_is_asked_but_never_below_what_is_taken(
    world: World, asked: int | None, in_force: int | None
) -> None:
    slot = a_slot(capacity=4)
    first, second = a_join(slot), a_join(slot)
    hear(world, first.booked(), second.booked(), slot.defined(capacity=asked, version=2))
    before = stat_of(world, slot)["capacity"]

    hear(world, second.cancelled())

    assert before == in_force
    assert stat_of(world, slot)["capacity"] == (asked if asked is None else max(asked, 1))


def test_definitions_and_joins_in_any_order_end_in_the_same_capacity(world: World) -> None:
    for order in permutations(range(4)):
        slot = a_slot(capacity=5)
        told = [
            slot.defined(capacity=5, version=1),
            a_join(slot).booked(),
            slot.defined(capacity=1, version=2),
            a_join(slot).booked(),  # before booking has heard of the second definition
        ]

        hear(world, *(told[index] for index in order))

        stat = stat_of(world, slot)
        assert (stat["asked"], stat["taken"], stat["capacity"]) == (1, 2, 2)


def test_a_slot_that_nobody_joined_is_in_no_stats(world: World) -> None:
    slot = a_slot()

    hear(world, slot.defined(capacity=5, version=1))

    assert stats_of(world)["items"] == []
    assert published_stats(world, slot) == []


# --- what staff see ---


def test_staff_see_the_counts_of_slots_with_their_rates(world: World) -> None:
    slot = a_slot(capacity=4)
    first, second, third = (a_join(slot, booked_at=MORNING - timedelta(hours=hours)) for hours in (12, 48, 240))
    hear(world, first.booked(), second.booked(), third.booked(), third.cancelled(), first.checked_in(), second.missed())

    found = stats_of(world)

    assert found["items"] == [
        {
            "slot_id": slot.id,
            "item_id": slot.item_id,
            "hall_id": slot.hall_id,
            "day": "2026-11-03",
            "slots": 1,
            "booked": 2,
            "cancelled": 1,
            "revoked": 0,
            "checked_in": 1,
            "missed": 1,
            "taken": 2,
            "capacity": 4,
            "fill_rate": 0.5,
            "no_show_rate": 0.5,
            "lead_hours": 30.0,
        }
    ]


@pytest.mark.parametrize(
    ("group", "names"), [("item", {"hall_id", "item_id"}), ("hall", {"hall_id"}), ("day", {"day"})]
)
def test_stats_are_summed_up_by_item_hall_and_day(world: World, group: str, names: set[str]) -> None:
    limited = a_slot(capacity=4)
    unlimited = a_slot(capacity=None, hall_id=limited.hall_id, item_id=limited.item_id)
    hear(world, a_join(limited).booked(), a_join(unlimited).booked())

    found = stats_of(world, group=group)

    (line,) = found["items"]
    assert {name for name in ("slot_id", "item_id", "hall_id", "day") if line[name] is not None} == names
    assert (line["slots"], line["booked"], line["capacity"], line["fill_rate"]) == (2, 2, 4, 0.25)


def test_without_a_limit_there_is_no_fill_rate(world: World) -> None:
    hear(world, a_join(a_slot(capacity=None)).booked())

    found = stats_of(world, group="hall")

    assert (found["items"][0]["capacity"], found["items"][0]["fill_rate"]) == (None, None)


def test_nothing_heard_means_a_total_of_nothing(world: World) -> None:
    found = stats_of(world)

    assert found["items"] == []
    assert found["total"]["booked"] == 0
    assert {found["total"][name] for name in ("fill_rate", "no_show_rate", "lead_hours")} == {None}


def test_a_hall_admin_sees_the_stats_of_their_halls_only(world: World) -> None:
    mine, foreign = a_slot(), a_slot()
    hear(world, a_join(mine).booked(), a_join(foreign).booked())
    admin = world.staff(Role.HALL_ADMIN, [mine.hall_id])

    everything = stats_of(world, admin)
    theirs = stats_of(world, admin, hall_id=foreign.hall_id)

    assert [line["slot_id"] for line in everything["items"]] == [mine.id]
    assert everything["total"]["booked"] == 1
    assert theirs["items"] == []


def test_stats_are_filtered_by_item_and_days(world: World) -> None:
    early = a_slot()
    late = a_slot(starts_at=early.starts_at.replace(day=9), item_id=early.item_id)
    other = a_slot()
    hear(world, *(a_join(slot).booked() for slot in (early, late, other)))

    def found(**query: Any) -> set[str]:
        return {line["slot_id"] for line in stats_of(world, **query)["items"]}

    assert found(item_id=early.item_id) == {early.id, late.id}
    assert found(**{"from": "2026-11-04"}) == {late.id}
    assert found(to="2026-11-03") == {early.id, other.id}


def test_stats_are_paged_by_every_group(world: World) -> None:
    slots = [a_slot(starts_at=a_slot().starts_at.replace(day=day)) for day in (3, 4, 5)]
    hear(world, *(a_join(slot).booked() for slot in slots))

    for group, name in (("slot", "slot_id"), ("item", "item_id"), ("hall", "hall_id"), ("day", "day")):
        seen, cursor = [], None
        while True:
            page = stats_of(world, group=group, limit=1, **({"cursor": cursor} if cursor else {}))
            seen += [line[name] for line in page["items"]]
            assert page["total"]["booked"] == 3
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(set(seen)) == len(seen) == 3


def test_a_verifier_may_not_read_stats(world: World) -> None:
    answer = world.client.get("/api/notify/staff/stats", headers=world.staff(Role.VERIFIER, [a_slot().hall_id]))

    assert (answer.status_code, answer.json()["code"]) == (403, "role_forbids")


@pytest.mark.parametrize("path", ["stats", "feed/stats"])
def test_stats_of_a_range_that_ends_before_it_begins_are_refused(world: World, path: str) -> None:
    answer = world.client.get(f"/api/notify/staff/{path}?from=2026-12-02&to=2026-12-01", headers=world.staff())

    assert (answer.status_code, answer.json()["code"]) == (422, "range_unfit")
