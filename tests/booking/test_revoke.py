"""Places that staff take back: from one person, from some, of a slot and of a day."""

from datetime import date, timedelta
from typing import Any

import httpx2
import pytest

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.principals import Role
from services.booking import joins
from tests.booking.builders import (
    Headers,
    a_slot,
    book,
    booked,
    cancel,
    check_in,
    checked_in,
    code_of,
    my_join,
    my_joins,
    people_booked,
    recorded,
    revoke,
    revoke_slot,
    stock,
)
from tests.world import World


def test_a_user_reads_why_their_place_was_taken_back(world: World) -> None:
    place = a_slot(world, capacity=1)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    answer = revoke(world, join["id"], reason="系统升级，请改约", staff=world.staff(Role.HALL_ADMIN, [place.hall_id]))

    assert answer.status_code == 200
    seen = my_join(world, user, join["id"])
    assert (seen["status"], seen["reason"]) == ("revoked", "系统升级，请改约")
    assert [one["id"] for one in my_joins(world, user, filter="cancelled")["items"]] == [join["id"]]
    assert stock(world, place.slot_id)["taken"] == 0
    assert book(world, world.user("li"), place.slot_id).status_code == 201
    [event] = recorded(world, "join.revoked")
    assert event.data["reason"] == "系统升级，请改约"


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": " x "}, {"reason": "x" * 201}, {"reason": "坏\x00了"}])
def test_nothing_is_revoked_without_a_reason(world: World, body: dict[str, Any]) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)

    answers = [
        world.client.post(f"/api/booking/staff/{path}/revoke", json=body, headers=world.staff())
        for path in (f"joins/{join['id']}", f"slots/{place.slot_id}")
    ]

    assert [code_of(answer) for answer in answers] == [(422, "invalid")] * 2
    assert stock(world, place.slot_id)["taken"] == 1


def test_what_is_not_booked_or_has_arrived_can_not_be_revoked(world: World) -> None:
    place = a_slot(world, party_max=3)
    user = world.user("wang")
    cancelled, revoked, arrived = booked(world, user, place.slot_id, "一一", "二二", "三三")
    cancel(world, user, cancelled["id"])
    revoke(world, revoked["id"])
    checked_in(world, arrived["id"])

    answers = [revoke(world, join["id"]) for join in (cancelled, revoked, arrived)]

    assert [code_of(answer) for answer in answers] == [
        (409, "join_not_booked"),
        (409, "join_not_booked"),
        (409, "already_checked_in"),
    ]
    assert stock(world, place.slot_id)["taken"] == 1


def test_a_slot_is_revoked_but_for_those_who_have_arrived(world: World) -> None:
    place = a_slot(world, capacity=9, party_max=3)
    wang, li = world.user("wang"), world.user("li")
    arrived, absent, gone = booked(world, wang, place.slot_id, "一一", "二二", "三三")
    [other] = booked(world, li, place.slot_id)
    cancel(world, wang, gone["id"])
    checked_in(world, arrived["id"])

    answer = revoke_slot(world, place.slot_id, world.staff(Role.HALL_ADMIN, [place.hall_id]))
    again = revoke_slot(world, place.slot_id)

    assert answer.json() == {"revoked": 2, "kept_checked_in": 1, "not_booked": 0}
    assert again.json() == {"revoked": 0, "kept_checked_in": 1, "not_booked": 0}
    states = [my_join(world, wang, join["id"])["status"] for join in (arrived, absent, gone)]
    assert states == ["booked", "revoked", "cancelled"]
    assert my_join(world, li, other["id"])["reason"] == "设备检修"
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 1


def test_a_user_whose_party_is_revoked_is_told_once(world: World) -> None:
    place = a_slot(world, party_max=3)
    user = world.user("wang")
    booked(world, user, place.slot_id, "一一", "二二", "三三")
    booked(world, world.user("li"), place.slot_id)
    revoke_slot(world, place.slot_id)

    world.settle()

    notices = world.client.get("/api/notify/notices", headers=user).json()["items"]
    assert [notice["kind"] for notice in notices].count("revoked") == 1


def _revoke_some(world: World, joins: list[dict[str, Any]], staff: Headers | None = None) -> httpx2.Response:
    body = {"join_ids": [join["id"] for join in joins], "reason": "设备检修"}
    return world.client.post("/api/booking/staff/joins/revoke", json=body, headers=staff or world.staff())


def test_some_joins_are_revoked_but_for_those_who_arrived_or_gave_back(world: World) -> None:
    place, elsewhere = a_slot(world, capacity=9, party_max=4), a_slot(world)
    wang, li = world.user("wang"), world.user("li")
    arrived, absent, gone, left_alone = booked(world, wang, place.slot_id, "一一", "二二", "三三", "四四")
    [other] = booked(world, li, elsewhere.slot_id)
    cancel(world, wang, gone["id"])
    checked_in(world, arrived["id"])

    answer = _revoke_some(world, [arrived, absent, gone, other])

    assert answer.json() == {"revoked": 2, "kept_checked_in": 1, "not_booked": 1}
    states = [my_join(world, wang, join["id"])["status"] for join in (arrived, absent, gone, left_alone)]
    assert states == ["booked", "revoked", "cancelled", "booked"]
    assert my_join(world, li, other["id"])["reason"] == "设备检修"
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 2
    assert stock(world, elsewhere.slot_id)["taken"] == 0
    actions = [(row.data["action"], row.data["object_id"]) for row in recorded(world, "audit.recorded")]
    assert sorted(actions[1:]) == sorted([("join.revoked", absent["id"]), ("join.revoked", other["id"])])


