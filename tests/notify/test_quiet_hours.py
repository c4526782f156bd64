"""Quiet hours of a hall: what leaves the house then waits, and what the inbox shows does not."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from sqlalchemy.orm import Session

from libs.common.ids import new_id
from libs.common.service import Runtime
from libs.contracts.booking import WaitOffered
from libs.contracts.catalog import QuietHours
from services.notify import ways
from services.notify.channel import Told, Wanted
from services.notify.models import Delivery, Notice, Recipient
from tests.notify.builders import Join, Slot, a_join, a_slot, hear, kinds_told, rows
from tests.notify.test_announcements import written
from tests.world import World

MIDNIGHT = datetime(2027, 3, 9, 16, tzinfo=UTC)  # of 10 March in Shanghai
SEVEN = MIDNIGHT + timedelta(hours=7)
NIGHT = QuietHours(start=time(22), end=time(7))


class Loft:
    """A way by which every notice is wanted."""

    NAME = "pigeon"

    def wanted(self, session: Session, told: Sequence[Told], by_user: Mapping[str, Recipient]) -> Iterable[Wanted]:
        return [Wanted(one, self.NAME) for one in told]

    def channel(self, runtime: Runtime) -> None:
        """It stays in its loft."""


@pytest.fixture(autouse=True)
def loft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "WAYS", (Loft(),))


def a_slot_at(world: World, starts_at: datetime, quiet: QuietHours | None = NIGHT) -> Slot:
    """Return a slot of a hall whose quiet hours notify knows."""
    slot = a_slot(starts_at=starts_at)
    hear(world, slot.hall(quiet_hours=quiet), slot.item(reminders=[90]))
    return slot


def goes_out(world: World, now: datetime, *joins_told: Any) -> list[tuple[datetime, datetime | None]]:
    """Let notify hear facts at an instant; return when what they made goes out, and until when it is good."""
    with time_machine.travel(now, tick=False):
        hear(world, *joins_told)
    return [(row["due_at"], row["good_until"]) for row in rows(world, Delivery)]


def test_at_night_a_notice_waits_for_the_morning_and_lies_in_the_inbox_at_once(world: World) -> None:
    join = a_join(a_slot_at(world, SEVEN + timedelta(days=1)))

    assert goes_out(world, MIDNIGHT, join.booked()) == [(SEVEN, None)]
    assert kinds_told(world, join.user_id) == ["booked"]


@pytest.mark.parametrize("quiet", [None, QuietHours(start=time(1), end=time(7))])
def test_what_comes_when_it_is_not_quiet_goes_out_at_once(world: World, quiet: QuietHours | None) -> None:
    join = a_join(a_slot_at(world, SEVEN + timedelta(days=1), quiet))

    assert goes_out(world, MIDNIGHT, join.booked()) == [(MIDNIGHT, None)]


@pytest.mark.parametrize("change", [Join.booked, Join.revoked])
@pytest.mark.parametrize(
    ("minutes", "sent"), [(-30, MIDNIGHT), (0, MIDNIGHT), (5, MIDNIGHT), (59, MIDNIGHT), (60, SEVEN)]
)
def test_what_is_about_a_slot_before_the_morning_or_within_its_first_hour_goes_out_at_once(
    world: World, change: Any, minutes: int, sent: datetime
) -> None:
    join = a_join(a_slot_at(world, SEVEN + timedelta(minutes=minutes)))

    assert goes_out(world, MIDNIGHT, change(join)) == [(sent, None)]


def test_who_would_come_by_the_old_times_is_told_of_the_new_at_once(world: World) -> None:
    early = SEVEN - timedelta(minutes=30)
    slot = a_slot_at(world, early)
    hear(world, slot.defined(version=1))
    slot.definition = 1
    join = a_join(slot)

    found = goes_out(world, MIDNIGHT, join.booked(), slot.defined(version=2, starts_at=early + timedelta(hours=5)))

    assert found == [(MIDNIGHT, None), (MIDNIGHT, None)]


def test_what_is_over_is_told_in_the_morning(world: World) -> None:
    join = a_join(a_slot_at(world, MIDNIGHT - timedelta(hours=3)))

    assert goes_out(world, MIDNIGHT, join.missed()) == [(SEVEN, None)]


def test_a_reminder_is_good_until_its_slot_starts(world: World) -> None:
    starts_at = SEVEN + timedelta(minutes=60)
    join = a_join(a_slot_at(world, starts_at))
    runtime = world.runtimes["notify"]
    remind = next(task for task in runtime.service.tasks if task.name == "notify.remind")
    with time_machine.travel(MIDNIGHT - timedelta(hours=1), tick=False):
        hear(world, join.booked())

    with time_machine.travel(SEVEN - timedelta(minutes=29), tick=False):
        remind.run(runtime)

    booked, reminder = (SEVEN, None), (SEVEN, starts_at)
    assert {(row["due_at"], row["good_until"]) for row in rows(world, Delivery)} == {booked, reminder}


@pytest.mark.parametrize(
    ("minutes", "sent"), [(30, MIDNIGHT), (7 * 60, MIDNIGHT), (8 * 60 - 1, MIDNIGHT), (8 * 60, SEVEN)]
)
def test_an_offer_that_is_over_before_the_morning_goes_out_at_once(world: World, minutes: int, sent: datetime) -> None:
    slot = a_slot_at(world, SEVEN + timedelta(days=1))
    until = MIDNIGHT + timedelta(minutes=minutes)

    assert goes_out(world, MIDNIGHT, an_offer(slot, until)) == [(sent, until)]


def an_offer(slot: Slot, until: datetime) -> WaitOffered:
    """Return that places are held until then for somebody who waits."""
    join = a_join(slot).booked()
    shared = WaitOffered.model_fields.keys() & type(join).model_fields.keys() - {"version"}
    about = {name: getattr(join, name) for name in shared}
    return WaitOffered(**about, wait_id=new_id(), version=2, offered_until=until)


def test_news_to_everybody_waits_for_the_morning_of_the_hall_where_each_user_goes_last(world: World) -> None:
    tomorrow = SEVEN + timedelta(days=1)
    quiet, awake = a_slot_at(world, tomorrow), a_slot_at(world, tomorrow + timedelta(hours=1), None)
    sleeper, waker = a_join(quiet), a_join(awake)
    both = [a_join(awake), a_join(a_slot_at(world, tomorrow + timedelta(days=1)))]
    both[1].user_id = both[0].user_id
    runtime = world.runtimes["notify"]
    announce = next(task for task in runtime.service.tasks if task.name == "notify.announce")
    with time_machine.travel(MIDNIGHT, tick=False):
        hear(world, *(join.booked() for join in (sleeper, waker, *both)))
        written(world, tell={"upcoming": True})

        announce.run(runtime)

    told = {row["id"]: row["user_id"] for row in rows(world, Notice, kind="announcement")}
    due = {told[row["notice_id"]]: row["due_at"] for row in rows(world, Delivery) if row["notice_id"] in told}
    assert due == {sleeper.user_id: SEVEN, waker.user_id: MIDNIGHT, both[0].user_id: SEVEN}
