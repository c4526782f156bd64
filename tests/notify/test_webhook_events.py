"""What webhooks are told."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine

from libs.common.clock import utcnow
from services.notify.models import Delivery, WebhookEvent
from services.notify.tasks import announce
from tests.common.receiver import Posted, Receiver, receiver
from tests.notify.builders import a_hall_known_to, a_join, a_slot, hear, message, rows
from tests.notify.builders import deliver as hand_over
from tests.notify.hooking import ELSEWHERE, HERE, a_hook, carry, changed, verified
from tests.notify.test_announcements import STAFF as ANNOUNCEMENTS
from tests.notify.test_announcements import written
from tests.world import World


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose webhooks may be on this machine."""
    return make_world(**HERE)


def events_of(posted: list[Posted]) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in posted]


def test_a_booking_is_told_signed_and_without_anything_personal(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, f"{theirs.address}/hook?key=1")
    join = a_join(a_slot(capacity=10), hall_name="天河政务中心")
    heard = message(join.booked())

    hand_over(world, heard)

    assert carry(world) == 1
    [posted] = theirs.posted
    event = verified(posted, hook["secret"])
    assert posted.path == "/hook?key=1"
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["webhook-id"] == event["id"] == heard.id
    assert {name: event[name] for name in ("specversion", "type", "subject", "version")} == {
        "specversion": "1.0",
        "type": "join.booked",
        "subject": join.id,
        "version": 1,
    }
    assert datetime.fromisoformat(event["time"]) == heard.time
    assert event["data"] | {"action_id": None} == {
        "join_id": join.id,
        "party_id": join.party_id,
        "action_id": None,
        "people": 1,
        "hall_id": join.slot.hall_id,
        "item_id": join.slot.item_id,
        "slot_id": join.slot.id,
        "date": "2026-11-03",
        "start": "09:00",
        "end": "10:00",
        "starts_at": "2026-11-03T01:00:00Z",
        "ends_at": "2026-11-03T02:00:00Z",
        "timezone": "Asia/Shanghai",
        "status": "booked",
        "booked_at": "2026-11-02T01:00:00Z",
        "checked_in_at": None,
        "missed_at": None,
        "slot": {"slot_id": join.slot.id, "taken": 1, "capacity": 10, "version": 1},
        "restored": False,
    }
    assert join.user_id not in posted.body.decode()


def test_what_staff_wrote_to_the_user_is_not_told(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address, events=["join.revoked"])
    join = a_join()

    hear(world, join.booked(), join.revoked(reason="张三的证件有误"))
    carry(world)

    [event] = events_of(theirs.posted)
    assert event["data"]["status"] == "revoked"
    assert "张三" not in theirs.posted[0].body.decode()


def test_each_kind_is_told_to_who_has_chosen_it(world: World, theirs: Receiver) -> None:
    slot, other = a_slot(), a_slot()
    join = a_join(slot)
    kinds = ["join.moved", "join.checked_in", "join.check_in_undone", "join.missed", "slot.stat_changed"]
    a_hook(world, theirs.address, events=kinds)

    hear(world, join.booked(), join.moved(other), join.checked_in(), join.check_in_undone(), join.missed())
    carry(world)

    told = events_of(theirs.posted)
    by_type = [event["type"] for event in told if event["type"] != "slot.stat_changed"]
    stats = [event["data"] for event in told if event["type"] == "slot.stat_changed" and event["subject"] == other.id]
    assert by_type == ["join.moved", "join.checked_in", "join.check_in_undone", "join.missed"]
    assert [(stat["booked"], stat["checked_in"], stat["missed"]) for stat in stats] == [
        (1, 0, 0),
        (1, 1, 0),
        (1, 0, 0),
        (1, 0, 1),
    ]
    moved = next(event["data"] for event in told if event["type"] == "join.moved")
    assert (moved["slot_id"], moved["left"]["slot_id"], moved["left"]["taken"]) == (other.id, slot.id, 0)


