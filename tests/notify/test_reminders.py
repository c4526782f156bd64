"""Reminders: of what, when, how often, and when not any more."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from prometheus_client import REGISTRY
from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common.ids import new_id
from libs.common.service import Task
from libs.common.tasks import perform
from libs.contracts.booking import UserErased
from libs.contracts.catalog import HallStatus, ItemStatus, SlotStatus
from libs.contracts.envelope import Event
from services.notify import reminders, senders, tasks
from services.notify.models import Hall, Item, JoinRecord, Notice, SlotStat
from tests.catalog.builders import queries_of
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
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EARLY = STARTS - timedelta(days=5)
REMINDER = "reminder"
WORKERS = 4


def a_slot_ahead(**differing: Any) -> Slot:
    return a_slot(**({"starts_at": STARTS} | differing))


def at(world: World, instant: datetime, *facts: Event) -> None:
    """Let notify hear facts that happen at this instant, one after another."""
    deliver(world, *(message(fact, time=instant) for fact in facts))


def remind(world: World, instant: datetime) -> Any:
    """Do at this instant what workers do every ten seconds."""
    runtime = world.runtimes["notify"]
    task: Task = next(task for task in runtime.service.tasks if task.name == "notify.remind")
    with time_machine.travel(instant, tick=False):
        return perform(runtime, task)


def reminded(world: World, join: Join) -> list[datetime]:
    """Return when the user of a join was reminded, in order."""
    return sorted(row["happened_at"] for row in rows(world, Notice, user_id=join.user_id, kind=REMINDER))


def as_time_passes(world: World, *, until: datetime = STARTS, since: datetime = EARLY) -> None:
    """Let workers look a minute after each hour at which something could come due, up to an hour after the start."""
    for hours in (72, 49, 48, 47, 25, 24, 23, 3, 2, 1, 0, -1):
        if until - hours * HOUR >= since:
            remind(world, until - hours * HOUR + MINUTE)


def test_users_are_reminded_a_day_and_an_hour_before_once_each(world: World) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked())

    as_time_passes(world)

    assert reminded(world, join) == [STARTS - DAY + MINUTE, STARTS - HOUR + MINUTE]
    assert record_of(world, join)["next_reminder_at"] is None
    texts = {
        language: [
            (notice["title"], notice["body"])
            for notice in notices_of(world, join.user_id, language)["items"]
            if notice["kind"] == REMINDER
        ]
        for language in ("zh", "en")
    }
    when = {"zh": "2027年3月10日（周三） 09:00-10:00", "en": "Wed 10 Mar 2027 09:00-10:00"}
    assert texts["zh"] == 2 * [
        (
            "预约即将开始",
            f"请您按时前往天河政务中心办理「护照办理」，共1人，时间：{when['zh']}。如不能前来，请提前取消。",
        )
    ]
    assert texts["en"] == 2 * [
        (
            "Your booking is coming up",
            f"You are expected at 天河政务中心 for 护照办理, 1 person: {when['en']}. If you can't come, please cancel in time.",
        )
    ]


def test_a_party_is_reminded_by_one_notice_that_says_how_many_are_expected(world: World) -> None:
    party = a_party(3, a_slot_ahead())
    at(world, EARLY, *(join.booked() for join in party))
    at(world, EARLY, party[0].cancelled())

    remind(world, STARTS - DAY + MINUTE)

    [notice] = rows(world, Notice, user_id=party[0].user_id, kind=REMINDER)
    assert (notice["people"], notice["party_id"]) == (2, party[0].party_id)
    assert notice["join_id"] in {join.id for join in party[1:]}


def test_who_books_after_a_reminder_was_due_waits_for_the_next(world: World) -> None:
    join = a_join(a_slot_ahead())
    at(world, STARTS - DAY + HOUR, join.booked())

    as_time_passes(world)

    assert reminded(world, join) == [STARTS - HOUR + MINUTE]


@pytest.mark.parametrize("change", [Join.cancelled, Join.revoked, Join.checked_in])
def test_nobody_is_reminded_of_what_is_over(world: World, change: Any) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked(), change(join))

    as_time_passes(world)

    assert reminded(world, join) == []


def test_a_restored_join_is_reminded_of_again(world: World) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked(), join.revoked())
    at(world, STARTS - DAY + HOUR, join.restored())

    as_time_passes(world)

    assert reminded(world, join) == [STARTS - HOUR + MINUTE]


def test_a_moved_join_is_reminded_of_where_it_is_now(world: World) -> None:
    join, later = a_join(a_slot_ahead()), a_slot_ahead(starts_at=STARTS + 2 * DAY)
    at(world, EARLY, join.booked())
    remind(world, STARTS - DAY + MINUTE)
    at(world, STARTS - DAY + HOUR, join.moved(later))

    as_time_passes(world, since=STARTS - DAY + HOUR, until=later.starts_at)

    new = [later.starts_at - DAY + MINUTE, later.starts_at - HOUR + MINUTE]
    assert reminded(world, join) == [STARTS - DAY + MINUTE, *new]


def test_reminders_move_with_their_slot_also_one_that_was_sent(world: World) -> None:
    slot = a_slot_ahead()
    join, moved = a_join(slot), STARTS + 2 * DAY
    at(world, EARLY, slot.defined(version=1), join.booked())
    remind(world, STARTS - DAY + MINUTE)
    at(world, STARTS - DAY + HOUR, slot.defined(version=2, starts_at=moved))

    as_time_passes(world, since=STARTS - DAY + HOUR, until=moved)

    assert reminded(world, join) == [STARTS - DAY + MINUTE, moved - DAY + MINUTE, moved - HOUR + MINUTE]


def test_another_end_loses_no_reminder_that_is_due(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.defined(version=1), join.booked())
    at(world, STARTS - DAY + HOUR, slot.defined(version=2, lasts=2 * HOUR))  # workers were down for an hour

    as_time_passes(world, since=STARTS - DAY + HOUR)

    assert reminded(world, join) == [STARTS - DAY + HOUR + MINUTE, STARTS - HOUR + MINUTE]
    assert record_of(world, join)["ends_at"] == STARTS + 2 * HOUR


def test_what_moved_ahead_is_not_reminded_of_for_times_that_are_past(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.defined(version=1), join.booked())
    at(world, STARTS - 2 * DAY, slot.defined(version=2, starts_at=STARTS - 2 * DAY + 2 * HOUR))

    as_time_passes(world)

    assert reminded(world, join) == [STARTS - 2 * DAY + HOUR + MINUTE]


@pytest.mark.parametrize("how", [{"status": SlotStatus.CLOSED}, {"deleted": True}])
def test_nobody_is_reminded_of_a_slot_while_it_is_closed(world: World, how: dict[str, Any]) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.defined(version=1), join.booked(), slot.defined(version=2, **how))
    remind(world, STARTS - DAY + MINUTE)
    while_closed = reminded(world, join)
    at(world, STARTS - DAY + HOUR, slot.defined(version=3))

    as_time_passes(world, since=STARTS - DAY + HOUR)

    assert (while_closed, reminded(world, join)) == ([], [STARTS - HOUR + MINUTE])


@pytest.mark.parametrize("part", ["hall", "item"])
def test_nobody_is_reminded_while_hall_or_item_is_closed(world: World, part: str) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    known, closed, opened = {
        "hall": (slot.hall(), slot.hall(version=2, status=HallStatus.CLOSED), slot.hall(version=3)),
        "item": (
            slot.item(),
            slot.item(version=2, status=ItemStatus.CLOSED),
            slot.item(version=3, status=ItemStatus.STOPPED),
        ),
    }[part]
    at(world, EARLY, slot.defined(version=1), known, join.booked(), closed)
    remind(world, STARTS - DAY + MINUTE)
    while_closed = reminded(world, join)
    at(world, STARTS - DAY + HOUR, opened)

    as_time_passes(world, since=STARTS - DAY + HOUR)

    assert (while_closed, reminded(world, join)) == ([], [STARTS - HOUR + MINUTE])


@pytest.mark.parametrize(
    ("back_at", "told"),
    [
        pytest.param(STARTS - 2 * HOUR, 1, id="hours late, and of use"),
        pytest.param(STARTS - HOUR + MINUTE, 1, id="the next has come due: one says it all"),
        pytest.param(STARTS, 0, id="the slot has started"),
    ],
)
def test_after_a_downtime_everybody_is_told_what_is_still_of_use(world: World, back_at: datetime, told: int) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked())

    remind(world, back_at)
    remind(world, back_at)

    assert len(reminded(world, join)) == told


def test_an_event_that_comes_late_is_caught_up_with_too(world: World) -> None:
    join = a_join(a_slot_ahead())
    remind(world, STARTS - DAY + MINUTE)
    at(world, EARLY, join.booked())  # heard a day late

    remind(world, STARTS - DAY + HOUR)

    assert reminded(world, join) == [STARTS - DAY + HOUR]


def test_events_in_any_order_leave_the_same_reminders(world: World) -> None:
    first, second = a_slot_ahead(), a_slot_ahead(starts_at=STARTS + 3 * DAY)
    join = a_join(first)
    booked, moved = message(join.booked(), time=EARLY), message(join.moved(second), time=EARLY)

    deliver(world, moved, booked, moved)

    assert record_of(world, join)["next_reminder_at"] == second.starts_at - DAY


# --- as the item says ---


def test_an_item_says_when_its_users_are_reminded(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.hall(), slot.item(reminders=[2 * 24 * 60, 120, 30]), join.booked())

    as_time_passes(world)

    # The workers look a minute after the hour: the last comes late, and still before the start.
    assert reminded(world, join) == [STARTS - 2 * DAY + MINUTE, STARTS - 2 * HOUR + MINUTE]
    remind(world, STARTS - timedelta(minutes=20))
    assert len(reminded(world, join)) == 2


def test_an_item_without_reminders_reminds_nobody(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.hall(), slot.item(reminders=[]), join.booked())

    as_time_passes(world)

    assert reminded(world, join) == []


def test_another_word_of_the_item_goes_for_joins_that_are_there_as_well(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.hall(), slot.item(), join.booked())
    at(world, EARLY + HOUR, slot.item(version=3, reminders=[180]), slot.item(version=2, reminders=[90]))

    as_time_passes(world)

    assert reminded(world, join) == [STARTS - 3 * HOUR + MINUTE]


def test_what_is_due_and_not_sent_yet_stays_due_when_the_item_says_something_else(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, slot.hall(), slot.item(), join.booked())
    at(world, STARTS - DAY + HOUR, slot.item(version=2, reminders=[24 * 60, 30]))  # workers were down for an hour

    remind(world, STARTS - DAY + 2 * HOUR)

    assert reminded(world, join) == [STARTS - DAY + 2 * HOUR]
    assert record_of(world, join)["next_reminder_at"] == STARTS - timedelta(minutes=30)


def test_catalogs_first_word_of_an_item_reaches_joins_that_were_recorded_before_it(world: World) -> None:
    slot = a_slot_ahead()
    join = a_join(slot)
    at(world, EARLY, join.booked())
    usual = record_of(world, join)["next_reminder_at"]

    deliver(world, message(slot.item(version=7, reminders=[30]), time=EARLY, replayed=True))

    assert usual == STARTS - DAY
    assert record_of(world, join)["next_reminder_at"] == STARTS - timedelta(minutes=30)


def test_a_refilled_record_reminds_of_what_is_ahead_and_of_nothing_past(world: World) -> None:
    join = a_join(a_slot_ahead())

    deliver(world, message(join.booked(), time=STARTS - 2 * HOUR, replayed=True))
    as_time_passes(world)

    assert reminded(world, join) == [STARTS - HOUR + MINUTE]


def test_an_erased_user_is_reminded_of_nothing(world: World) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked(), UserErased(version=1, user_id=join.user_id, join_ids=[join.id]))

    as_time_passes(world)

    assert reminded(world, join) == []


def test_metrics_tell_for_how_long_the_oldest_reminder_has_been_due(world: World) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked())
    senders.of(world.runtimes["notify"])

    def overdue(instant: datetime) -> float | None:
        with time_machine.travel(instant, tick=False):
            return REGISTRY.get_sample_value("hallpass_reminders_overdue_seconds", {"service": "notify"})

    found = [overdue(STARTS - DAY), overdue(STARTS - DAY + MINUTE)]
    remind(world, STARTS - DAY + MINUTE)

    assert [*found, overdue(STARTS - DAY + MINUTE)] == [0, 60, 0]


# --- summer time and midnight ---


@pytest.mark.parametrize(
    ("zone", "starts", "day_before", "hour_before"),
    [
        ("Europe/Berlin", "2027-03-28 09:00", "2027-03-27 09:00", "2027-03-28 08:00"),  # a day of 23 hours
        ("Europe/Berlin", "2027-10-31 09:00", "2027-10-30 09:00", "2027-10-31 08:00"),  # and one of 25
        ("Europe/Berlin", "2027-03-28 03:15", "2027-03-27 03:15", "2027-03-28 01:15"),
        ("America/New_York", "2027-03-14 09:00", "2027-03-13 09:00", "2027-03-14 08:00"),
        ("America/New_York", "2027-11-07 00:30", "2027-11-06 00:30", "2027-11-06 23:30"),
        ("Asia/Shanghai", "2027-03-01 00:00", "2027-02-28 00:00", "2027-02-28 23:00"),
    ],
)
def test_reminders_go_by_the_clock_of_the_hall(
    world: World, zone: str, starts: str, day_before: str, hour_before: str
) -> None:
    def instant(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)

    join = a_join(a_slot(starts_at=instant(starts), timezone=zone))
    at(world, instant(starts) - 3 * DAY, join.booked())
    found = []

    for _ in range(2):
        due: datetime = record_of(world, join)["next_reminder_at"]
        remind(world, due)  # not past yet
        found.append((due, len(reminded(world, join))))
        remind(world, due + MINUTE)

    assert found == [(instant(day_before), 0), (instant(hour_before), 1)]
    assert len(reminded(world, join)) == 2


# --- many joins, many workers ---


def test_reminders_cost_a_rush_no_statement_for_each_join(world: World) -> None:
    def statements(joins: int) -> int:
        slot = a_slot_ahead(capacity=None)
        told = [message(a_join(slot).booked(), time=EARLY) for _ in range(joins)]
        return queries_of(world, lambda: deliver(world, *told, at_once=joins), service="notify")

    statements(1)  # what is done once for a process is done

    assert statements(80) == statements(8)


def at_several_workers(world: World, instant: datetime) -> list[BaseException]:
    """Let some workers look at the same instant; return what went wrong."""
    runtime = world.runtimes["notify"]
    task = next(task for task in runtime.service.tasks if task.name == "notify.remind")
    barrier = threading.Barrier(WORKERS)
    failures: list[BaseException] = []

    def work() -> None:
        barrier.wait()
        try:
            perform(runtime, task)
        except BaseException as error:  # noqa: BLE001  # told on the test's thread
            failures.append(error)

    with time_machine.travel(instant, tick=False):
        threads = [threading.Thread(target=work) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return failures


def test_workers_beside_each_other_remind_everybody_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "REMINDERS_AT_ONCE", 3)  # so that parties are torn apart
    slots = [a_slot_ahead(capacity=None) for _ in range(4)]
    parties = [a_party(2, slot) for slot in slots for _ in range(10)]
    hear(world, *(join.booked() for party in parties for join in party), at_once=80)

    failures = at_several_workers(world, STARTS - HOUR + MINUTE)

    told = rows(world, Notice, kind=REMINDER)
    assert failures == []
    assert sorted(row["user_id"] for row in told) == sorted(party[0].user_id for party in parties)
    assert {row["people"] for row in told} == {2}


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every worker see all that is due, also what another is just sending."""

    def look(session: Session, *, now: datetime, at_most: int) -> Any:
        more = (SlotStat.is_open, Item.title, Item.reminders, Hall.timezone, Hall.name.label("hall_name"))
        query = select(*JoinRecord.__table__.columns, *more)
        query = query.join(SlotStat, SlotStat.slot_id == JoinRecord.slot_id)
        everything = query.join(Item, Item.id == JoinRecord.item_id).join(Hall, Hall.id == JoinRecord.hall_id)
        return session.execute(everything.where(JoinRecord.next_reminder_at < now)).all()

    monkeypatch.setattr(reminders, "_take", look)


