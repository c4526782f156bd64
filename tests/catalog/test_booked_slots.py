"""Slots that people have booked, when staff edit their day."""

from datetime import UTC, date, datetime
from threading import Thread
from typing import Any

import time_machine
from sqlalchemy import select, text

from services.catalog.models import Day, Slot
from tests.catalog.builders import (
    AFTERNOON,
    API,
    MORNING,
    TOMORROW,
    a_day,
    a_hall,
    an_item,
    day_url,
    facts_of,
    refused,
    save,
    sent,
    shown,
    stat,
)
from tests.world import World, eventually


def test_the_times_of_slots_with_joins_change_only_when_that_is_confirmed(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]
    stat(world, morning, item, taken=2, booked=2)
    stat(world, afternoon, item, cancelled=1)
    earlier = (sent(morning, start="08:00", end="11:00", capacity=5), sent(afternoon, start="15:00"))

    answer = save(world, item, day, *earlier)
    in_chinese = world.client.put(
        day_url(item, TOMORROW),
        json={"slots": earlier},
        headers=world.staff() | {"If-Match": day["etag"], "Accept-Language": "zh"},
    )

    assert refused(answer, 409, "joins_ahead") == {"joins": 2, "days": [TOMORROW.isoformat()]}
    assert "confirm with accept_joins_ahead" in answer.json()["detail"]
    assert "有 2 人预约了要调整时间的时段" in in_chinese.json()["detail"]
    confirmed = world.client.put(
        day_url(item, TOMORROW),
        json={"slots": earlier, "accept_joins_ahead": True},
        headers=world.staff() | {"If-Match": day["etag"]},
    )
    assert [(slot["id"], slot["start"]) for slot in shown(confirmed)["slots"]] == [
        (morning["id"], "08:00"),
        (afternoon["id"], "15:00"),
    ]


