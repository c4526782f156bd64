"""Dashboards: the figures that staff see of a range of days, and recounts that they ask for."""

from datetime import timedelta
from typing import Any

import pytest

from libs.common import tasks
from libs.common.ids import new_id
from libs.contracts.principals import Role
from services.notify.models import Recount
from tests.notify.builders import MORNING, a_hall_known_to, a_join, a_slot, hear
from tests.world import World

NOVEMBER = {"from": "2026-11-01", "to": "2026-11-30"}


def ask(world: World, headers: dict[str, str] | None = None, **query: Any) -> dict[str, Any]:
    answer = world.client.get("/api/notify/staff/dashboard", params=NOVEMBER | query, headers=headers or world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_dashboard_shows_what_became_of_joins_and_how_early_they_were_booked(world: World) -> None:
    slot = a_slot(capacity=10)
    joins = [a_join(slot, booked_at=MORNING - timedelta(hours=hours)) for hours in (0.5, 6, 12, 400)]
    hear(world, *(join.booked() for join in joins))
    hear(world, joins[0].checked_in(), joins[1].checked_in(), joins[2].checked_in(), joins[3].missed())
    left, gone = a_join(slot), a_join(slot)
    hear(world, left.booked(), left.cancelled(), gone.booked(), gone.revoked())

    found = ask(world)

    states = {
        "slots": 1,
        "booked": 4,
        "cancelled": 1,
        "revoked": 1,
        "checked_in": 3,
        "missed": 1,
        "capacity": 10,
        "fill_rate": 0.4,
        "no_show_rate": 0.25,
    }
    with_lead = states | {"lead_hours": (0.5 + 6 + 12 + 400) / 4}
    leads = [(1.0, 1), (24.0, 2), (72.0, 0), (168.0, 0), (336.0, 0), (None, 1)]
    assert found["total"] == with_lead | {
        "median_lead_hours": 12.5,  # in the middle of the class from 1 to 24 hours
        "leads": [{"below_hours": below, "booked": booked} for below, booked in leads],
    }
    assert found["days"] == [{"day": "2026-11-03"} | with_lead]
    assert found["halls"] == [{"hall_id": slot.hall_id} | with_lead]
    assert found["items"] == [{"hall_id": slot.hall_id, "item_id": slot.item_id} | with_lead]
    assert found["hours"] == [{"weekday": 2, "hour": 9} | states]  # 9:00 of a Tuesday in Shanghai
    assert (found["from"], found["to"]) == ("2026-11-01", "2026-11-30")


def test_a_range_is_compared_with_as_many_days_before_it(world: World) -> None:
    for days, people in ((0, 1), (-1, 2), (-7, 3), (-8, 4)):
        slot = a_slot(starts_at=MORNING + timedelta(days=days))
        hear(world, *(a_join(slot).booked() for _ in range(people)))

    week: dict[str, Any] = {"from": "2026-11-03", "to": "2026-11-09"}

    found = ask(world, **week)

    assert (found["total"]["booked"], found["before"]["booked"]) == (1, 2 + 3)


def test_items_come_by_their_bookings_and_hours_by_the_week(world: World) -> None:
    slow, busy = a_slot(), a_slot(starts_at=MORNING + timedelta(days=6, hours=5))
    hear(world, a_join(slow).booked(), *(a_join(busy).booked() for _ in range(3)))

    found = ask(world)

    assert [(line["item_id"], line["booked"]) for line in found["items"]] == [(busy.item_id, 3), (slow.item_id, 1)]
    assert [(line["weekday"], line["hour"], line["booked"]) for line in found["hours"]] == [(1, 14, 3), (2, 9, 1)]


def test_nothing_happened_means_no_rates(world: World) -> None:
    found = ask(world)

    rates = ("fill_rate", "no_show_rate", "lead_hours", "median_lead_hours")
    assert found["total"]["booked"] == 0
    assert [found["total"][name] for name in rates] == [None] * 4
    assert found["days"] == found["halls"] == found["items"] == found["hours"] == []


def test_a_dashboard_is_about_the_halls_of_the_account_and_those_asked_for(world: World) -> None:
    mine, foreign = a_slot(), a_slot()
    hear(world, a_join(mine).booked(), a_join(foreign).booked(), a_join(foreign).booked())
    admin = world.staff(Role.HALL_ADMIN, [mine.hall_id])

    assert ask(world)["total"]["booked"] == 3
    assert ask(world, hall_id=foreign.hall_id)["total"]["booked"] == 2
    assert ask(world, item_id=mine.item_id)["total"]["booked"] == 1
    assert ask(world, admin)["total"]["booked"] == 1
    assert ask(world, admin, hall_id=foreign.hall_id)["total"]["booked"] == 0


@pytest.mark.parametrize(
    ("first", "last"), [("2026-11-02", "2026-11-01"), ("2026-01-01", "2027-01-02"), ("1999-12-31", "2000-01-01")]
)
def test_a_range_that_is_none_is_refused(world: World, first: str, last: str) -> None:
    query = {"from": first, "to": last}
    answer = world.client.get("/api/notify/staff/dashboard", params=query, headers=world.staff())

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_range")


# --- recounts that staff ask for ---


def recount(world: World, headers: dict[str, str], hall_id: str | None = None) -> Any:
    return world.client.post("/api/notify/staff/recounts", json={"hall_id": hall_id}, headers=headers)


def test_staff_ask_for_a_recount_and_see_what_it_found(world: World) -> None:
    slot = a_slot()
    hear(world, a_join(slot).booked())
    admin = world.staff(Role.HALL_ADMIN, [slot.hall_id])

    asked = recount(world, admin)
    [task] = [task for task in world.runtimes["notify"].service.tasks if task.name == "notify.recount_asked"]
    tasks.perform(world.runtimes["notify"], task)

    assert (asked.status_code, asked.json()["state"], asked.json()["halls"]) == (202, "queued", [slot.hall_id])
    found = world.client.get(f"/api/notify/staff/recounts/{asked.json()['id']}", headers=admin).json()
    assert (found["state"], found["slots"], found["days"], found["differing"]) == ("done", 1, 1, 0)
    assert world.client.get("/api/notify/staff/recounts", headers=admin).json()["items"] == [found]


def test_who_has_asked_for_a_recount_waits_for_it(world: World) -> None:
    admin = world.staff(Role.HALL_ADMIN, [a_hall_known_to(world)])

    answers = [recount(world, admin), recount(world, admin), recount(world, world.staff())]

    assert [answer.status_code for answer in answers] == [202, 409, 202]
    assert answers[1].json()["code"] == "recount_under_way"


def test_a_hall_that_there_is_not_is_not_recounted(world: World) -> None:
    assert recount(world, world.staff(), a_slot().hall_id).status_code == 404


def test_an_account_without_halls_has_nothing_to_recount_and_shows_nobody_that_it_asked(world: World) -> None:
    nothing = {"slots": 0, "days": 0, "differing": 0, "differences": []}
    with world.runtimes["notify"].db.transaction() as session:  # as an earlier release accepted it
        session.add(Recount(id=new_id(), halls=[], state="done", asked_at=MORNING, **nothing))

    refused = recount(world, world.staff(Role.HALL_ADMIN, []))

    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_recount")
    other = world.staff(Role.HALL_ADMIN, [a_slot().hall_id])
    assert world.client.get("/api/notify/staff/recounts", headers=other).json()["items"] == []


def test_recounts_are_those_of_ones_own_halls(world: World) -> None:
    mine, foreign = a_slot().hall_id, a_slot().hall_id
    admin, other, boss = world.staff(Role.HALL_ADMIN, [mine]), world.staff(Role.HALL_ADMIN, [foreign]), world.staff()
    asked = recount(world, admin).json()["id"]
    recount(world, boss)

    refused = recount(world, admin, foreign)

    assert refused.status_code == 404
    assert world.client.get(f"/api/notify/staff/recounts/{asked}", headers=other).status_code == 404
    seen = [
        len(world.client.get("/api/notify/staff/recounts", headers=who).json()["items"]) for who in (admin, other, boss)
    ]
    assert seen == [1, 0, 2]
