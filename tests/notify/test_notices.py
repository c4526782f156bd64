"""Notices: what users are told about their joins, each action once, in their own language."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.common.ids import new_id
from libs.contracts.booking import JoinEvent
from services.notify.models import Notice
from tests.notify.builders import (
    MORNING,
    Join,
    a_join,
    a_party,
    a_slot,
    deliver,
    hear,
    kinds_told,
    message,
    notices_of,
    record_of,
    rows,
    user_headers,
)
from tests.world import World

NOON = datetime(2026, 11, 2, 4, tzinfo=UTC)


def told(world: World, fact: JoinEvent) -> dict[str, tuple[str, str]]:
    """Let notify hear one fact and return (title, body) of the one notice it made, by language."""
    hear(world, fact)
    found = {}
    for language in ("zh", "en"):
        (notice,) = notices_of(world, fact.user_id, language)["items"]
        found[language] = (notice["title"], notice["body"])
    return found


ZH_WHEN = "2026年11月3日（周二） 09:00-10:00"
EN_WHEN = "Tue 3 Nov 2026 09:00-10:00"


@pytest.mark.parametrize(
    ("change", "zh", "en"),
    [
        pytest.param(
            lambda join: join.booked(),
            ("预约成功", f"您已预约天河政务中心的「护照办理」，共1人，时间：{ZH_WHEN}。"),
            ("Booked", f"You have booked 护照办理 at 天河政务中心 for 1 person: {EN_WHEN}."),
            id="booked",
        ),
        pytest.param(
            lambda join: join.restored(),
            ("预约已恢复", f"天河政务中心已恢复您的「护照办理」预约，共1人，时间：{ZH_WHEN}。"),
            (
                "Booking restored",
                f"天河政务中心 has given you your booking of 护照办理 for 1 person back: {EN_WHEN}.",
            ),
            id="restored",
        ),
        pytest.param(
            lambda join: join.cancelled(),
            ("预约已取消", f"您已取消天河政务中心的「护照办理」预约，共1人，原定时间：{ZH_WHEN}。"),
            ("Booking cancelled", f"You have cancelled 护照办理 at 天河政务中心 for 1 person: {EN_WHEN}."),
            id="cancelled",
        ),
        pytest.param(
            lambda join: join.revoked(reason="系统维护"),
            (
                "预约被服务厅取消",
                f"天河政务中心取消了您的「护照办理」预约，共1人，原定时间：{ZH_WHEN}。原因：系统维护",
            ),
            (
                "Booking revoked by the hall",
                f"天河政务中心 has revoked your booking of 护照办理 for 1 person: {EN_WHEN}. Reason: 系统维护",
            ),
            id="revoked",
        ),
        pytest.param(
            lambda join: join.moved(a_slot(starts_at=MORNING + timedelta(days=1, hours=6))),
            (
                "预约已改期",
                "您在天河政务中心的「护照办理」预约（共1人）已由2026年11月3日（周二） 09:00"
                "改到2026年11月4日（周三） 15:00-16:00。",
            ),
            (
                "Booking moved",
                "Your booking of 护照办理 at 天河政务中心 for 1 person is now Wed 4 Nov 2026 15:00-16:00; "
                "it was Tue 3 Nov 2026 09:00.",
            ),
            id="moved",
        ),
        pytest.param(
            lambda join: join.checked_in(),
            ("签到成功", f"您已在天河政务中心签到：「护照办理」，共1人，时间：{ZH_WHEN}。"),
            ("Checked in", f"Checked in at 天河政务中心 for 护照办理, 1 person: {EN_WHEN}."),
            id="checked_in",
        ),
        pytest.param(
            lambda join: join.missed(),
            (
                "预约未到场",
                f"您在天河政务中心的「护照办理」预约（共1人）未签到，时间：{ZH_WHEN}。下次如不能前来，请提前取消。",
            ),
            (
                "Booking missed",
                f"Nobody checked in for your booking of 护照办理 at 天河政务中心 for 1 person: {EN_WHEN}. "
                "If you can't come next time, please cancel before it starts.",
            ),
            id="missed",
        ),
        pytest.param(
            lambda join: join.missed(cooling_off_until=datetime(2026, 11, 17, 16, tzinfo=UTC)),
            (
                "预约未到场，暂停预约",
                f"您在天河政务中心的「护照办理」预约（共1人）未签到，时间：{ZH_WHEN}。"
                "因多次未到场，2026年11月18日（周三）起可再次预约天河政务中心。",
            ),
            (
                "Booking missed: booking is paused",
                f"Nobody checked in for your booking of 护照办理 at 天河政务中心 for 1 person: {EN_WHEN}. "
                "As you have missed several, you can book at 天河政务中心 again from Wed 18 Nov 2026.",
            ),
            id="cooling_off",
        ),
    ],
)
def test_each_kind_of_notice_is_said_in_the_readers_language_with_the_halls_times(
    world: World, change: Callable[[Join], JoinEvent], zh: tuple[str, str], en: tuple[str, str]
) -> None:
    join = a_join()

    found = told(world, change(join))

    assert found == {"zh": zh, "en": en}


def test_a_revocation_without_a_reason_says_so(world: World) -> None:
    found = told(world, a_join().revoked(reason=""))

    assert found["zh"][1].endswith("原因：未说明")
    assert found["en"][1].endswith("Reason: none given")


def test_braces_in_a_title_are_shown_as_they_are(world: World) -> None:
    found = told(world, a_join(item_title="{hall} {0} %s").booked())

    assert "{hall} {0} %s" in found["en"][1]


def test_a_party_gets_one_notice_that_says_how_many_they_are(world: World) -> None:
    slot, action = a_slot(), new_id()
    party = a_party(3, slot)

    hear(world, *(join.booked(action=action) for join in party))

    (notice,) = notices_of(world, party[0].user_id)["items"]
    assert "for 3 people" in notice["body"]
    assert (notice["people"], notice["party_id"]) == (3, party[0].party_id)
    assert "共3人" in notices_of(world, party[0].user_id, "zh")["items"][0]["body"]


def test_a_party_told_by_many_consumers_at_once_gets_one_notice(world: World) -> None:
    slot, action = a_slot(), new_id()
    party = a_party(6, slot)
    messages = [message(join.booked(action=action)) for join in party] * 2
    errors: list[BaseException] = []

    def consume(share: int) -> None:
        try:
            deliver(world, *messages[share::6])
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test
            errors.append(error)

    threads = [threading.Thread(target=consume, args=(share,)) for share in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert kinds_told(world, party[0].user_id) == ["booked"]


def test_a_revoked_slot_tells_each_of_its_users(world: World) -> None:
    slot, action = a_slot(), new_id()
    first, second = a_join(slot), a_join(slot)

    hear(world, first.revoked(action=action), second.revoked(action=action))

    assert kinds_told(world, first.user_id) == kinds_told(world, second.user_id) == ["revoked"]


def test_a_second_check_in_after_an_undone_one_is_told_again(world: World) -> None:
    join = a_join()

    hear(world, join.booked(), join.checked_in(), join.check_in_undone(), join.checked_in())

    assert kinds_told(world, join.user_id) == ["booked", "checked_in", "checked_in"]


def test_a_cancellation_that_overtakes_the_booking_leaves_a_cancelled_record_and_both_notices_in_order(
    world: World,
) -> None:
    join = a_join()
    booked = message(join.booked(), time=NOON)
    cancelled = message(join.cancelled(), time=NOON + timedelta(minutes=5))

    deliver(world, cancelled, booked, cancelled, booked)

    assert record_of(world, join)["status"] == "cancelled"
    found = notices_of(world, join.user_id)["items"]
    assert [(notice["kind"], notice["created_at"]) for notice in found] == [
        ("cancelled", "2026-11-02T04:05:00Z"),
        ("booked", "2026-11-02T04:00:00Z"),
    ]


def test_a_replayed_event_tells_nobody(world: World) -> None:
    join = a_join()

    deliver(world, message(join.booked(), replayed=True))

    assert notices_of(world, join.user_id) == {"items": [], "next_cursor": None, "unread": 0}


def test_a_late_first_delivery_after_a_replay_is_still_told(world: World) -> None:
    join = a_join()
    booked = join.booked()

    deliver(world, message(booked, replayed=True), message(booked))

    assert kinds_told(world, join.user_id) == ["booked"]


# --- reading ---


def read(world: World, user_id: str, body: Any) -> Any:
    """Ask to mark notices as read; the body goes out in ASCII, so that it can hold what is no UTF-8."""
    headers = user_headers(world, user_id) | {"Content-Type": "application/json"}
    return world.client.post("/api/notify/notices/read", content=json.dumps(body), headers=headers)


def several(world: World, count: int) -> str:
    """Tell one user several notices, a minute apart; return the user's id."""
    user_id = new_id()
    facts = [a_join(user_id=user_id, item_title=f"item {index}").booked() for index in range(count)]
    messages = [message(fact, time=NOON + timedelta(minutes=index)) for index, fact in enumerate(facts)]
    deliver(world, *messages)
    return user_id