def test_what_is_no_change_of_times_needs_no_confirmation(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    [morning] = day["slots"]
    stat(world, morning, item, taken=2, booked=2)

    edited = shown(save(world, item, day, sent(morning, capacity=1, status="closed"), AFTERNOON, note="请带证件"))

    assert [slot["start"] for slot in edited["slots"]] == ["09:00", "14:00"]


def test_who_waits_has_not_booked(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    [morning] = day["slots"]
    stat(world, morning, item, taken=30)  # all of it is for the line

    moved = shown(save(world, item, day, sent(morning, start="08:00")))
    deleted = shown(save(world, item, moved, AFTERNOON))

    assert [slot["start"] for slot in moved["slots"]] == ["08:00"]
    assert [slot["start"] for slot in deleted["slots"]] == ["14:00"]
    stat(world, morning, item, taken=30, version=2, slot_version=2)
    assert facts_of(world, morning)[-1]["deleted"]


def test_a_slot_with_joins_is_not_moved_into_the_past(world: World) -> None:
    on = date(2027, 3, 10)
    with time_machine.travel(datetime(2027, 3, 9, tzinfo=UTC)):
        item = an_item(world, a_hall(world))
        day = a_day(world, item, on, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]
    for slot in (morning, afternoon):
        stat(world, slot, item, taken=1, booked=1)

    def move(*slots: Any) -> Any:
        body = {"slots": slots, "accept_joins_ahead": True}
        return world.client.put(day_url(item, on), json=body, headers=world.staff() | {"If-Match": day["etag"]})

    with time_machine.travel(datetime(2027, 3, 10, 2, 30, tzinfo=UTC)):  # 10:30 at the hall: the morning is on
        over = refused(move(sent(morning, end="10:00"), sent(afternoon)), 409, "slot_in_past")
        begun = refused(move(sent(morning, start="08:30"), sent(afternoon)), 409, "slot_in_past")
        back = refused(
            move(sent(morning, end="09:30"), sent(afternoon, start="10:00", end="13:00")), 409, "slot_in_past"
        )
        longer = shown(move(sent(morning, end="13:00"), sent(afternoon)))

    assert over["slots"] == begun["slots"] == [{"id": morning["id"], "start": "09:00", "end": "12:00", "taken": 1}]
    assert [slot["id"] for slot in back["slots"]] == [morning["id"], afternoon["id"]]
    assert longer["slots"][0]["end"] == "13:00"


def test_a_slot_that_somebody_booked_is_closed_and_never_deleted(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]
    stat(world, morning, item, cancelled=1)

    params = refused(save(world, item, day, sent(afternoon)), 409, "slot_has_joins")
    closed = shown(save(world, item, day, sent(morning, status="closed"), sent(afternoon)))

    assert params == {"slots": [{"id": morning["id"], "start": "09:00", "end": "12:00", "taken": 0}]}
    assert closed["slots"][0]["status"] == "closed"
    public = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
    assert [slot["id"] for slot in public] == [afternoon["id"]]


def test_an_edit_leaves_the_stat_alone(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    slot = day["slots"][0]
    stat(world, slot, item, taken=4, booked=4, cancelled=2, revoked=1, checked_in=3, missed=0)

    edited = shown(save(world, item, day, sent(slot, capacity=2)))["slots"][0]

    assert (edited["capacity"], edited["capacity_in_force"], edited["remaining"], edited["state"]) == (2, 4, 0, "full")
    assert [edited[name] for name in ("taken", "booked", "cancelled", "revoked", "checked_in", "missed")] == [
        *(4, 4, 2, 1, 3, 0)
    ]


def test_a_deleted_slot_that_somebody_booked_meanwhile_comes_back_closed(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    slot = day["slots"][0]
    assert world.client.delete(day_url(item, TOMORROW), headers=world.staff()).status_code == 204

    stat(world, slot, item, taken=1, booked=1)

    back = shown(world.client.get(day_url(item, TOMORROW), headers=world.staff()))
    assert [(found["id"], found["status"], found["taken"]) for found in back["slots"]] == [(slot["id"], "closed", 1)]
    assert [(fact["version"], fact["deleted"], fact["status"]) for fact in facts_of(world, slot)] == [
        (1, False, "open"),
        (2, True, "open"),
        (3, False, "closed"),
    ]


def test_what_came_back_does_not_stand_in_the_way_of_the_day(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    old = day["slots"][0]
    halves = ({"start": "09:00", "end": "10:30"}, {"start": "10:30", "end": "12:00"})
    replaced = shown(save(world, item, day, *halves))
    stat(world, old, item, taken=1, booked=1)

    present = shown(world.client.get(day_url(item, TOMORROW), headers=world.staff()))
    edited = shown(save(world, item, present, *(sent(slot) for slot in present["slots"]), note="新"))
    reopened = save(world, item, edited, *(sent(slot, status="open") for slot in edited["slots"]))

    refused(save(world, item, replaced, *halves), 412, "changed_meanwhile")
    assert sorted(slot["start"] for slot in edited["slots"]) == ["09:00", "09:00", "10:30"]
    refused(reopened, 422, "periods_unfit")


def test_what_comes_back_waits_for_its_day_before_it_holds_a_slot(world: World) -> None:
    """Whoever edits the day holds it, and takes its slots next: the other way round both would wait for ever."""
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    old = day["slots"][0]
    save(world, item, day, AFTERNOON)
    hearing = Thread(target=lambda: stat(world, old, item, taken=1, booked=1))

    with world.runtimes["catalog"].db.transaction() as editing:
        editing.execute(select(Day).where(Day.item_id == item["id"]).with_for_update())
        hearing.start()
        eventually(lambda: editing.scalar(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")))
        editing.execute(select(Slot).where(Slot.id == old["id"]).with_for_update(nowait=True))
    hearing.join()

    assert facts_of(world, old)[-1]["deleted"] is False


def test_a_stat_without_joins_does_not_bring_a_deleted_slot_back(world: World) -> None:
    item = an_item(world, a_hall(world))
    slot = a_day(world, item, TOMORROW)["slots"][0]
    world.client.delete(day_url(item, TOMORROW), headers=world.staff())

    stat(world, slot, item)

    refused(world.client.get(day_url(item, TOMORROW), headers=world.staff()), 404, "not_found")