def without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each reminder be another one to the database."""
    named = reminders._notice
    monkeypatch.setattr(
        reminders, "_notice", lambda row, minutes, **words: named(row, minutes, **words) | {"action_id": new_id()}
    )


def with_another_in_between(world: World, instant: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker look at what is due, another do all that it finds to do, and only then the first go on."""
    take = reminders._take
    looked: list[bool] = []

    def take_and_wait(session: Session, *, now: datetime, at_most: int) -> Any:
        found = take(session, now=now, at_most=at_most)
        if not looked:
            looked.append(True)
            remind(world, instant)
        return found

    monkeypatch.setattr(reminders, "_take", take_and_wait)
    remind(world, instant)


@pytest.mark.parametrize(
    ("taken_out", "times"),
    [((), 1), ((without_locks,), 1), ((without_names,), 1), ((without_locks, without_names), 2)],
    ids=["both", "names alone", "locks alone", "neither"],
)
def test_locks_and_names_each_keep_a_reminder_from_coming_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, taken_out: Any, times: int
) -> None:
    join = a_join(a_slot_ahead())
    at(world, EARLY, join.booked())
    for guard in taken_out:
        guard(monkeypatch)

    with_another_in_between(world, STARTS - HOUR + MINUTE, monkeypatch)

    assert len(reminded(world, join)) == times
