"""Webhooks: who may name an address, what it is told, how it is called, and what becomes of one that fails."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from sqlalchemy import text

from deploy.loops import Loops
from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.outbox import OutboxRow
from libs.contracts.principals import Role
from services.notify.channels.webhook import DELAYS_S, OF_ONE, OF_UNWELL, rest_s
from services.notify.metrics import DELIVERIES
from services.notify.models import Delivery, Webhook, WebhookEvent
from services.notify.tasks import announce, upkeep
from services.notify.webhooks import Allowed, HttpsNeeded
from tests.common.receiver import Exchange, Posted, Receiver, receiver
from tests.notify.builders import a_hall_known_to, a_join, a_slot, hear, message, rows
from tests.notify.builders import deliver as hand_over
from tests.notify.hooking import (
    HERE,
    HOOKS,
    a_hook,
    admin_of,
    carrier,
    carry,
    changed,
    listed,
    ping,
    shown,
    verified,
)
from tests.notify.test_announcements import STAFF as ANNOUNCEMENTS
from tests.notify.test_announcements import written
from tests.world import World, eventually, simultaneously

ELSEWHERE = "https://hooks.example/hallpass"


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose webhooks may be on this machine."""
    return make_world(**HERE)


@pytest.fixture
def theirs() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def events_of(posted: list[Posted]) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in posted]


def later(after: timedelta) -> Callable[[], datetime]:
    return lambda: utcnow() + after


def audited(world: World) -> list[dict[str, Any]]:
    found = rows(world, OutboxRow, type="audit.recorded")
    return [row["data"] for row in sorted(found, key=lambda row: row["position"])]


# --- what they are told ---


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


# --- calling them ---


def failing(status: int) -> Callable[[Exchange, Posted], None]:
    return lambda exchange, _: exchange.answer(status, "no \x00thank you")