def test_announcements_are_told_when_they_are_published_and_when_they_are_not_any_more(
    world: World, theirs: Receiver
) -> None:
    hall = a_hall_known_to(world)
    a_hook(world, theirs.address, hall_id=hall, events=["announcement.published", "announcement.withdrawn"])
    body = {
        "hall_id": hall,
        "title": "国庆放假",
        "summary": "国庆期间暂停服务，请您留意。",
        "content": "略",
        "status": "draft",
    }
    staff = world.staff()
    made = world.client.post("/api/notify/staff/announcements", json=body, headers=staff).json()
    address = f"/api/notify/staff/announcements/{made['id']}"

    for change in ({"title": "国庆放假安排"}, {"status": "published"}, {"order": 1}, {"status": "draft"}):
        assert world.client.patch(address, json=change, headers=staff).status_code == 200
    world.client.patch(address, json={"status": "published"}, headers=staff)
    world.client.delete(address, headers=staff)
    carry(world)

    told = events_of(theirs.posted)
    assert [(event["type"].split(".")[1], event["version"]) for event in told] == [
        ("published", 3),
        ("published", 4),
        ("withdrawn", 5),
        ("published", 6),
        ("withdrawn", 6),
    ]
    assert told[0]["data"]["title"] == "国庆放假安排"


def test_an_announcement_with_a_date_is_told_of_when_it_comes_out(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address, events=["announcement.published", "announcement.withdrawn"])
    soon = utcnow() + timedelta(hours=1)
    made, never = (written(world, publish_at=soon.isoformat()) for _ in range(2))
    world.client.delete(f"{ANNOUNCEMENTS}/{never['id']}", headers=world.staff())

    def told(at: datetime) -> list[tuple[str, str]]:
        with time_machine.travel(at, tick=False):
            announce(world.runtimes["notify"])
            carry(world)
        return [(event["type"], event["subject"]) for event in events_of(theirs.posted)]

    before, after, later = (told(soon + timedelta(minutes=minutes)) for minutes in (-1, 1, 2))

    assert (before, after, later) == ([], [("announcement.published", made["id"])], after)


def test_a_withdrawn_announcement_says_nothing_of_its_draft(world: World, theirs: Receiver) -> None:
    made = written(world)
    a_hook(world, theirs.address, events=["announcement.withdrawn"])
    change = {"status": "draft", "title": "尚未公布的消息"}
    world.client.patch(f"{ANNOUNCEMENTS}/{made['id']}", json=change, headers=world.staff())

    carry(world)

    [event] = events_of(theirs.posted)
    assert event["data"] == {"announcement_id": made["id"], "hall_id": None}


def test_a_webhook_of_a_hall_is_told_of_that_hall_and_one_of_all_is_told_of_all(world: World) -> None:
    here, there = a_slot(), a_slot()
    with receiver() as of_hall, receiver() as of_all:
        hear(world, here.hall())
        a_hook(world, of_hall.address, hall_id=here.hall_id)
        a_hook(world, of_all.address)

        hear(world, a_join(here).booked(), a_join(there).booked(), at_once=2)
        carry(world)

    assert [event["data"]["slot_id"] for event in events_of(of_hall.posted)] == [here.id]
    assert [event["data"]["slot_id"] for event in events_of(of_all.posted)] == [here.id, there.id]
    ids = [posted.headers["webhook-id"] for posted in of_all.posted]
    assert [posted.headers["webhook-id"] for posted in of_hall.posted] == ids[:1]


def test_what_is_heard_twice_or_replayed_is_told_once(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    heard = message(a_join().booked())

    hand_over(world, heard)
    hand_over(world, heard, message(a_join().booked(), replayed=True))
    carry(world)

    assert [event["id"] for event in events_of(theirs.posted)] == [heard.id]


def test_without_webhooks_nothing_is_kept_for_them(world: World) -> None:
    off = a_hook(world, ELSEWHERE)
    changed(world, off, status="disabled")
    a_hook(world, ELSEWHERE, events=["join.missed"])

    hear(world, a_join().booked())

    assert rows(world, WebhookEvent) == []
    assert rows(world, Delivery, channel="webhook") == []
