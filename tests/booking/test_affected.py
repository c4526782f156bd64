"""The preview of who is affected, before a hall, an item, a day or a slot is stopped or closed."""

from datetime import date
from functools import partial
from typing import Any

import pytest

from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.booking.builders import book, booked, cancel, checked_in
from tests.booking.waiting import a_full_slot, served, waiting
from tests.catalog.builders import (
    AFTERNOON,
    MORNING,
    STAFF,
    a_day,
    a_hall,
    an_item,
    in_days,
    queries_of,
    refused,
    shown,
)
from tests.world import World

pytestmark = pytest.mark.usefixtures("noon")

NAME = {"key": "name", "type": "text", "label": "姓名"}
EVENING = {"start": "18:00", "end": "20:00", "capacity": 30}


def an_offer(world: World, hall: Any, *ahead: int, title: str = "护照办理", **fields: Any) -> Any:
    """Return an item with slots in the morning and the afternoon of some days from now, as (item, {(day, start): slot})."""
    rules = {"party_max": 5, "max_per_slot": 50}
    item = an_item(world, hall, title=title, form=[NAME], **{"rules": rules} | fields)
    days = {number: a_day(world, item, in_days(number), MORNING, AFTERNOON)["slots"] for number in ahead}
    world.settle()
    return item, {(number, slot["start"]): slot["id"] for number, slots in days.items() for slot in slots}


def affected(world: World, *, staff: Any = None, **query: Any) -> Any:
    answer = world.client.get("/api/booking/staff/affected", params=query, headers=staff or world.staff())
    return shown(answer)


def instead(found: Any) -> list[str]:
    return [other["slot"]["id"] for other in found["alternatives"]]


def test_people_ahead_are_told_by_slot_with_those_who_are_here_already(world: World) -> None:
    item, slots = an_offer(world, a_hall(world), 1, 2)
    wang, li = world.user("wang"), world.user("li")
    joins = booked(world, wang, slots[2, "09:00"], "王一", "王二")
    booked(world, li, slots[2, "09:00"], "李一")
    booked(world, wang, slots[1, "14:00"], "王一")
    checked_in(world, joins[0]["id"])

    found = affected(world, item_id=item["id"])

    assert [(one["slot"]["id"], one["joins"], one["users"], one["checked_in"]) for one in found["items"]] == [
        (slots[1, "14:00"], 1, 1, 0),
        (slots[2, "09:00"], 3, 2, 1),
    ]
    assert (found["slots"], found["joins"], found["users"], found["next_cursor"]) == (2, 4, 2, None)


def test_people_who_wait_or_hold_an_offer_are_told_too(world: World) -> None:
    place, owner, [first, second] = a_full_slot(world, people=2, waitlist="offer")
    waiting(world, world.user("wang"), place.slot_id)
    waiting(world, world.user("li"), place.slot_id, people=2)
    cancel(world, owner, first["id"])
    served(world)  # an offer to Wang

    before = affected(world, item_id=place.item.item_id)
    cancel(world, owner, second["id"])
    nobody_booked = affected(world, slot_id=place.slot_id)

    assert [(one["joins"], one["waiting"]) for one in before["items"]] == [(1, 3)]
    assert (before["slots"], before["joins"], before["users"], before["waiting"]) == (1, 1, 1, 3)
    assert [(one["joins"], one["waiting"]) for one in nobody_booked["items"]] == [(0, 3)]
    assert (nobody_booked["slots"], nobody_booked["joins"], nobody_booked["users"]) == (1, 0, 0)


def test_a_closed_day_sends_people_to_the_nearest_slots_of_the_same_item_that_take_them(world: World) -> None:
    item, slots = an_offer(world, a_hall(world), 2, 3, 4, 9, 40)
    day = {"from": in_days(3).isoformat(), "to": in_days(3).isoformat()}
    user = world.user("wang")
    booked(world, user, slots[3, "09:00"])

    [found] = affected(world, item_id=item["id"], **day)["items"]
    [before_month] = affected(world, slot_id=slots[3, "09:00"], **day)["items"]

    assert instead(found) == [slots[2, "14:00"], slots[2, "09:00"], slots[4, "09:00"]]
    assert instead(before_month)[0] == slots[3, "14:00"], "of the same day, where that is not closed"
    assert found["alternatives"][0]["remaining"] == 30
    assert book(world, user, instead(found)[0]).status_code == 201


def test_what_cannot_be_booked_is_no_alternative(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall, form=[NAME], rules={"opens_days_before": 4, "max_per_slot": 50, "party_max": 5})
    full, closed, taken = MORNING | {"capacity": 1}, AFTERNOON | {"status": "closed"}, EVENING
    day = a_day(world, item, in_days(2), full, closed, taken)["slots"]
    [far] = a_day(world, item, in_days(4), MORNING)["slots"]
    a_day(world, item, in_days(5), MORNING)  # not open for booking yet
    world.settle()
    user = world.user("wang")
    for slot in (day[0], day[2]):
        booked(world, user, slot["id"])

    [of_full, of_taken] = affected(world, item_id=item["id"], to=in_days(2).isoformat())["items"]
    [single] = affected(world, slot_id=day[2]["id"])["items"]

    assert instead(of_full) == instead(of_taken) == [far["id"]]
    assert instead(single) == [far["id"]]


