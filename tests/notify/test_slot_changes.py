"""Changes of slots that people have joined: who is told what, once, and what notify's record says afterwards."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.contracts.catalog import SlotStatus
from services.notify.models import JoinRecord, Notice, SlotStat
from tests.catalog.builders import MORNING, a_day, a_hall, an_item, day_url, in_days, made, queries_of, shown
from tests.notify.builders import (
    Join,
    Slot,
    a_join,
    a_party,
    a_slot,
    deliver,
    hear,
    message,
    notices_of,
    record_of,
    rows,
)
from tests.world import World

pytestmark = pytest.mark.usefixtures("noon")

STARTS = datetime(2027, 3, 10, 1, tzinfo=UTC)  # 09:00 of a Wednesday in Shanghai, months after noon
LATER = STARTS + timedelta(hours=5)
KIND = "slot_changed"


def a_slot_of(version: int = 1) -> Slot:
    """Return a slot of which booking knows this version."""
    return a_slot(starts_at=STARTS, definition=version)


def told(world: World, join: Join, language: str = "en") -> list[str]:
    """Return what the user of a join was told about changes of slots, the last first."""
    page = notices_of(world, join.user_id, language)
    return [notice["body"] for notice in page["items"] if notice["kind"] == KIND]


def times_of(world: World, join: Join) -> tuple[Any, Any]:
    record = record_of(world, join)
    return record["starts_at"], record["ends_at"]


def test_users_are_told_of_other_times_and_their_joins_follow(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())

    hear(world, slot.defined(version=2, starts_at=LATER))

    assert times_of(world, join) == (LATER, LATER + timedelta(hours=1))
    assert told(world, join) == [
        "天河政务中心 has changed the slot of your booking of 护照办理 for 1 person: "
        "Wed 10 Mar 2027 14:00-15:00. It was Wed 10 Mar 2027 09:00."
    ]
    assert told(world, join, "zh") == [
        "天河政务中心变更了您的「护照办理」预约时段（共1人）：2027年3月10日（周三） 14:00-15:00。"
        "原定时间：2027年3月10日（周三） 09:00。"
    ]


def test_a_party_is_told_once_and_only_of_those_who_are_expected(world: World) -> None:
    slot = a_slot_of()
    here, gone, first, second = a_party(4, slot)
    hear(world, slot.defined(version=1), *(join.booked() for join in (here, gone, first, second)))
    hear(world, gone.cancelled(), here.checked_in())

    hear(world, slot.defined(version=2, starts_at=LATER))

    [notice] = rows(world, Notice, user_id=first.user_id, kind=KIND)
    assert notice["people"] == 2
    assert {record["starts_at"] for record in rows(world, JoinRecord, slot_id=slot.id)} == {LATER}


def test_another_capacity_is_nobodys_business(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())

    hear(world, slot.defined(version=2, capacity=99), slot.defined(version=3, capacity=None))

    assert told(world, join) == []


def test_each_version_is_told_once_however_often_and_in_whatever_order_it_comes(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())
    second = message(slot.defined(version=2, starts_at=STARTS + timedelta(hours=1)))
    third = message(slot.defined(version=3, starts_at=LATER))

    deliver(world, third, second, third, second)
    hear(world, slot.defined(version=3, starts_at=LATER))  # as another event

    assert len(told(world, join)) == 1
    assert times_of(world, join)[0] == LATER


def test_what_is_replayed_is_followed_and_told_to_nobody(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, join.booked())

    deliver(world, message(slot.defined(version=2, starts_at=LATER), replayed=True))

    assert times_of(world, join)[0] == LATER
    assert told(world, join) == []


def test_users_are_told_that_a_slot_was_closed_and_that_it_is_open_again(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())

    hear(world, slot.defined(version=2, status=SlotStatus.CLOSED))
    hear(world, slot.defined(version=3, status=SlotStatus.CLOSED, capacity=3))
    hear(world, slot.defined(version=4))

    what = "天河政务中心 has changed the slot of your booking of 护照办理 for 1 person: Wed 10 Mar 2027 09:00-10:00"
    assert told(world, join) == [
        f"{what}. It is open again.",
        f"{what}. It is closed now: please ask the hall before you come.",
    ]


def test_a_deleted_slot_is_a_closed_one_to_who_has_joined_it(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())

    hear(world, slot.defined(version=2, deleted=True))

    assert len(told(world, join)) == 1


def test_other_times_and_a_closing_are_one_notice(world: World) -> None:
    slot = a_slot_of()
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())

    hear(world, slot.defined(version=2, starts_at=LATER, status=SlotStatus.CLOSED))

    [body] = told(world, join, "zh")
    assert "原定时间：2027年3月10日（周三） 09:00" in body
    assert "该时段已关闭" in body


def test_nobody_is_told_about_what_is_over(world: World) -> None:
    slot = a_slot(starts_at=datetime(2025, 3, 10, 1, tzinfo=UTC), definition=1)
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked())

    hear(world, slot.defined(version=2, status=SlotStatus.CLOSED))

    assert told(world, join) == []


# --- catalog's word and booking's come by different ways ---


def test_who_booked_by_the_old_times_is_told_also_where_their_booking_is_heard_of_after_the_new(world: World) -> None:
    slot = a_slot_of(version=1)
    join = a_join(slot)
    hear(world, slot.defined(version=1), slot.defined(version=2, starts_at=LATER))

    hear(world, join.booked())

    assert times_of(world, join)[0] == LATER
    assert len(told(world, join)) == 1


def test_who_booked_by_the_new_times_is_told_nothing_also_where_catalogs_word_comes_after(world: World) -> None:
    slot = a_slot_of(version=1)
    hear(world, slot.defined(version=1))
    slot.starts_at, slot.definition = LATER, 2
    join = a_join(slot)
    hear(world, join.booked())

    hear(world, slot.defined(version=2))

    assert told(world, join) == []
    assert times_of(world, join)[0] == LATER


def test_what_booking_says_by_old_times_brings_them_not_back(world: World) -> None:
    slot = a_slot_of(version=1)
    join = a_join(slot)
    hear(world, slot.defined(version=1), join.booked(), slot.defined(version=2, starts_at=LATER))

    hear(world, join.check_in_undone())  # booking has not heard of the second version yet

    assert times_of(world, join)[0] == LATER
    assert record_of(world, join)["next_reminder_at"] == LATER - timedelta(days=1)
    assert len(told(world, join)) == 1


@pytest.mark.parametrize("at_once", [1, 7])
def test_many_joins_and_changes_in_one_transaction_say_the_same(world: World, at_once: int) -> None:
    slot = a_slot_of()
    joins = [a_join(slot) for _ in range(5)]
    facts = [slot.defined(version=1), *(join.booked() for join in joins), slot.defined(version=2, starts_at=LATER)]

    hear(world, *facts, at_once=at_once)

    assert [len(told(world, join)) for join in joins] == [1] * 5


# --- the whole way ---


def test_who_has_booked_hears_of_it_when_staff_change_the_day(world: World) -> None:
    item, on = an_item(world, a_hall(world)), in_days(3)
    day = a_day(world, item, on, MORNING)
    world.settle()
    wang = world.user("wang")
    answer = world.client.post(
        "/api/booking/joins",
        headers=wang | {"Idempotency-Key": "one"},
        json={"slot_id": day["slots"][0]["id"], "attendees": [{"answers": {}}]},
    )
    made(answer)
    world.settle()

    moved = {"slots": [{"id": day["slots"][0]["id"], "start": "10:00", "end": "12:00", "capacity": 30}]}
    body = moved | {"accept_joins_ahead": True}
    shown(world.client.put(day_url(item, on), json=body, headers=world.staff() | {"If-Match": day["etag"]}))
    world.settle()

    [notice] = [
        notice
        for notice in world.client.get("/api/notify/notices", headers=wang).json()["items"]
        if notice["kind"] == KIND
    ]
    assert "10:00-12:00" in notice["body"]
    assert "09:00" in notice["body"]


def test_of_definitions_that_come_together_the_newest_counts_and_is_told_once(world: World) -> None:
    moved, steady = a_slot_of(), a_slot_of()
    joins = [a_join(moved), a_join(steady)]
    hear(world, moved.defined(version=1), steady.defined(version=1), *(join.booked() for join in joins))

    hear(
        world,
        moved.defined(version=3, starts_at=LATER),
        steady.defined(version=2, status=SlotStatus.CLOSED),
        moved.defined(version=2, starts_at=LATER + timedelta(hours=3)),
        steady.defined(version=3),
        at_once=4,
    )

    assert [times_of(world, join)[0] for join in joins] == [LATER, STARTS]
    assert [len(told(world, join)) for join in joins] == [1, 0]


def test_a_fill_of_many_slots_is_taken_over_by_a_few_statements(world: World) -> None:
    slots = [a_slot(starts_at=STARTS + timedelta(hours=number)) for number in range(200)]
    joined = a_join(slots[7])
    hear(world, slots[7].defined(version=1), joined.booked())
    facts = [slot.defined(version=2, starts_at=slot.starts_at + timedelta(minutes=15)) for slot in slots]

    statements = queries_of(world, lambda: hear(world, *facts, at_once=len(facts)), service="notify")

    assert statements < 30
    assert times_of(world, joined)[0] == slots[7].starts_at + timedelta(minutes=15)
    assert len(told(world, joined)) == 1
    stats = rows(world, SlotStat)
    assert {stat["definition_version"] for stat in stats} == {2}
    assert len(stats) == 200
