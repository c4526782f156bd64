"""Totals by day and hour: whatever happens to joins and slots, they are what a fresh count finds."""

import random
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from services.notify import recounts
from services.notify.models import DayStat, HourStat, Recount
from tests.notify.builders import (
    MORNING,
    a_join,
    a_slot,
    deliver,
    hear,
    message,
    rows,
    totals_counted,
    totals_of,
)
from tests.notify.test_stats import STEPS, wander
from tests.world import World

LEADS = st.sampled_from([-5, 0, 59, 60, 1439, 1440, 4320, 10080, 20160, 43200])
CAPACITIES = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([None, 0, 1, 5])), max_size=4)


@settings(max_examples=15)
@given(
    lives=st.lists(st.tuples(STEPS, LEADS), min_size=1, max_size=5),
    capacities=CAPACITIES,
    shuffled=st.randoms(use_true_random=False),
    at_once=st.sampled_from([1, 3, 100]),
)
def test_after_any_history_every_total_is_what_a_fresh_count_finds(
    world: World,
    lives: list[tuple[list[int], int]],
    capacities: list[tuple[int, int | None]],
    shuffled: random.Random,
    at_once: int,
) -> None:
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(delete(DayStat))
        session.execute(delete(HourStat))
    first = a_slot()
    place = {"hall_id": first.hall_id, "item_id": first.item_id}
    slots = [first, a_slot(capacity=None, **place), a_slot(starts_at=MORNING + timedelta(hours=15), **place)]
    joins = [a_join(slots[0], booked_at=MORNING - timedelta(minutes=lead)) for _, lead in lives]
    facts = [fact for join, (steps, _) in zip(joins, lives, strict=True) for fact in wander(join, steps, slots)]
    messages = [message(fact) for fact in facts]
    messages += [
        message(slots[index].defined(capacity=capacity, version=version + 2))
        for version, (index, capacity) in enumerate(capacities)
    ]
    messages += shuffled.sample(messages, len(messages) // 2)
    shuffled.shuffle(messages)

    deliver(world, *messages, at_once=at_once)

    joined = [slot for slot in slots if slot.version]
    assert totals_of(world) == totals_counted(world, joins, joined)


def test_a_slot_that_begins_at_another_hour_counts_there(world: World) -> None:
    slot = a_slot()
    hear(world, a_join(slot).booked())
    slot.starts_at += timedelta(hours=3)

    hear(world, slot.defined(capacity=10, version=2))

    _, hours = totals_of(world)
    assert {key[3]: row["booked"] for key, row in hours.items()} == {12: 1}


def test_a_recount_puts_totals_right_and_says_what_they_were(world: World) -> None:
    slot = a_slot(capacity=4)
    hear(world, a_join(slot).booked())
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(update(DayStat).values(booked=7, capacity=9))
        session.execute(delete(HourStat))
        recounts.ask(session, None, [slot.hall_id], now=MORNING)

    done = recounts.run_all(world.runtimes["notify"].db)

    assert done == {"recounts": 1, "slots": 1, "days": 1, "differing": 2}
    [found] = rows(world, Recount)
    of_day, of_hour = found["differences"]
    assert (of_day["kind"], of_day["was"], of_day["counted"]) == (
        "day",
        {"booked": 7, "capacity": 9},
        {"booked": 1, "capacity": 4},
    )
    assert (of_hour["kind"], of_hour["hour"], of_hour["counted"]["booked"]) == ("hour", 9, 1)
    days, hours = totals_of(world)
    assert [row["booked"] for row in (*days.values(), *hours.values())] == [1, 1]


def test_a_recount_of_a_hall_leaves_the_others_alone(world: World) -> None:
    mine, other = a_slot(), a_slot()
    hear(world, a_join(mine).booked(), a_join(other).booked())
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(update(DayStat).values(missed=5))
        recounts.ask(session, None, [mine.hall_id], now=MORNING)

    recounts.run_all(world.runtimes["notify"].db)

    assert {row["hall_id"]: row["missed"] for row in rows(world, DayStat)} == {mine.hall_id: 0, other.hall_id: 5}


def test_a_recount_whose_worker_was_lost_is_begun_again(world: World) -> None:
    hear(world, a_join(a_slot()).booked())
    db = world.runtimes["notify"].db
    with db.transaction() as session:
        recounts.ask(session, None, None, now=MORNING)
        session.execute(update(Recount).values(state="running", seen_at=MORNING, differing=3))

    done = recounts.run_all(db)

    [found] = rows(world, Recount)
    assert (done["recounts"], found["state"], found["differing"]) == (1, "done", 0)


def test_a_recount_waits_while_another_runs(world: World) -> None:
    db = world.runtimes["notify"].db
    with db.transaction() as session:
        recounts.ask(session, None, None, now=MORNING)
        recounts.ask(session, None, None, now=MORNING + timedelta(minutes=1))
        assert recounts._begin(session) is not None

    done = recounts.run_all(db)

    assert done["recounts"] == 0
    assert sorted(row["state"] for row in rows(world, Recount)) == ["queued", "running"]