def test_a_closed_hall_sends_people_to_items_of_the_same_title_in_other_halls(world: World) -> None:
    here, there, elsewhere = a_hall(world), a_hall(world), a_hall(world)
    _, slots = an_offer(world, here, 1)
    _, others = an_offer(world, there, 1)
    an_offer(world, there, 1, title="社保卡办理")
    an_offer(world, elsewhere, 1, status="stopped")
    booked(world, world.user("wang"), slots[1, "09:00"])

    [found] = affected(world, hall_id=here["id"])["items"]

    assert instead(found) == [others[1, "09:00"], others[1, "14:00"]]
    assert found["alternatives"][0]["hall"]["id"] == there["id"]


def test_a_preview_shows_a_hall_admin_nothing_of_other_halls(world: World) -> None:
    own, foreign = a_hall(world), a_hall(world)
    item, slots = an_offer(world, own, 1)
    admin = world.staff(Role.HALL_ADMIN, [own["id"]])
    booked(world, world.user("wang"), slots[1, "09:00"])
    before = affected(world, staff=admin, hall_id=own["id"])

    theirs, their_slots = an_offer(world, foreign, 1)
    booked(world, world.user("li"), their_slots[1, "09:00"])

    assert affected(world, staff=admin, hall_id=own["id"]) == before
    for query in ({"hall_id": foreign["id"]}, {"item_id": theirs["id"]}, {"slot_id": their_slots[1, "09:00"]}):
        unknown = {name: new_id() for name in query}
        answers = [
            world.client.get("/api/booking/staff/affected", params=one, headers=admin) for one in (query, unknown)
        ]
        for answer in answers:
            refused(answer, 404, "not_found")
    verifier = world.staff(Role.VERIFIER, [own["id"]])
    url = "/api/booking/staff/affected"
    refused(world.client.get(url, params={"item_id": item["id"]}, headers=verifier), 403, "role_forbids")


def test_slots_come_in_pages_whose_totals_are_those_of_all(world: World) -> None:
    item, slots = an_offer(world, a_hall(world), 1, 2)
    for number, slot_id in enumerate(slots.values()):
        booked(world, world.user(str(number)), slot_id)

    first = affected(world, item_id=item["id"], limit=3)
    rest = affected(world, item_id=item["id"], limit=3, cursor=first["next_cursor"])

    assert [one["slot"]["id"] for one in first["items"] + rest["items"]] == list(slots.values())
    assert (first["slots"], rest["slots"]) == (4, 4)
    one, many = (
        queries_of(world, partial(affected, world, item_id=item["id"], limit=limit), service="booking")
        for limit in (1, 3)
    )
    assert one == many


def test_what_is_over_affects_nobody(world: World) -> None:
    item, slots = an_offer(world, a_hall(world), 1)
    [join] = booked(world, world.user("wang"), slots[1, "09:00"])
    answer = world.client.post(
        f"/api/booking/staff/joins/{join['id']}/revoke", json={"reason": "停电"}, headers=world.staff()
    )
    assert answer.status_code == 200

    found = affected(world, item_id=item["id"])

    assert found == {"items": [], "next_cursor": None, "slots": 0, "joins": 0, "users": 0, "waiting": 0}


def test_the_preview_and_the_refusal_to_close_tell_the_same_number(world: World) -> None:
    hall = a_hall(world)
    _, slots = an_offer(world, hall, 1, 2)
    booked(world, world.user("wang"), slots[1, "09:00"], "王一", "王二")
    booked(world, world.user("li"), slots[2, "14:00"])
    world.settle()
    dates = {"from": in_days(1).isoformat(), "to": in_days(1).isoformat()}

    preview = affected(world, hall_id=hall["id"], **dates)
    answer = world.client.post(
        f"{STAFF}/closures", json={"hall_id": hall["id"], "reason": "停电检修"} | dates, headers=world.staff()
    )

    assert refused(answer, 409, "joins_ahead")["joins"] == preview["joins"] == 2


@pytest.mark.parametrize("names", [(), ("hall_id", "item_id"), ("hall_id", "item_id", "slot_id")])
def test_exactly_one_thing_is_previewed(world: World, names: tuple[str, ...]) -> None:
    query = {name: new_id() for name in names} | {"from": date(2027, 1, 1).isoformat()}

    answer = world.client.get("/api/booking/staff/affected", params=query, headers=world.staff())

    refused(answer, 422, "not_one_chosen")