def test_notices_are_the_users_own_newest_first_page_by_page(world: World) -> None:
    user_id = several(world, 5)
    several(world, 1)

    first = notices_of(world, user_id, limit=3)
    second = notices_of(world, user_id, limit=3, cursor=first["next_cursor"])

    bodies = [notice["body"] for page in (first, second) for notice in page["items"]]
    assert ["item 4" in bodies[0], "item 0" in bodies[4], len(bodies)] == [True, True, 5]
    assert second["next_cursor"] is None
    assert first["unread"] == second["unread"] == 5


def test_reading_some_notices_leaves_the_others_unread(world: World) -> None:
    user_id = several(world, 3)
    newest = notices_of(world, user_id)["items"][0]["id"]

    answer = read(world, user_id, {"ids": [newest]})

    assert (answer.status_code, answer.json()) == (200, {"unread": 2})
    page = notices_of(world, user_id)
    assert [notice["read_at"] is not None for notice in page["items"]] == [True, False, False]
    unread = notices_of(world, user_id, unread=True)
    assert (len(unread["items"]), unread["unread"]) == (2, 2)


def test_reading_all_leaves_none_unread_and_keeps_when_each_was_read_first(world: World) -> None:
    user_id = several(world, 2)
    newest = notices_of(world, user_id)["items"][0]["id"]
    read(world, user_id, {"ids": [newest]})
    before = notices_of(world, user_id)["items"][0]["read_at"]

    answer = read(world, user_id, {"all": True})

    assert answer.json() == {"unread": 0}
    assert notices_of(world, user_id)["items"][0]["read_at"] == before