def test_who_fails_is_called_again_with_the_same_id_until_it_answers(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(503)
    hear(world, a_join().booked())

    assert carry(world) == 1
    assert carry(world) == 0, "not before it is due"
    assert carry(world, clock=later(timedelta(seconds=DELAYS_S[0] + 1))) == 1
    theirs.behaviour = lambda exchange, _: exchange.answer(204)
    assert carry(world, clock=later(timedelta(seconds=DELAYS_S[0] + DELAYS_S[1] + 2))) == 1

    assert len({posted.headers["webhook-id"] for posted in theirs.posted}) == 1
    for posted in theirs.posted:
        verified(posted, hook["secret"])
    [delivery] = listed(world, hook, "deliveries")
    assert (delivery["state"], delivery["attempts"], delivery["answer"]) == ("sent", 3, "")
    calls = listed(world, hook, "attempts")
    assert [(call["number"], call["status"], call["answer"]) for call in calls] == [
        (3, 204, ""),
        (2, 503, "no thank you"),
        (1, 503, "no thank you"),
    ]
    assert {call["delivery_id"] for call in calls} == {delivery["id"]}
    assert shown(world, hook)["failures"] == 0


def test_an_event_is_given_up_after_about_a_day(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())

    passed = timedelta()
    carry(world)
    for delay in DELAYS_S:
        passed += timedelta(seconds=delay + 1)
        assert carry(world, clock=later(passed)) == 1

    assert timedelta(hours=24) < passed < timedelta(hours=28)
    [delivery] = listed(world, hook, "deliveries", state="failed")
    assert (delivery["attempts"], delivery["answer"]) == (len(DELAYS_S) + 1, "answered 500")
    assert carry(world, clock=later(passed * 2)) == 0


@pytest.mark.parametrize(
    ("behave", "status", "reason"),
    [
        (lambda exchange, _: exchange.hang(), None, "too_slow"),
        (lambda exchange, _: exchange.trickle(), None, "too_slow"),
        (lambda exchange, _: exchange.break_off(), None, "broken_off"),
        (lambda exchange, _: exchange.flood(b"heads"), None, "answer_too_large"),
        (lambda exchange, _: exchange.answer(302, Location="http://127.0.0.1/"), 302, ""),
        (lambda exchange, _: exchange.answer(404), 404, ""),
    ],
)
def test_what_is_no_success_is_tried_again_and_logged(
    world: World, theirs: Receiver, behave: Any, status: int | None, reason: str
) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = behave
    hear(world, a_join().booked())

    assert carry(world) == 1

    [call] = listed(world, hook, "attempts")
    assert (call["status"], call["reason"]) == (status, reason)
    assert call["duration_ms"] < 5000
    [delivery] = listed(world, hook, "deliveries")
    assert (delivery["state"], delivery["answer"]) == ("queued", reason or f"answered {status}")


def test_a_success_that_goes_on_for_ever_is_one(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = lambda exchange, _: exchange.flood(b"body")
    hear(world, a_join().booked())

    carry(world)

    [call] = listed(world, hook, "attempts")
    assert (call["status"], call["answer"]) == (200, "x" * 1000)
    assert listed(world, hook, "deliveries")[0]["state"] == "sent"


def test_410_disables_it_for_good(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(410)
    hear(world, *(a_join().booked() for _ in range(3)))

    assert carry(world) == 1

    found = shown(world, hook)
    assert (found["status"], found["disabled_reason"]) == ("disabled", "gone")
    assert {(row["state"], row["attempts"]) for row in listed(world, hook, "deliveries")} == {
        ("failed", 1),
        ("failed", 0),
    }
    told = audited(world)[-1]
    assert (told["action"], told["actor_id"], told["after"]["disabled_reason"]) == (
        "webhook.disabled",
        "hallpass",
        "gone",
    )
    hear(world, a_join().booked())
    assert len(listed(world, hook, "deliveries")) == 3


def test_who_fails_for_three_days_is_disabled_and_can_be_made_active_again(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())
    carry(world)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET failing_since = failing_since - interval '73 hours'"))
    carry(world, clock=later(timedelta(minutes=1)))
    found = shown(world, hook)
    assert (found["status"], found["disabled_reason"], found["failures"]) == ("disabled", "failing", 2)

    theirs.behaviour = lambda exchange, _: exchange.answer(200)
    again = changed(world, hook, status="active")
    hear(world, a_join().booked())

    assert (again["disabled_reason"], again["failures"], again["failing_since"]) == (None, 0, None)
    assert carry(world) == 1


def test_another_address_does_not_answer_for_the_failures_of_the_one_before(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())
    carry(world)
    was = shown(world, hook)

    theirs.behaviour = lambda exchange, _: exchange.answer(200)
    found = changed(world, hook, url=f"{theirs.address}/mended")
    hear(world, a_join().booked())

    assert (was["failures"], found["failures"], found["failing_since"]) == (1, 0, None)
    assert carry(world) == 1  # at once: what is told to it for the first time does not wait for the rest of the other


def test_who_fails_is_left_alone_for_longer_each_time(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    theirs.behaviour = failing(500)
    hear(world, *(a_join().booked() for _ in range(5)))

    assert carry(world) == 1, "one failure keeps the others waiting"
    assert [rest_s(failures) for failures in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]


def test_who_asks_for_time_is_given_some(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    theirs.behaviour = lambda exchange, _: exchange.answer(429, Retry_After="120")
    hear(world, a_join().booked())

    carry(world)

    [delivery] = listed(world, hook, "deliveries")
    due = datetime.fromisoformat(delivery["due_at"]) - utcnow()
    assert timedelta(seconds=100) < due <= timedelta(seconds=120)


def test_a_private_address_is_never_called(make_world: Callable[..., World], theirs: Receiver) -> None:
    world = make_world()
    hook = a_hook(world, f"http://localhost:{theirs.port}/")
    hear(world, a_join().booked())

    assert carry(world) == 1

    assert [call["reason"] for call in listed(world, hook, "attempts")] == ["private_address"]
    assert theirs.posted == []


def test_two_that_hang_delay_no_third(world: World, theirs: Receiver) -> None:
    joins = [a_join().booked() for _ in range(20)]
    with (
        receiver(lambda exchange, _: exchange.hang()) as first,
        receiver(lambda exchange, _: exchange.hang()) as second,
    ):
        for address in (first.address, second.address, theirs.address):
            a_hook(world, address)
        sender = carrier(world)
        loops = Loops([sender] * sender.channel.at_once)
        loops.start()
        hear(world, *joins, at_once=20)
        theirs.wait_for(20, timeout_s=5)

        assert len(first.posted) <= OF_ONE + 1
        assert len(second.posted) <= OF_ONE + 1
        loops.stop()


def test_one_address_is_called_for_a_few_events_at_a_time(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    hear(world, *(a_join().booked() for _ in range(OF_ONE + 2)))
    sender = carrier(world)

    taken = [sender.take() for _ in range(OF_ONE + 1)]
    assert taken[:OF_ONE] == [one for one in taken if one is not None]
    assert taken[OF_ONE] is None

    for one in taken[:OF_ONE]:
        assert one is not None
        sender.carry(one)
    assert carry(world) == 2


def test_a_slow_address_is_called_for_one_event_at_a_time(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET last_ms = 3000"))
    hear(world, *(a_join().booked() for _ in range(3)))
    sender = carrier(world)

    assert [sender.take() is None for _ in range(2)] == [False, True]


def test_however_many_are_slow_leave_calls_for_the_others(world: World) -> None:
    slow = [a_hook(world, f"{ELSEWHERE}/{index}")["id"] for index in range(OF_UNWELL + 2)]
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET last_ms = 3000"))
    hear(world, *(a_join().booked() for _ in range(3)))
    well = a_hook(world, ELSEWHERE)["id"]
    hear(world, a_join().booked())
    sender = carrier(world)

    called = []
    while (taken := sender.take()) is not None:
        called.append(taken.delivering.announced.webhook_id)

    assert called.count(well) == 1
    assert len(called) == len(set(called)) == OF_UNWELL + 1
    assert set(called) <= {well, *slow}


def test_addresses_take_turns_however_much_waits_for_one(world: World, theirs: Receiver) -> None:
    busy = a_hook(world, theirs.address)["id"]
    hear(world, *(a_join().booked() for _ in range(4)))
    quiet = a_hook(world, theirs.address)["id"]
    hear(world, a_join().booked(), a_join().booked())
    sender = carrier(world)

    called = []
    while (taken := sender.take()) is not None:
        called.append(taken.delivering.announced.webhook_id)
        sender.carry(taken)

    assert called[:4] == [busy, quiet, busy, quiet]
    assert called[4:] == [busy] * 4


def test_a_process_that_dies_while_it_calls_has_the_event_sent_again(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())

    for minutes in (0, 2, 4):
        assert carrier(world, clock=later(timedelta(minutes=minutes))).take() is not None  # and dies with it
    assert carry(world, clock=later(timedelta(minutes=6))) == 1

    [delivery] = listed(world, hook, "deliveries")
    assert (delivery["state"], delivery["attempts"], delivery["possibly_twice"]) == ("sent", 4, True)


# --- trying out, and sending again ---


def test_a_ping_is_sent_whatever_was_chosen(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)

    pinged = ping(world, hook)
    carry(world)

    event = verified(theirs.posted[0], hook["secret"])
    assert (event["type"], event["data"]) == ("ping", {"webhook_id": hook["id"]})
    assert event == pinged["event"]
    assert [call["delivery_id"] for call in listed(world, hook, "attempts")] == [pinged["id"]]


def test_an_event_is_sent_again_with_its_id_on_request(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())
    carry(world)
    [sent] = listed(world, hook, "deliveries")

    answer = world.client.post(f"{HOOKS}/{hook['id']}/deliveries/{sent['id']}/resend", headers=world.staff())
    carry(world)

    assert answer.status_code == 202
    again = answer.json()
    assert (again["state"], again["event"]) == ("queued", sent["event"])
    first, second = theirs.posted
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [row["id"] for row in listed(world, hook, "deliveries")] == [again["id"], sent["id"]]
    assert [call["delivery_id"] for call in listed(world, hook, "attempts", delivery_id=sent["id"])] == [sent["id"]]
    assert audited(world)[-1]["action"] == "webhook.resent"


def test_a_disabled_one_is_sent_nothing(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())
    changed(world, hook, status="disabled")
    [waiting] = listed(world, hook, "deliveries")
    asked = [f"{HOOKS}/{hook['id']}/ping", f"{HOOKS}/{hook['id']}/deliveries/{waiting['id']}/resend"]

    answers = [world.client.post(path, headers=world.staff()) for path in asked]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "webhook_disabled")] * 2
    assert (waiting["state"], waiting["answer"]) == ("failed", "the webhook was disabled")
    assert carry(world) == 0
    assert shown(world, hook)["disabled_reason"] == "by_staff"


# --- secrets ---


def test_the_secret_is_shown_once_and_lies_sealed(world: World) -> None:
    hook = a_hook(world, ELSEWHERE)

    listing = world.client.get(HOOKS, headers=world.staff())

    assert hook["secret"].startswith("whsec_")
    assert "whsec_" not in listing.text
    assert "secret" not in shown(world, hook)
    [row] = rows(world, Webhook)
    assert hook["secret"].encode() not in row["secret_sealed"]
    assert hook["secret"] not in json.dumps(audited(world))


def test_both_secrets_sign_while_they_overlap(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)

    answer = world.client.post(f"{HOOKS}/{hook['id']}/secret", json={}, headers=world.staff())
    ping(world, hook)
    carry(world)

    new = answer.json()["secret"]
    assert new != hook["secret"]
    verified(theirs.posted[0], new, hook["secret"])
    until = datetime.fromisoformat(shown(world, hook)["old_secret_until"]) - utcnow()
    assert timedelta(hours=23) < until <= timedelta(hours=24)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET old_secret_until = now() - interval '1 second'"))
    ping(world, hook)
    carry(world)
    verified(theirs.posted[1], new)


def test_a_secret_that_is_known_to_others_ends_at_once(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)

    answer = world.client.post(f"{HOOKS}/{hook['id']}/secret", json={"overlap_hours": 0}, headers=world.staff())
    ping(world, hook)
    carry(world)

    verified(theirs.posted[0], answer.json()["secret"])
    assert audited(world)[-1]["action"] == "webhook.secret_rotated"


# --- naming them ---


def test_a_hall_admin_has_webhooks_of_their_halls_alone(world: World) -> None:
    mine, theirs = a_hall_known_to(world), a_hall_known_to(world)
    me = admin_of(world, mine)
    own = a_hook(world, ELSEWHERE, hall_id=mine, headers=me)
    foreign, of_all = a_hook(world, ELSEWHERE, hall_id=theirs), a_hook(world, ELSEWHERE)

    def made(hall_id: str | None) -> tuple[int, str]:
        body = {"hall_id": hall_id, "url": ELSEWHERE, "events": ["join.booked"]}
        answer = world.client.post(HOOKS, json=body, headers=me)
        return answer.status_code, answer.json()["code"]

    seen = [world.client.get(f"{HOOKS}/{hook['id']}/deliveries", headers=me) for hook in (foreign, of_all)]

    assert (made(theirs), made(None)) == ((404, "not_found"), (403, "role_forbids"))
    assert [hook["id"] for hook in world.client.get(HOOKS, headers=me).json()["items"]] == [own["id"]]
    assert [answer.status_code for answer in seen] == [404, 404]
    assert len(world.client.get(HOOKS, headers=world.staff()).json()["items"]) == 3
    by_hall = world.client.get(HOOKS, params={"hall_id": theirs}, headers=world.staff()).json()["items"]
    assert [hook["id"] for hook in by_hall] == [foreign["id"]]


def test_a_delivery_of_another_webhook_is_not_resent(world: World, theirs: Receiver) -> None:
    one, other = a_hook(world, theirs.address), a_hook(world, theirs.address, events=["join.missed"])
    hear(world, a_join().booked())
    [delivery] = listed(world, one, "deliveries")

    answer = world.client.post(f"{HOOKS}/{other['id']}/deliveries/{delivery['id']}/resend", headers=world.staff())

    assert answer.status_code == 404


def test_an_edit_of_what_somebody_else_has_changed_is_refused(world: World) -> None:
    hook = a_hook(world, ELSEWHERE)
    address = f"{HOOKS}/{hook['id']}"
    loaded = world.client.get(address, headers=world.staff()).headers["etag"]

    def edited(**change: Any) -> Any:
        return world.client.patch(address, json=change, headers=world.staff() | {"If-Match": loaded})

    first, second = edited(description="CRM"), edited(description="ERP")
    gone = world.client.delete(address, headers=world.staff() | {"If-Match": loaded})

    assert first.status_code == 200
    assert first.headers["etag"] != loaded
    assert [(answer.status_code, answer.json()["code"]) for answer in (second, gone)] == [
        (412, "changed_meanwhile")
    ] * 2


def test_a_deleted_one_is_gone_with_its_log(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked(), a_join().booked())
    carrier(world).take()  # one is on its way

    answer = world.client.delete(f"{HOOKS}/{hook['id']}", headers=world.staff())

    assert answer.status_code == 204
    assert rows(world, Delivery) == []
    assert world.client.get(f"{HOOKS}/{hook['id']}", headers=world.staff()).status_code == 404
    assert carry(world) == 0


def test_what_staff_do_is_audited_without_what_may_be_a_secret(world: World) -> None:
    hook = a_hook(world, "https://hooks.example/services/T0/B0/XXXX?key=abc")

    changed(world, hook, url="https://hooks.example/services/T0/B0/YYYY", events=["join.booked"])
    changed(world, hook, events=["join.booked"])  # changes nothing
    world.client.delete(f"{HOOKS}/{hook['id']}", headers=world.staff())

    told = audited(world)
    assert [fact["action"] for fact in told] == ["webhook.created", "webhook.changed", "webhook.deleted"]
    assert told[1]["before"] == {"url": "https://hooks.example", "events": ["join.booked", "join.cancelled"]}
    assert "XXXX" not in json.dumps(told)
    assert "YYYY" not in json.dumps(told)


def test_there_are_so_many_of_a_hall_at_most(world: World) -> None:
    hall, staff = a_hall_known_to(world), world.staff()
    for _ in range(18):
        a_hook(world, ELSEWHERE, hall_id=hall)
    body = {"hall_id": hall, "url": ELSEWHERE, "events": ["join.booked"]}

    answers = simultaneously([lambda: world.client.post(HOOKS, json=body, headers=staff)] * 8)

    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 6
    assert {answer.json()["code"] for answer in answers if answer.is_error} == {"too_many_webhooks"}
    assert len(rows(world, Webhook, hall_id=hall)) == 20


def test_a_hall_that_nobody_has_heard_of_has_no_webhooks(world: World) -> None:
    body = {"hall_id": new_id(), "url": ELSEWHERE, "events": ["join.booked"]}

    assert world.client.post(HOOKS, json=body, headers=world.staff()).status_code == 404


def test_addresses_and_events_that_can_not_be_are_refused(world: World) -> None:
    urls = [
        "",
        "hooks.example",
        "ftp://hooks.example/",
        "https://",
        "https:///path",
        "https://user:pass@hooks.example/",
        "https://hooks.example/#part",
        "https://hooks.example:99999/",
        "https://hooks.example:0/",
        "https://[::1",
        "https://0177.0.0.1/",
        "https://hooks.example/a b",
        "https://hooks.example/" + "a" * 2000,
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/latest/meta-data",
    ]
    events: list[Any] = [[], ["join.unheard"], ["ping"], ["join.booked", "join.booked"], None, "join.booked"]
    odd = [{"url": url} for url in urls] + [{"events": kinds} for kinds in events] + [{"description": "a\nb"}]
    hook = a_hook(world, ELSEWHERE)

    found = {}
    for differing in odd:
        whole = {"hall_id": None, "url": ELSEWHERE, "events": ["join.booked"]} | differing
        made = world.client.post(HOOKS, json=whole, headers=world.staff())
        edited = world.client.patch(f"{HOOKS}/{hook['id']}", json=differing, headers=world.staff())
        found[json.dumps(differing)[:60]] = (made.status_code, edited.status_code)

    assert found == dict.fromkeys(found, (422, 422))


def test_outside_embedded_mode_addresses_have_to_be_of_https() -> None:
    strict = Allowed(http=False, permitted=())
    strict.require("https://hooks.example/")
    with pytest.raises(HttpsNeeded):
        strict.require("http://hooks.example/")


def test_a_verifier_has_nothing_to_do_with_webhooks(world: World) -> None:
    answer = world.client.get(HOOKS, headers=world.staff(Role.VERIFIER, [new_id()]))

    assert answer.status_code == 403


def test_the_log_is_forgotten_after_a_month_but_not_what_waits(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())
    carry(world)
    hear(world, a_join().booked())
    with world.runtimes["notify"].db.transaction() as session:
        for table in ("deliveries", "webhook_events"):
            session.execute(text(f"UPDATE {table} SET queued_at = queued_at - interval '31 days'"))

    upkeep(world.runtimes["notify"])

    assert [row["state"] for row in listed(world, hook, "deliveries")] == ["queued"]
    assert len(rows(world, WebhookEvent)) == 1
    assert listed(world, hook, "attempts") == []
    assert carry(world) == 1


def test_calls_are_counted_by_their_results(world: World, theirs: Receiver) -> None:
    def count(result: str) -> float:
        found: float = DELIVERIES.labels("notify", "webhook", result)._value.get()
        return found

    sent, retried = count("sent"), count("retried")
    a_hook(world, theirs.address)
    hear(world, a_join().booked())
    carry(world)
    theirs.behaviour = failing(500)
    hear(world, a_join().booked())
    carry(world)

    assert (count("sent") - sent, count("retried") - retried) == (1, 1)


def test_what_is_queued_goes_out_at_once(world: World, theirs: Receiver) -> None:
    a_hook(world, theirs.address)
    sender = carrier(world, poll_s=60)
    sender.wake_on_commit(world.runtimes["notify"].db)
    loops = Loops([sender])
    loops.start()

    hear(world, a_join().booked())

    eventually(lambda: theirs.posted, timeout_s=2)
    loops.stop()
