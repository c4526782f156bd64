"""What is swept at night."""

from datetime import timedelta
from typing import Any

import time_machine

from libs.common.clock import utcnow
from libs.common.tasks import perform
from libs.contracts.principals import Role
from services.admin.service import service
from tests.admin.builders import an_account, fail_to_sign_in, refresh, signed_in, trail
from tests.world import World


def upkeep(world: World, *, after: timedelta = timedelta(0)) -> Any:
    [task] = [task for task in service.tasks if task.name == "admin.upkeep"]
    with time_machine.travel(utcnow() + after):
        return perform(world.runtimes["admin"], task)


def test_ended_sessions_go_and_live_ones_stay(world: World) -> None:
    an_account(world)
    gone, stays = signed_in(world), signed_in(world)
    world.client.delete("/api/admin/sessions/current", headers=gone["headers"])

    done = upkeep(world)

    assert done["sessions"] == 1
    assert refresh(world, stays["refresh_token"]).status_code == 200


def test_expired_sessions_go(world: World) -> None:
    an_account(world)
    signed_in(world)

    assert upkeep(world, after=timedelta(days=6))["sessions"] == 0
    assert upkeep(world, after=timedelta(days=8))["sessions"] == 1


def test_failures_go_when_they_no_longer_count(world: World) -> None:
    fail_to_sign_in(world, "nobody")

    assert upkeep(world, after=timedelta(hours=20))["failed_sign_ins"] == 0
    assert upkeep(world, after=timedelta(hours=25))["failed_sign_ins"] == 2  # from the address, and from all


def test_published_events_go_after_a_day_and_the_memory_of_consumed_ones_after_a_month(world: World) -> None:
    an_account(world, role=Role.SUPER_ADMIN)  # for no hall that admin has to hear of first
    records = trail(world)

    assert upkeep(world) == {"sessions": 0, "exports": 0, "imports": 0, "failed_sign_ins": 0, "outbox": 0, "inbox": 0}
    assert upkeep(world, after=timedelta(days=2)) == {
        "sessions": 0,
        "exports": 0,
        "imports": 0,
        "failed_sign_ins": 0,
        "outbox": 1,
        "inbox": 0,
    }
    assert upkeep(world, after=timedelta(days=31))["inbox"] == 1
    assert trail(world) == records


def test_doing_it_again_changes_nothing(world: World) -> None:
    an_account(world)
    signed_in(world)
    upkeep(world, after=timedelta(days=31))

    assert set(upkeep(world, after=timedelta(days=31)).values()) == {0}