def test_foreign_and_unknown_ids_change_nothing_and_are_not_confirmed_to_exist(world: World) -> None:
    owner, other = several(world, 1), new_id()
    notice_id = notices_of(world, owner)["items"][0]["id"]

    foreign = read(world, other, {"ids": [notice_id]})
    unknown = read(world, other, {"ids": [new_id()]})

    assert (foreign.status_code, foreign.json()) == (unknown.status_code, unknown.json()) == (200, {"unread": 0})
    assert notices_of(world, owner)["unread"] == 1


def test_odd_requests_to_read_are_refused(world: World) -> None:
    some_id = "018f5b0e-0000-7000-8000-000000000000"
    bodies: list[Any] = [
        {},
        {"ids": []},
        {"ids": ["x"]},
        {"ids": ["\x00"]},
        {"ids": ["\ud800"]},
        {"ids": [7]},
        {"ids": None, "all": None},
        {"all": False},
        {"all": 1},
        {"all": 1.0},
        {"all": "true"},
        {"all": True, "ids": [some_id]},
        {"all": True, "more": 1},
        {"all": True, "\ud800": 1},
        [],
        None,
        "all",
        {"ids": [some_id] * 501},
    ]

    answers = [read(world, new_id(), body) for body in bodies]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(422, "invalid")] * len(bodies)


def test_odd_queries_are_refused(world: World) -> None:
    headers = user_headers(world, new_id())
    queries = [
        {"cursor": "nonsense"},
        {"cursor": "\x00"},
        {"cursor": "WyJcdTAwMDAiLCAiXHUwMDAwIl0"},
        {"cursor": "W10"},
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "9" * 40},
        {"unread": "perhaps"},
    ]

    answers = [world.client.get("/api/notify/notices", params=query, headers=headers) for query in queries]

    assert [answer.status_code for answer in answers] == [422] * len(queries)


@pytest.mark.parametrize(("method", "path"), [("GET", "notices"), ("POST", "notices/read")])
def test_notices_are_for_signed_in_users_alone(world: World, method: str, path: str) -> None:
    anonymous = world.client.request(method, f"/api/notify/{path}")
    staff = world.client.request(method, f"/api/notify/{path}", headers=world.staff())

    assert (anonymous.status_code, staff.status_code) == (401, 401)


def test_the_language_of_an_answer_is_named(world: World) -> None:
    answer = world.client.get("/api/notify/notices", headers=user_headers(world, new_id(), "fr, en;q=0.5"))

    assert answer.headers["content-language"] == "en"
    assert "accept-language" in answer.headers["vary"].lower()


def test_notices_are_stored_in_no_language(world: World) -> None:
    join = a_join()

    hear(world, join.booked())

    (row,) = rows(world, Notice, user_id=join.user_id)
    assert row["params"] == {
        "hall_name": "天河政务中心",
        "item_title": "护照办理",
        "date": "2026-11-03",
        "start": "09:00",
        "end": "10:00",
        "reason": "",
    }
