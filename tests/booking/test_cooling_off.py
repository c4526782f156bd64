"""Who has missed too many visits to a hall books nothing there for a while, sees it coming, and may be forgiven."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from libs.common.ids import new_id
from libs.contracts.catalog import MissedPolicy, SlotChanged, SlotStatus
from libs.contracts.principals import Role
from services.booking import misses, policy, users
from services.booking.models import Join, Slot
from tests.booking.builders import (
    ZONE,
    Headers,
    Place,
    a_slot,
    book,
    booked,
    checked_in,
    code_of,
    do,
    move,
    recorded,
    refused,
    revoke,
    tell,
    user_id,
)
from tests.booking.test_groups import booking, codes, settled
from tests.world import World, eventually

POLICY = MissedPolicy(missed=2, within_days=30, pause_days=14)
RULES: dict[str, Any] = {"party_max": 5, "max_per_slot": 50, "cancel": "anytime"}


def a_strict_place(world: World, minded: MissedPolicy | None = POLICY, **rules: Any) -> Place:
    """Return a slot ahead in a hall that minds missed visits."""
    place = a_slot(world, **RULES | rules)
    place.change_hall(missed_policy=minded)
    return place


def miss(world: World, place: Place, user: Headers, *names: str, days_ago: int = 0) -> list[dict[str, Any]]:
    """Let the user miss a visit of a party so many days ago; return its joins."""
    slot = place.another_slot()
    joins = booked(world, user, slot.slot_id, *names)
    end(world, slot, days_ago=days_ago)
    do(world, "mark_missed")
    return joins


def end(world: World, slot: SlotChanged, *, days_ago: int = 0) -> None:
    """Let a slot that people have booked be over."""
    ends_at = datetime.now(UTC) - timedelta(days=days_ago, minutes=1)
    day = ends_at.astimezone(ZoneInfo(ZONE)).date()
    over = {"starts_at": ends_at - timedelta(hours=1), "ends_at": ends_at, "date": day, "version": slot.version + 1}
    tell(world, slot.model_copy(update=over))


def check(world: World, user: Headers, slot_id: str) -> httpx2.Response:
    return world.client.post(f"/api/booking/slots/{slot_id}/check", json={"people": 1}, headers=user)


def standing(world: World, user: Headers, **query: str) -> Any:
    """Return the only standing that the user is shown."""
    answer = world.client.get("/api/booking/me/standing", params=query, headers=user)
    assert answer.status_code == 200, answer.text
    [found] = answer.json()["items"]
    return found


def shown_to(world: World, staff: Headers, of: str) -> httpx2.Response:
    return world.client.get(f"/api/booking/staff/users/{of}/standing", headers=staff)


def forgive(world: World, staff: Headers, of: str, hall_id: str, **body: Any) -> httpx2.Response:
    body = {"hall_id": hall_id, "reason": "住院"} | body
    return world.client.post(f"/api/booking/staff/users/{of}/forgive", json=body, headers=staff)


def is_cooling_off(world: World, user: Headers, slot_id: str) -> bool:
    """Tell what /check and booking agree on."""
    answers = [check(world, user, slot_id), book(world, user, slot_id)]
    kinds = {code_of(answer) if answer.is_error else None for answer in answers}
    assert kinds in ({None}, {(409, "cooling_off")})
    return kinds != {None}


# --- the rule ---


def test_who_missed_too_many_visits_books_again_on_the_date_after_the_pause(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    miss(world, place, user)
    before = is_cooling_off(world, user, place.slot_id)
    miss(world, place, user)

    found = [refused(partial(ask, world, slot_id=place.slot_id), user) for ask in (check, book)]

    again = date.fromisoformat(recorded(world, "join.missed")[-1].data["date"]) + timedelta(days=15)
    until = datetime.combine(again, datetime.min.time(), ZoneInfo(ZONE))
    assert before is False
    for one in found:
        assert one.kind == (409, "cooling_off")
        assert (datetime.fromisoformat(one.params["until"]), one.params["date"]) == (until, again.isoformat())
        assert f"from {again}" in one.english
        assert f"{again}起" in one.chinese
    assert is_cooling_off(world, world.user("li"), place.slot_id) is False
    later = place.another_slot(starts_in=timedelta(days=40))
    with time_machine.travel(until - timedelta(minutes=5)):  # the last microsecond is looked at below
        assert is_cooling_off(world, world.user("wang"), later.slot_id)
    with time_machine.travel(until):
        assert not is_cooling_off(world, world.user("wang"), later.slot_id)


def test_it_comes_after_a_disabled_user_and_before_everything_else(world: World) -> None:
    place = a_strict_place(world, MissedPolicy(missed=1, within_days=1, pause_days=1))
    user = world.user("wang")
    miss(world, place, user)
    place.change_slot(status=SlotStatus.CLOSED, capacity=0)

    while_closed = is_cooling_off(world, user, place.slot_id)
    path = f"/api/booking/staff/users/{user_id(world, user)}"
    world.client.patch(path, json={"disabled": True, "reason": "冒用他人"}, headers=world.staff())

    assert while_closed
    assert code_of(book(world, user, place.slot_id)) == (403, "user_disabled")


def test_each_of_a_group_has_their_own_standing_also_where_the_slot_is_full(world: World) -> None:
    place = a_strict_place(world, MissedPolicy(missed=1, within_days=1, pause_days=1), capacity=1)
    paused, other, late = world.user("wang"), world.user("li"), world.user("zhao")
    miss(world, place, paused)
    ids = [user_id(world, user) for user in (paused, other, late)]

    first = settled(world, *(booking(one, place) for one in ids))
    # All of a second group ask for a slot that is seen to be full, and are refused without locks.
    again = settled(world, booking(ids[1], place), again=[booking(one, place) for one in ids])

    assert codes(first) == ["cooling_off", "yes", "slot_full"]
    assert codes(again) == ["cooling_off", "slot_full", "slot_full"]


def test_another_hall_minds_only_what_was_missed_there(world: World) -> None:
    place, other, lenient = a_strict_place(world), a_strict_place(world), a_strict_place(world, None)
    user = world.user("wang")
    for _ in range(2):
        miss(world, place, user)
        miss(world, lenient, user)

    assert is_cooling_off(world, user, place.slot_id)
    assert not is_cooling_off(world, user, other.slot_id)
    assert not is_cooling_off(world, user, lenient.slot_id)
    assert world.client.get("/api/booking/me/standing", params={"hall_id": lenient.hall_id}, headers=user).json() == {
        "items": []
    }


def test_what_was_missed_long_ago_counts_no_more(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    miss(world, place, user, days_ago=31)
    miss(world, place, user, days_ago=1)

    assert not is_cooling_off(world, user, place.slot_id)
    assert standing(world, user)["missed"] == 1


def test_a_party_of_whom_nobody_came_is_one_missed_visit(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    joins = miss(world, place, user, "张三", "李四", "王五")
    missed = standing(world, user)["missed"]

    checked_in(world, joins[1]["id"])

    assert (missed, standing(world, user)["missed"]) == (1, 0)


# --- what has been booked, and what staff book ---


def test_a_booked_place_stays_and_can_be_given_back_but_not_moved(world: World) -> None:
    place = a_strict_place(world)
    target = place.another_slot(starts_in=timedelta(days=3))
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    for _ in range(2):
        miss(world, place, user)

    assert code_of(move(world, user, join["id"], target.slot_id)) == (409, "cooling_off")
    assert world.client.post(f"/api/booking/joins/{join['id']}/cancel", headers=user).is_success


def test_a_booking_that_succeeded_before_is_answered_again(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    first = book(world, user, place.slot_id, key="k")
    for _ in range(2):
        miss(world, place, user)

    assert book(world, user, place.slot_id, key="k").content == first.content


def test_staff_book_and_restore_whatever_was_missed(world: World) -> None:
    place = a_strict_place(world, MissedPolicy(missed=1, within_days=1, pause_days=1))
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    revoke(world, join["id"])
    miss(world, place, user)

    restored = world.client.post(f"/api/booking/staff/joins/{join['id']}/restore", headers=world.staff())
    body = {"attendees": [{"answers": {"name": "张三"}}]}
    walk_in = partial(world.client.post, f"/api/booking/staff/slots/{place.slot_id}/joins", json=body)

    assert restored.status_code == 200, restored.text
    assert walk_in(headers=world.staff() | {"Idempotency-Key": new_id()}).status_code == 201


# --- what mends a miss, or changes the policy, has changed the standing ---


def _arrive(world: World, join_id: str, slot: SlotChanged) -> None:
    checked_in(world, join_id)


def _revoke(world: World, join_id: str, slot: SlotChanged) -> None:
    assert revoke(world, join_id).is_success


def _not_over_yet(world: World, join_id: str, slot: SlotChanged) -> None:
    ahead = {"ends_at": datetime.now(UTC) + timedelta(hours=1), "version": slot.version + 2}
    tell(world, slot.model_copy(update=ahead))


@pytest.mark.parametrize("mend", [_arrive, _revoke, _not_over_yet])
def test_a_miss_that_was_mended_counts_no_more(world: World, mend: Callable[[World, str, SlotChanged], None]) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    miss(world, place, user)
    slot = place.another_slot()
    [join] = booked(world, user, slot.slot_id)
    end(world, slot)
    do(world, "mark_missed")
    before = is_cooling_off(world, user, place.slot_id)

    mend(world, join["id"], slot)

    assert before
    assert not is_cooling_off(world, user, place.slot_id)
    assert standing(world, user)["missed"] == 1


def test_a_check_in_that_is_undone_counts_again_once_it_is_noted(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    miss(world, place, user)
    [join] = miss(world, place, user)
    checked_in(world, join["id"])
    body = {"join_id": join["id"], "reason": "扫错了人"}

    world.client.post("/api/booking/staff/check-ins/undo", json=body, headers=world.staff())
    meanwhile = standing(world, user)["missed"]
    do(world, "mark_missed")
    do(world, "mark_missed")

    assert (meanwhile, standing(world, user)["missed"]) == (1, 2)
    assert is_cooling_off(world, user, place.slot_id)


def test_a_policy_holds_from_the_moment_it_is_heard_of(world: World) -> None:
    place = a_strict_place(world, None)
    user = world.user("wang")
    for _ in range(2):
        miss(world, place, user)
    without = is_cooling_off(world, user, place.slot_id)
    earlier = place.hall

    place.change_hall(missed_policy=POLICY)
    tell(world, earlier)  # late, or replayed
    with_it = is_cooling_off(world, user, place.slot_id)
    place.change_hall(missed_policy=POLICY.model_copy(update={"missed": 3}))
    milder = is_cooling_off(world, user, place.slot_id)

    assert (without, with_it, milder) == (False, True, False)


# --- seeing it coming ---


def test_a_user_sees_it_coming_wherever_they_are_about_to_book(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    form = f"/api/booking/slots/{place.slot_id}/form"
    fresh = standing(world, user, hall_id=place.hall_id)

    miss(world, place, user)
    found = standing(world, user)
    shown = [world.client.get(form, headers=user), check(world, user, place.slot_id)]
    miss(world, place, user)
    paused = standing(world, user)

    assert (fresh["missed"], fresh["left"], fresh["cooling_off_until"]) == (0, 2, None)
    assert found["hall"]["id"] == place.hall_id
    assert found["policy"] == {"missed": 2, "within_days": 30, "pause_days": 14}
    assert (found["missed"], found["left"], found["cooling_off_until"]) == (1, 1, None)
    assert [answer.json()["standing"] for answer in shown] == [found, found]
    assert (paused["missed"], paused["left"]) == (2, 0)
    assert paused["cooling_off_until"].endswith("T00:00:00+08:00")


def test_a_hall_that_there_is_not_has_no_standing(world: World) -> None:
    answer = world.client.get("/api/booking/me/standing", params={"hall_id": new_id()}, headers=world.user("wang"))

    assert code_of(answer) == (404, "not_found")


def test_the_miss_that_begins_a_pause_says_until_when(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    for _ in range(2):
        miss(world, place, user, "张三", "李四")

    told = [event.data["cooling_off_until"] for event in recorded(world, "join.missed")]

    assert told[:2] == [None, None]
    assert {datetime.fromisoformat(until) for until in told[2:]} == {
        datetime.fromisoformat(standing(world, user)["cooling_off_until"])
    }


def test_of_an_erased_user_nothing_is_shown(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    of = user_id(world, user)
    miss(world, place, user)

    world.client.delete("/api/booking/me", headers=user)

    assert code_of(world.client.get("/api/booking/me/standing", headers=user)) == (401, "unauthenticated")
    assert code_of(shown_to(world, world.staff(), of)) == (404, "not_found")
    assert code_of(forgive(world, world.staff(), of, place.hall_id)) == (404, "not_found")
    assert not is_cooling_off(world, world.user("wang"), place.slot_id)


# --- staff ---


def test_staff_forgive_one_visit_with_a_reason_that_is_on_record(world: World) -> None:
    place = a_strict_place(world)
    user = world.user("wang")
    of, admin = user_id(world, user), world.staff(Role.HALL_ADMIN, [place.hall_id])
    miss(world, place, user)
    party = miss(world, place, user, "张三", "李四")
    until = standing(world, user)["cooling_off_until"]

    answer = forgive(world, admin, of, place.hall_id, join_id=party[1]["id"])

    assert not is_cooling_off(world, user, place.slot_id)
    found = answer.json()
    assert (found["missed"], found["left"], found["cooling_off_until"]) == (1, 1, None)
    visits = {tuple(visit["join_ids"]): visit["forgiven_at"] is not None for visit in found["visits"]}
    assert visits.pop(tuple(join["id"] for join in party)) is True
    assert list(visits.values()) == [False]
    [row] = recorded(world, "audit.recorded")
    assert (row.data["action"], row.data["object_id"], row.data["hall_id"]) == ("user.forgiven", of, place.hall_id)
    assert row.data["reason"] == "住院"
    assert row.data["before"] == {"missed": 2, "cooling_off_until": until}
    assert row.data["after"] == {
        "missed": 1,
        "cooling_off_until": None,
        "join_ids": [join["id"] for join in party],
    }


def test_staff_forgive_all_that_counts_and_what_is_missed_later_counts(world: World) -> None:
    place = a_strict_place(world, POLICY.model_copy(update={"missed": 5}))
    user = world.user("wang")
    of = user_id(world, user)
    for _ in range(3):
        miss(world, place, user)

    first, again = (forgive(world, world.staff(), of, place.hall_id) for _ in range(2))
    miss(world, place, user)

    assert first.json()["missed"] == 0
    assert code_of(again) == (409, "nothing_to_forgive")
    assert standing(world, user)["missed"] == 1


def test_what_is_missed_at_another_hall_is_nobodys_business_here(world: World) -> None:
    mine, foreign = a_strict_place(world), a_strict_place(world)
    user = world.user("wang")
    of, admin = user_id(world, user), world.staff(Role.HALL_ADMIN, [mine.hall_id])
    booked(world, user, mine.slot_id)
    [join] = miss(world, foreign, user)
    before = shown_to(world, admin, of).json()

    miss(world, foreign, user)

    assert shown_to(world, admin, of).json() == before
    assert [(one["hall"]["id"], one["missed"], one["visits"]) for one in before["items"]] == [(mine.hall_id, 0, [])]
    assert code_of(forgive(world, admin, of, foreign.hall_id)) == (404, "not_found")
    assert code_of(forgive(world, admin, of, mine.hall_id, join_id=join["id"])) == (404, "join_not_found")
    assert code_of(forgive(world, admin, of, mine.hall_id)) == (409, "nothing_to_forgive")
    verifier = world.staff(Role.VERIFIER, [foreign.hall_id])
    assert code_of(forgive(world, verifier, of, foreign.hall_id)) == (403, "role_forbids")
    assert len(shown_to(world, world.staff(), of).json()["items"]) == 2


# --- while it is being noted ---


def _book_while_a_miss_is_noted(world: World) -> tuple[httpx2.Response, bool]:
    """Let a user book when the miss that begins their pause is written but not committed.

    Return the answer, and whether it came before the commit.
    """
    place = a_strict_place(world, MissedPolicy(missed=1, within_days=1, pause_days=1))
    user, slot, db = world.user("wang"), place.another_slot(), world.runtimes["booking"].db
    booked(world, user, slot.slot_id)
    end(world, slot)
    answers: list[httpx2.Response] = []
    booking_now = Thread(target=lambda: answers.append(book(world, user, place.slot_id)))

    with db.transaction() as session:
        assert misses.note(session, now=datetime.now(UTC), at_most=10) == 1
        booking_now.start()
        eventually(lambda: answers or _somebody_waits(world))
        came_before = bool(answers)
    booking_now.join()
    return answers[0], came_before


def _somebody_waits(world: World) -> bool:
    waiting = text(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
    )
    with world.runtimes["booking"].db.transaction() as session:
        return bool(session.scalar(waiting))


def test_a_booking_waits_for_the_miss_that_is_being_noted(world: World) -> None:
    answer, came_before = _book_while_a_miss_is_noted(world)

    assert code_of(answer) == (409, "cooling_off")
    assert not came_before


def test_without_the_users_lock_it_would_be_booked_past_the_miss(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misses, "LOCKED", (Join, Slot))

    answer, came_before = _book_while_a_miss_is_noted(world)

    assert (answer.status_code, came_before) == (201, True)


def test_who_is_booking_is_noted_the_next_time_and_once(world: World) -> None:
    place = a_strict_place(world)
    user, slot, db = world.user("wang"), place.another_slot(), world.runtimes["booking"].db
    booked(world, user, slot.slot_id)
    end(world, slot)

    with db.transaction() as session:
        users.lock(session, user_id(world, user))
        meanwhile = do(world, "mark_missed")
    noted = [do(world, "mark_missed") for _ in range(2)]

    assert (meanwhile, noted) == (0, [1, 0])
    assert standing(world, user)["missed"] == 1


# --- the decision alone ---

ZONES = ["Asia/Shanghai", "America/Havana", "America/Santiago", "Atlantic/Azores", "Asia/Beirut", "Africa/Cairo"]
DAYS = st.dates(date(2024, 1, 1), date(2024, 12, 31))


@given(
    missed=st.lists(DAYS, max_size=12),
    minded=st.builds(
        MissedPolicy, missed=st.integers(1, 5), within_days=st.integers(1, 60), pause_days=st.integers(1, 60)
    ),
    zone=st.sampled_from(ZONES),
    now=st.integers(0, 500 * 24 * 60).map(
        lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    ),
)
def test_a_standing_is_what_its_words_say(missed: list[date], minded: MissedPolicy, zone: str, now: datetime) -> None:
    found = policy.standing(missed, minded, zone, now=now)

    def until(last: date) -> list[date]:
        return [day for day in missed if timedelta() <= last - day < timedelta(days=minded.within_days)]

    today = now.astimezone(ZoneInfo(zone)).date()
    again = max(
        (last + timedelta(days=minded.pause_days + 1) for last in missed if len(until(last)) >= minded.missed),
        default=date.min,
    )
    assert found.missed == sum((today - day).days < minded.within_days for day in missed)
    assert (found.cooling_off_until is None) == (again <= today)
    if found.cooling_off_until is None:
        assert found.left == max(1, minded.missed - found.missed)
        return
    assert found.left == 0
    just_before = found.cooling_off_until - timedelta(microseconds=1)
    assert [at.astimezone(ZoneInfo(zone)).date() for at in (just_before, found.cooling_off_until)] == [
        again - timedelta(days=1),
        again,
    ]
