"""Check-in: at most once, at the right time, in one's own halls, by staff or from the hall's screen."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY
from zoneinfo import ZoneInfo

import httpx2
import pytest
import time_machine

from libs.common.ids import new_id
from libs.contracts.principals import Right, Role
from tests.booking.builders import (
    ZONE,
    Headers,
    a_slot,
    booked,
    cancel,
    check_in,
    checked_in,
    code_of,
    my_join,
    recorded,
    refused,
    revoke,
)
from tests.world import World

RUNNING = timedelta(minutes=-5)  # began already: its day is that of its start, also around midnight


def _undo(world: World, staff: Headers, join_id: str, reason: str = "扫错了码") -> httpx2.Response:
    body = {"join_id": join_id, "reason": reason}
    return world.client.post("/api/booking/staff/check-ins/undo", json=body, headers=staff)


def _at(instant: datetime) -> Any:
    return time_machine.travel(instant)


# --- by staff ---


@pytest.mark.parametrize("by", ["code", "id"])
@pytest.mark.parametrize("role", [Role.VERIFIER, Role.HALL_ADMIN, Role.SUPER_ADMIN])
def test_staff_check_a_join_in(world: World, role: Role, by: str) -> None:
    place = a_slot(world, starts_in=RUNNING)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    body = {"code": join["code"]} if by == "code" else {"join_id": join["id"].upper()}
    began = datetime.now(UTC)

    answer = check_in(world, world.staff(role, [place.hall_id]), **body)

    [arrived] = answer.json()["joins"]
    assert answer.status_code == 200
    assert arrived["id"] == join["id"]
    assert began <= datetime.fromisoformat(arrived["checked_in_at"]) <= datetime.now(UTC)
    assert my_join(world, user, join["id"])["checked_in_at"] == arrived["checked_in_at"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": "1" * 15, "join_id": "01a206b3-0000-7000-8000-000000000000"},
        {"code": "1" * 14},
        {"code": "1" * 16},
        {"code": 123456789012345},
        {"code": "1" * 14 + "\n"},
        {"join_id": "nonsense"},
        {"code": "1" * 15, "extra": 1},
        {"code": "1" * 15, "reason": "\x00"},
    ],
)
def test_what_names_no_single_join_is_refused(world: World, body: dict[str, Any]) -> None:
    assert code_of(check_in(world, world.staff(), **body)) == (422, "invalid")


@pytest.mark.parametrize(
    ("minutes_after_start", "is_time"), [(-61, False), (-59, True), (0, True), (59, True), (60, False)]
)
def test_check_in_opens_before_the_start_and_closes_at_the_end(
    world: World, minutes_after_start: int, is_time: bool
) -> None:
    now = datetime.now(ZoneInfo(ZONE))
    noon = (now + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    place = a_slot(world, starts_in=noon - now, checkin_opens_minutes=60)
    [join] = booked(world, world.user("wang"), place.slot_id)

    with _at(place.slot.starts_at + timedelta(minutes=minutes_after_start)):
        answer = check_in(world, world.staff(Role.VERIFIER, [place.hall_id]), code=join["code"])

    if is_time:
        assert answer.status_code == 200
    else:
        assert code_of(answer) == (409, "not_check_in_time")


def test_check_in_is_on_the_slots_day_only(world: World) -> None:
    now = datetime.now(ZoneInfo(ZONE))
    half_past_midnight = (now + timedelta(days=1)).replace(hour=0, minute=30, second=0, microsecond=0)
    place = a_slot(world, starts_in=half_past_midnight - now, checkin_opens_minutes=120)
    [join] = booked(world, world.user("wang"), place.slot_id)

    with _at(half_past_midnight - timedelta(minutes=31)):
        the_day_before = check_in(world, world.staff(), code=join["code"])
    with _at(half_past_midnight - timedelta(minutes=29)):
        on_the_day = check_in(world, world.staff(), code=join["code"])

    assert code_of(the_day_before) == (409, "not_check_in_time")
    assert the_day_before.json()["params"]["opens_at"].endswith("00:00")
    assert on_the_day.status_code == 200


def test_the_time_for_check_in_is_said_in_both_languages(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(days=3))
    [join] = booked(world, world.user("wang"), place.slot_id)

    refusal = refused(lambda who: check_in(world, who, code=join["code"]), world.staff())

    closes_at = place.slot.ends_at.astimezone(ZoneInfo(ZONE)).strftime("%Y-%m-%d %H:%M")
    assert refusal.kind == (409, "not_check_in_time")
    assert refusal.params["closes_at"] == closes_at
    assert refusal.english.endswith(f"to {closes_at}.")
    assert "当前不在签到时间内" in refusal.chinese


def test_a_verifier_may_not_override_the_time_and_an_administrator_may(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(days=3))
    [join] = booked(world, world.user("wang"), place.slot_id)
    verifier = world.staff(Role.VERIFIER, [place.hall_id])

    refusal = refused(lambda who: check_in(world, who, code=join["code"], override=True, reason="提前到场"), verifier)
    allowed = check_in(
        world, world.staff(Role.HALL_ADMIN, [place.hall_id]), code=join["code"], override=True, reason="提前到场"
    )

    assert refusal.kind == (403, "override_forbidden")
    assert "outside the time" in refusal.english
    assert "无权在签到时间外" in refusal.chinese
    assert allowed.status_code == 200
    [audited] = recorded(world, "audit.recorded")
    assert audited.data["action"] == "join.checked_in"
    assert audited.data["after"] == {"checked_in_at": ANY, "override": True}
    assert audited.data["reason"] == "提前到场"


def test_a_verifier_with_the_right_overrides_the_time(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(days=3))
    [join] = booked(world, world.user("wang"), place.slot_id)
    verifier = world.staff(Role.VERIFIER, [place.hall_id], rights=[Right.OVERRIDE_CHECK_IN])

    assert check_in(world, verifier, code=join["code"], override=True, reason="提前到场").status_code == 200


def test_the_second_time_is_refused_with_the_time_of_the_first(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING)
    [join] = booked(world, world.user("wang"), place.slot_id)
    staff = world.staff()
    first = check_in(world, staff, code=join["code"]).json()["joins"][0]["checked_in_at"]

    refusal = refused(lambda who: check_in(world, who, code=join["code"]), staff)

    at = datetime.fromisoformat(first).strftime("%Y-%m-%d %H:%M")
    assert refusal.kind == (409, "already_checked_in")
    assert refusal.params == {"checked_in_at": at}
    assert at in refusal.english
    assert f"签到时间：{at}" in refusal.chinese
    assert len(recorded(world, "join.checked_in")) == 1


@pytest.mark.parametrize("party", [False, True])
@pytest.mark.parametrize("status", ["cancelled", "revoked"])
def test_a_join_that_was_given_back_lets_nobody_in(world: World, status: str, party: bool) -> None:
    place = a_slot(world, starts_in=RUNNING, party_max=2, cancel="anytime")
    user = world.user("wang")
    gone, other = booked(world, user, place.slot_id, "一一", "二二")
    given_back = cancel(world, user, gone["id"]) if status == "cancelled" else revoke(world, gone["id"])

    refusal = refused(
        lambda who: check_in(world, who, code=gone["code"], party=party, override=True, reason="提前到场"),
        world.staff(),
    )

    assert given_back.status_code == 200
    assert (refusal.kind, refusal.params) == ((409, "join_not_booked"), {"status": status})
    assert my_join(world, user, gone["id"])["checked_in_at"] is None
    assert my_join(world, user, other["id"])["checked_in_at"] is None


def test_a_whole_party_arrives_by_one_code(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING, party_max=5, cancel="anytime")
    user = world.user("wang")
    joins = booked(world, user, place.slot_id, "一一", "二二", "三三", "四四")
    alone = booked(world, world.user("li"), place.slot_id)[0]
    checked_in(world, joins[1]["id"])
    cancel(world, user, joins[2]["id"])

    answer = check_in(world, world.staff(), code=joins[1]["code"], party=True)

    assert sorted(join["id"] for join in answer.json()["joins"]) == sorted([joins[0]["id"], joins[3]["id"]])
    assert my_join(world, user, joins[2]["id"])["status"] == "cancelled"
    assert my_join(world, world.user("li"), alone["id"])["checked_in_at"] is None


def test_a_party_that_is_all_here_is_told_so(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING, party_max=2)
    joins = booked(world, world.user("wang"), place.slot_id, "一一", "二二")
    staff = world.staff()
    check_in(world, staff, code=joins[0]["code"], party=True)

    again = check_in(world, staff, code=joins[1]["code"], party=True)

    assert code_of(again) == (409, "already_checked_in")


def test_one_of_a_party_arrives_alone(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING, party_max=2)
    user = world.user("wang")
    first, second = booked(world, user, place.slot_id, "一一", "二二")

    check_in(world, world.staff(), code=first["code"])

    assert my_join(world, user, second["id"])["checked_in_at"] is None


@pytest.mark.parametrize("role", [Role.VERIFIER, Role.HALL_ADMIN])
def test_a_join_of_a_foreign_hall_is_not_there(world: World, role: Role) -> None:
    place, elsewhere = a_slot(world, starts_in=RUNNING), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    foreign = world.staff(role, [elsewhere.hall_id])

    by_code = refused(lambda who: check_in(world, who, code=join["code"]), foreign)
    by_id = refused(lambda who: check_in(world, who, join_id=join["id"]), foreign)
    unknown = refused(lambda who: check_in(world, who, code="1" * 15), foreign)
    no_halls = refused(lambda who: check_in(world, who, code=join["code"]), world.staff(role, []))

    assert by_code == by_id == unknown == no_halls
    assert by_code.kind == (404, "join_not_found")
    assert "no booking with this code here" in by_code.english
    assert my_join(world, user, join["id"])["checked_in_at"] is None


def test_a_user_token_opens_no_staff_route(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    assert code_of(check_in(world, user, code=join["code"])) == (401, "token_invalid")


# --- undo ---


def test_a_check_in_is_taken_back_with_a_reason(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    staff = world.staff(Role.VERIFIER, [place.hall_id])
    check_in(world, staff, code=join["code"])

    undone = _undo(world, staff, join["id"])
    again = check_in(world, staff, code=join["code"])

    assert undone.status_code == 200
    assert undone.json()["checked_in_at"] is None
    assert again.status_code == 200
    [event] = recorded(world, "join.check_in_undone")
    assert (event.version, event.data["checked_in_at"]) == (3, None)
    audited = [row.data for row in recorded(world, "audit.recorded")]
    assert [(row["action"], row["reason"]) for row in audited] == [
        ("join.checked_in", ""),
        ("join.check_in_undone", "扫错了码"),
        ("join.checked_in", ""),
    ]
    assert {row["hall_id"] for row in audited} == {place.hall_id}
    assert join["code"] not in str(audited)


def test_after_an_undo_the_user_may_cancel(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING, cancel="anytime")
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    checked_in(world, join["id"])
    _undo(world, world.staff(), join["id"])

    assert cancel(world, user, join["id"]).status_code == 200


def test_there_is_nothing_to_undo_before_a_check_in(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    booked_only = refused(lambda who: _undo(world, who, join["id"]), world.staff())
    cancel(world, user, join["id"])
    cancelled = refused(lambda who: _undo(world, who, join["id"]), world.staff())

    assert booked_only == cancelled
    assert booked_only.kind == (409, "not_checked_in")
    assert "not checked in" in booked_only.english
    assert "尚未签到" in booked_only.chinese


def test_an_undo_stays_within_the_halls_and_wants_a_reason(world: World) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)
    checked_in(world, join["id"])

    foreign = _undo(world, world.staff(Role.HALL_ADMIN, [elsewhere.hall_id]), join["id"])
    missing = _undo(world, world.staff(), new_id())
    without_reason = _undo(world, world.staff(), join["id"], reason=" ")

    assert code_of(foreign) == code_of(missing) == (404, "join_not_found")
    assert code_of(without_reason) == (422, "invalid")
    assert recorded(world, "join.check_in_undone") == []


# --- from the hall's screen ---

PERIOD = timedelta(seconds=30)


def _aligned(instant: datetime) -> datetime:
    """Return the beginning of the next period of door codes, a second in."""
    return datetime.fromtimestamp((int(instant.timestamp()) // 30 + 1) * 30 + 1, UTC)


def _screen(world: World, hall_id: str, staff: Headers | None = None) -> dict[str, Any]:
    answer = world.client.get(f"/api/booking/staff/halls/{hall_id}/door-code", headers=staff or world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _at_the_door(world: World, user: Headers, code: str) -> httpx2.Response:
    return world.client.post("/api/booking/check-ins", json={"code": code}, headers=user)


def test_the_screens_code_changes_and_the_one_before_is_still_taken(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING)
    users = [world.user(name) for name in ("wang", "li", "zhao")]
    for user in users:
        booked(world, user, place.slot_id)
    base = _aligned(datetime.now(UTC))

    with _at(base):
        code = _screen(world, place.hall_id)["code"]
        same = _screen(world, place.hall_id)["code"]
        at_once = _at_the_door(world, users[0], code)
    with _at(base + PERIOD):
        next_code = _screen(world, place.hall_id)["code"]
        one_later = _at_the_door(world, users[1], code)
    with _at(base + 2 * PERIOD):
        two_later = refused(lambda who: _at_the_door(world, who, code), users[2])
        with_the_new = _at_the_door(world, users[2], next_code)

    assert same == code
    assert next_code != code
    assert [answer.status_code for answer in (at_once, one_later, with_the_new)] == [200] * 3
    assert two_later.kind == (422, "door_code_invalid")
    assert "Scan the one on the screen" in two_later.english
    assert "签到码无效或已过期" in two_later.chinese


def test_the_screen_knows_how_long_its_code_lasts(world: World) -> None:
    place = a_slot(world)
    base = _aligned(datetime.now(UTC))

    with _at(base):
        shown = _screen(world, place.hall_id, world.staff(Role.VERIFIER, [place.hall_id]))

    assert shown["period_s"] == 30
    assert datetime.fromisoformat(shown["valid_until"]) == base + PERIOD - timedelta(seconds=1)


def test_a_code_of_tomorrow_is_not_taken_today(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    base = _aligned(datetime.now(UTC))
    with _at(base + 10 * PERIOD):
        code = _screen(world, place.hall_id)["code"]

    with _at(base):
        answer = _at_the_door(world, user, code)

    assert code_of(answer) == (422, "door_code_invalid")


def test_no_code_can_be_made_without_the_key(world: World) -> None:
    place, other = a_slot(world, starts_in=RUNNING), a_slot(world)
    user = world.user("wang")
    booked(world, user, place.slot_id)
    base = _aligned(datetime.now(UTC))

    with _at(base):
        hall, period, mac = _screen(world, place.hall_id)["code"].split(".")
        other_mac = _screen(world, other.hall_id)["code"].split(".")[2]
        forged = [
            place.hall_id,
            f"{hall}.{period}",
            f"{hall}.{period}.",
            f"{hall}.{period}.{'0' * 24}",
            f"{hall}.{period}.{mac[:-1]}",
            f"{hall}.{period}.{mac}0",
            f"{hall}.{period}.{mac}.{mac}",
            f"{hall}.{period}.{other_mac}",
            f"{hall}.{int(period) + 1}.{mac}",
            f"{hall}.-{period}.{mac}",
            f"{hall}.{'９' * 9}.{mac}",
            f"{hall}.{'9' * 40}.{mac}",
            f"{hall}.{period}.名",
            f"{other.hall_id}.{period}.{mac}",
            "..",
            "名",
        ]
        answers = [_at_the_door(world, user, code) for code in forged]

    assert [code_of(answer) for answer in answers] == [(422, "door_code_invalid")] * len(forged)
    assert recorded(world, "join.checked_in") == []


@pytest.mark.parametrize("code", ["", " ", "\x00", "x" * 201, 7, None])
def test_what_is_no_text_is_no_code(world: World, code: Any) -> None:
    answer = world.client.post("/api/booking/check-ins", json={"code": code}, headers=world.user("wang"))

    assert code_of(answer) == (422, "invalid")


def test_a_user_checks_in_everybody_they_booked_here_for_now(world: World) -> None:
    place = a_slot(world, starts_in=RUNNING, party_max=3, cancel="anytime")
    tomorrow = place.another_slot()
    user = world.user("wang")
    first, second, gone = booked(world, user, place.slot_id, "一一", "二二", "三三")
    cancel(world, user, gone["id"])
    [later] = booked(world, user, tomorrow.slot_id)
    [of_another] = booked(world, world.user("li"), place.slot_id)
    code = _screen(world, place.hall_id)["code"]

    answer = _at_the_door(world, user, code)
    again = refused(lambda who: _at_the_door(world, who, code), user)

    assert answer.status_code == 200
    assert sorted(join["id"] for join in answer.json()["joins"]) == sorted([first["id"], second["id"]])
    assert my_join(world, user, later["id"])["checked_in_at"] is None
    assert my_join(world, world.user("li"), of_another["id"])["checked_in_at"] is None
    assert again.kind == (409, "nothing_to_check_in")
    assert "no booking here" in again.english
    assert "没有可签到的预约" in again.chinese


def test_another_halls_code_checks_nobody_in(world: World) -> None:
    place, elsewhere = a_slot(world, starts_in=RUNNING), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    answer = _at_the_door(world, user, _screen(world, elsewhere.hall_id)["code"])

    assert code_of(answer) == (409, "nothing_to_check_in")
    assert my_join(world, user, join["id"])["checked_in_at"] is None


def test_too_early_at_the_door_is_nothing_to_check_in(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(hours=3), checkin_opens_minutes=30)
    user = world.user("wang")
    booked(world, user, place.slot_id)

    answer = _at_the_door(world, user, _screen(world, place.hall_id)["code"])

    assert code_of(answer) == (409, "nothing_to_check_in")


def test_the_screen_of_a_foreign_hall_is_not_there(world: World) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    staff = world.staff(Role.VERIFIER, [elsewhere.hall_id])
    paths = [place.hall_id, new_id(), "nonsense"]

    answers = [world.client.get(f"/api/booking/staff/halls/{hall}/door-code", headers=staff) for hall in paths]
    nowhere = world.client.get(f"/api/booking/staff/halls/{new_id()}/door-code", headers=world.staff())

    assert [code_of(answer) for answer in (*answers, nowhere)] == [(404, "not_found")] * 4