def test_nothing_is_revoked_where_one_of_them_is_foreign(world: World) -> None:
    mine, foreign = a_slot(world), a_slot(world)
    user = world.user("wang")
    [here], [there] = booked(world, user, mine.slot_id), booked(world, user, foreign.slot_id)

    answer = _revoke_some(world, [here, there], world.staff(Role.HALL_ADMIN, [mine.hall_id]))

    assert code_of(answer) == (404, "join_not_found")
    assert my_join(world, user, here["id"])["status"] == "booked"


def _revoke_day(world: World, day: date, staff: Headers | None = None, **place: str) -> httpx2.Response:
    body = {"reason": "台风停业"} | place
    return world.client.post(f"/api/booking/staff/days/{day}/revoke", json=body, headers=staff or world.staff())


def test_a_day_is_revoked_in_an_item_or_in_a_whole_hall(world: World) -> None:
    place = a_slot(world, max_per_slot=9)
    day = place.slot.date
    same_day = place.another_slot(starts_in=timedelta(days=1), date=day)
    next_day = place.another_slot(starts_in=timedelta(days=2), date=day + timedelta(days=1))
    neighbour = a_slot(world)
    neighbour.change_item(hall_id=place.hall_id)
    neighbour.change_slot(hall_id=place.hall_id, date=day)
    user = world.user("wang")
    arrived = booked(world, user, place.slot_id)[0]
    joins = [booked(world, user, slot)[0] for slot in (place.slot_id, same_day.slot_id, neighbour.slot_id)]
    [later] = booked(world, user, next_day.slot_id)
    checked_in(world, arrived["id"])
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])

    of_item = _revoke_day(world, day, admin, item_id=place.item.item_id)
    of_hall = _revoke_day(world, day, admin, hall_id=place.hall_id)

    assert of_item.json() == {"revoked": 2, "kept_checked_in": 1, "not_booked": 0}
    assert of_hall.json() == {"revoked": 1, "kept_checked_in": 1, "not_booked": 0}
    assert [my_join(world, user, join["id"])["status"] for join in joins] == ["revoked"] * 3
    assert [my_join(world, user, join["id"])["status"] for join in (arrived, later)] == ["booked"] * 2


def test_of_a_day_what_is_over_stays_as_it_was(world: World) -> None:
    over = a_slot(world)
    user, day = world.user("wang"), over.slot.date
    ahead = over.another_slot(starts_in=timedelta(hours=5), date=day)
    [missed], [coming] = (booked(world, user, slot) for slot in (over.slot_id, ahead.slot_id))
    over.change_slot(starts_at=utcnow() - timedelta(hours=3), ends_at=utcnow() - timedelta(hours=2), date=day)
    query = {"item_id": over.item.item_id, "from": day.isoformat(), "to": day.isoformat()}
    preview = world.client.get("/api/booking/staff/affected", params=query, headers=world.staff()).json()

    answer = _revoke_day(world, day, item_id=over.item.item_id)

    assert answer.json() == {"revoked": preview["joins"], "kept_checked_in": 0, "not_booked": 0}
    assert [my_join(world, user, join["id"])["status"] for join in (missed, coming)] == ["booked", "revoked"]
    assert revoke_slot(world, over.slot_id).json()["revoked"] == 1  # where that is meant


def test_a_foreign_day_is_not_there(world: World) -> None:
    place, elsewhere = a_slot(world), a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    stranger = world.staff(Role.HALL_ADMIN, [elsewhere.hall_id])

    answers = [
        _revoke_day(world, place.slot.date, stranger, item_id=place.item.item_id),
        _revoke_day(world, place.slot.date, stranger, hall_id=place.hall_id),
        _revoke_day(world, place.slot.date, item_id=new_id()),
    ]

    assert [code_of(answer) for answer in answers] == [(404, "not_found")] * 3
    assert code_of(_revoke_day(world, place.slot.date)) == (422, "invalid")
    assert my_join(world, user, join["id"])["status"] == "booked"


def test_an_override_and_whatever_takes_a_reason_takes_one_that_can_be_read(world: World) -> None:
    place = a_slot(world, starts_in=timedelta(days=3))
    [join] = booked(world, world.user("wang"), place.slot_id)

    assert code_of(check_in(world, world.staff(), join_id=join["id"], override=True)) == (422, "invalid")
    assert code_of(revoke(world, join["id"], reason="\u200b\u200b")) == (422, "invalid")


def test_a_slot_of_many_people_is_revoked_in_pieces_and_everybody_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "AT_ONCE", 3)
    place = a_slot(world, capacity=20, party_max=2, max_per_slot=2, starts_in=timedelta(minutes=10))
    people = [booked(world, world.user(f"user-{number}"), place.slot_id, "一一", "二二") for number in range(5)]
    checked_in(world, people[0][0]["id"])

    answer = revoke_slot(world, place.slot_id)

    assert answer.json() == {"revoked": 9, "kept_checked_in": 1, "not_booked": 0}
    assert stock(world, place.slot_id)["taken"] == people_booked(world, place.slot_id) == 1
    told = [row.data for row in recorded(world, "join.revoked")]
    assert len({fact["action_id"] for fact in told}) == 5
    assert sorted(fact["people"] for fact in told) == [1, 2, 2, 2, 2, 2, 2, 2, 2]
