"""SIGKILL for workers that send reminders: everybody is reminded once, and nobody is left out."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from libs.common.clock import utcnow
from libs.common.ids import new_id
from services.notify.models import Hall, Item, JoinRecord, Notice
from tests.conftest import Cluster
from tests.faults.forks import Forks, Worker
from tests.faults.repeating import beating
from tests.world import World, eventually

REMINDERS = int(os.environ.get("HALLPASS_TEST_REMINDERS", "1000"))  # joins
WORKERS = 4
KILLED = 2
PEOPLE = 2  # of each party
SLOT = 100  # joins in each slot
WITHIN_S = 6  # in so many seconds, from soon on, all of them come due

pytestmark = pytest.mark.timeout(300 + REMINDERS // 50)


@pytest.fixture
def world(cluster: Cluster) -> Iterator[World]:
    with cluster.world() as world:
        yield world


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    with Forks(tmp_path / "forks.log") as forks:
        yield forks


def test_everybody_is_reminded_once_while_two_of_four_workers_are_killed(
    world: World, forks: Forks, tmp_path: Path
) -> None:
    workers = [
        Worker(forks, world, **at_failpoint(tmp_path / f"died-{number}") if number < KILLED else {})
        for number in range(WORKERS)
    ]
    died: list[Path] = []
    users: list[str] = []
    began = time.monotonic()

    with beating(world, "notify.remind", 0.1):
        while len(died) < KILLED:  # the others may have done all before one of those that are to die has started
            users += due_within_a_moment(world)
            eventually(lambda: waiting(world) == 0, timeout_s=120 + REMINDERS / 100)
            died = list(tmp_path.glob("died-*"))
    took = time.monotonic() - began

    for worker in workers[KILLED:]:
        worker.kill()
    print(f"{len(users)} reminders in {took:.1f} s, {len(died)} workers killed at work")
    assert reminded(world) == Counter(users)


def due_within_a_moment(world: World) -> list[str]:
    """Let joins come due, one after another; return their users."""
    now = utcnow()
    hall_id, item_id = new_id(), new_id()
    users = [new_id() for _ in range(REMINDERS // PEOPLE)]
    slots = [new_id() for _ in range(REMINDERS // SLOT)]
    records = [
        {
            "join_id": new_id(),
            "party_id": user,
            "user_id": user,
            "slot_id": slots[number % len(slots)],
            "item_id": item_id,
            "hall_id": hall_id,
            "day": now.date(),
            "starts_at": (starts_at := now + timedelta(hours=1, seconds=1 + WITHIN_S * number / len(users))),
            "ends_at": starts_at + timedelta(hours=1),
            "status": "booked",
            "booked_at": now - timedelta(days=3),
            "version": 1,
            "next_reminder_at": starts_at - timedelta(hours=1),
        }
        for number, user in enumerate(users)
        for _ in range(PEOPLE)
    ]
    with world.runtimes["notify"].db.transaction() as session:
        session.add(Hall(id=hall_id, name="天河政务中心", timezone="Asia/Shanghai", version=1))
        session.add(Item(id=item_id, hall_id=hall_id, title="护照办理", reminders=[1440, 60], version=1))
        session.flush()
        session.execute(insert(JoinRecord), records)
    return users


def at_failpoint(died: Path) -> dict[str, str]:
    return {"HALLPASS_FAILPOINT": f"reminders.told:{died}"}


def waiting(world: World) -> int:
    with world.runtimes["notify"].db.transaction() as session:
        return session.scalar(select(func.count()).where(JoinRecord.next_reminder_at.is_not(None))) or 0


def reminded(world: World) -> Counter[str]:
    with world.runtimes["notify"].db.transaction() as session:
        return Counter(session.scalars(select(Notice.user_id).where(Notice.kind == "reminder")))
