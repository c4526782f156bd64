"""Closures: dates on which a hall or an item is closed, what users are told, and what comes back afterwards."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, text

from libs.contracts.principals import Role
from services.catalog import policy
from tests.booking.builders import book
from tests.catalog.builders import (
    AFTERNOON,
    API,
    MORNING,
    STAFF,
    TOMORROW,
    a_day,
    a_hall,
    an_item,
    day_url,
    fill,
    in_days,
    made,
    published,
    refused,
    shown,
    stat,
)
from tests.world import World, eventually, simultaneously


def close(world: World, first: date = TOMORROW, last: date | None = None, **fields: Any) -> httpx2.Response:
    body = {"from": first.isoformat(), "to": (last or first).isoformat(), "reason": "消防检修"} | fields
    return world.client.post(f"{STAFF}/closures", json=body, headers=world.staff())


def lift(world: World, closure: Any) -> None:
    answer = world.client.delete(f"{STAFF}/closures/{closure['id']}", headers=world.staff())
    assert answer.status_code == 204, answer.text


def edit(world: World, closure: Any, **fields: Any) -> httpx2.Response:
    return world.client.patch(f"{STAFF}/closures/{closure['id']}", json=fields, headers=world.staff())


def dates_shown(world: World, item: Any) -> list[str]:
    return [day["date"] for day in shown(world.client.get(f"{API}/items/{item['id']}"))["days"]]


def told_of(world: World, day: Any) -> list[list[str]]:
    """Return what the others were told of each slot's status, in its order."""
    return [[fact["status"] for fact in published(world, "slot.changed", slot["id"])] for slot in day["slots"]]


def test_a_closed_hall_offers_nothing_on_these_dates_and_says_why(world: World) -> None:
    hall = a_hall(world)
    item, other = an_item(world, hall), an_item(world, a_hall(world))
    for one in (item, other):
        for ahead in (1, 2, 3):
            a_day(world, one, in_days(ahead))

    closure = made(close(world, in_days(1), in_days(2), hall_id=hall["id"]))

    told = [{"from": in_days(1).isoformat(), "to": in_days(2).isoformat(), "reason": "消防检修"}]
    page = shown(world.client.get(f"{API}/items/{item['id']}"))
    assert ([day["date"] for day in page["days"]], page["closures"]) == ([in_days(3).isoformat()], told)
    assert shown(world.client.get(f"{API}/halls/{hall['id']}"))["closures"] == told
    bookable = shown(world.client.get(f"{API}/halls/{hall['id']}/days"))["items"]
    assert [day["date"] for day in bookable] == [in_days(3).isoformat()]
    of_day = world.client.get(f"{API}/halls/{hall['id']}/items", params={"day": TOMORROW.isoformat()})
    assert shown(of_day)["items"] == []
    staff_day = shown(world.client.get(day_url(item, TOMORROW), headers=world.staff()))
    assert staff_day["closure"] == {"id": closure["id"], "reason": "消防检修"}
    assert [(slot["status"], slot["state"]) for slot in staff_day["slots"]] == [("open", "closed")]
    assert len(dates_shown(world, other)) == 3


@pytest.mark.parametrize("reason", ["\u200b\u200b\u202e", "\u200b\u200b", "检修\n完毕"])
def test_a_closure_without_a_reason_that_can_be_read_is_refused(world: World, reason: str) -> None:
    hall = a_hall(world)
    closure = made(close(world, hall_id=hall["id"]))

    refused(close(world, hall_id=hall["id"], reason=reason), 422, "invalid")
    refused(edit(world, closure, reason=reason), 422, "invalid")


def test_booking_refuses_a_closed_date_and_takes_it_again_afterwards(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall, form=[{"key": "name", "type": "text", "label": "姓名"}])
    [slot] = a_day(world, item, TOMORROW)["slots"]
    closure = made(close(world, item_id=item["id"]))
    world.settle()
    user = world.user("wang")

    refused(book(world, user, slot["id"]), 409, "slot_closed")
    lift(world, closure)
    world.settle()

    made(book(world, user, slot["id"]))


def test_what_was_closed_by_itself_stays_closed_when_a_closure_is_lifted(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON | {"status": "closed"})
    closure = made(close(world, hall_id=hall["id"]))

    lift(world, closure)

    again = shown(world.client.get(day_url(item, TOMORROW), headers=world.staff()))
    assert [slot["status"] for slot in again["slots"]] == ["open", "closed"]
    assert again["closure"] is None
    assert told_of(world, day) == [["open", "closed", "open"], ["closed", "closed", "closed"]]


def test_a_date_closed_twice_opens_when_the_last_closure_is_lifted(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    a_day(world, item, TOMORROW)
    of_hall, of_item = made(close(world, hall_id=hall["id"])), made(close(world, item_id=item["id"], reason="系统升级"))

    lift(world, of_hall)
    still = dates_shown(world, item)
    lift(world, of_item)

    assert (still, dates_shown(world, item)) == ([], [TOMORROW.isoformat()])


def test_a_closure_of_an_item_leaves_the_others_of_its_hall_open(world: World) -> None:
    hall = a_hall(world)
    item, neighbour = an_item(world, hall), an_item(world, hall)
    for one in (item, neighbour):
        a_day(world, one, TOMORROW)

    made(close(world, item_id=item["id"]))

    assert (dates_shown(world, item), dates_shown(world, neighbour)) == ([], [TOMORROW.isoformat()])
    assert shown(world.client.get(f"{API}/halls/{hall['id']}"))["closures"] == []


def test_the_dates_of_a_closure_move_without_opening_what_stays_closed(world: World) -> None:
    item = an_item(world, a_hall(world))
    days = [a_day(world, item, in_days(ahead)) for ahead in (1, 2, 3)]
    closure = made(close(world, in_days(1), in_days(2), item_id=item["id"]))

    moved = shown(edit(world, closure, **{"from": in_days(2).isoformat(), "to": in_days(3).isoformat()}))

    assert dates_shown(world, item) == [TOMORROW.isoformat()]
    assert [told_of(world, day)[0] for day in days] == [
        ["open", "closed", "open"],
        ["open", "closed"],
        ["open", "closed"],
    ]
    assert (moved["version"], shown(edit(world, closure, reason="消防检修"))["version"]) == (2, 2)
    refused(edit(world, closure, to=in_days(1).isoformat()), 422, "closure_unfit")
    record = published(world, "audit.recorded")[-1]
    assert (record["action"], record["object_type"], record["object_id"]) == ("closure.edited", "item", item["id"])
    assert (record["before"]["from"], record["after"]["from"]) == (in_days(1).isoformat(), in_days(2).isoformat())


def test_dates_with_joins_are_closed_only_when_that_is_confirmed(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    [slot] = a_day(world, item, in_days(2))["slots"]
    stat(world, slot, item, taken=3, booked=3)

    params = refused(close(world, in_days(1), in_days(2), hall_id=hall["id"]), 409, "joins_ahead")
    first_day = made(close(world, in_days(1), hall_id=hall["id"]))
    wider = {"to": in_days(2).isoformat()}
    refused(edit(world, first_day, **wider), 409, "joins_ahead")

    assert params == {"joins": 3, "days": [in_days(2).isoformat()]}
    shown(edit(world, first_day, **wider, accept_joins_ahead=True))
    assert dates_shown(world, item) == []
    shown(edit(world, first_day, reason="消防检修延期"))  # what is closed already is no matter any more


def test_days_made_on_closed_dates_are_left_out_of_fills_and_closed_where_staff_insist(world: World) -> None:
    item = an_item(world, a_hall(world))
    closure = made(close(world, in_days(2), item_id=item["id"]))
    dates = {"from": in_days(1).isoformat(), "to": in_days(3).isoformat()}

    filled = shown(fill(world, item, periods=[MORNING], holidays="ignore", **dates))
    copied = shown(
        world.client.post(
            f"{day_url(item, in_days(1))}/copy", json={"dates": [in_days(2).isoformat()]}, headers=world.staff()
        )
    )
    day = a_day(world, item, in_days(2))

    skipped = [{"date": in_days(2).isoformat(), "reason": "closed", "name": "消防检修"}]
    assert (len(filled["created"]), filled["skipped"], copied["skipped"]) == (2, skipped, skipped)
    assert (day["closure"]["id"], day["slots"][0]["state"]) == (closure["id"], "closed")
    assert told_of(world, day) == [["closed"]]
    lift(world, closure)
    assert in_days(2).isoformat() in dates_shown(world, item)


def test_a_day_edited_while_it_is_closed_keeps_its_own_word(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    closure = made(close(world, item_id=item["id"]))
    headers = world.staff() | {"If-Match": day["etag"]}
    slots = [MORNING | {"capacity": 5}, AFTERNOON | {"status": "closed"}]

    edited = shown(world.client.put(day_url(item, TOMORROW), json={"slots": slots}, headers=headers))
    lift(world, closure)

    assert [slot["state"] for slot in edited["slots"]] == ["closed", "closed"]
    public = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
    assert [(slot["start"], slot["capacity"]) for slot in public] == [("09:00", 5)]


def test_no_day_made_while_its_hall_is_being_closed_is_left_open(world: World) -> None:
    hall = a_hall(world)
    items = [an_item(world, hall) for _ in range(3)]
    new = world.staff() | {"If-None-Match": "*"}
    body: Any = {"slots": [MORNING]}

    answers = simultaneously(
        [
            *(lambda item=item: world.client.put(day_url(item, TOMORROW), json=body, headers=new) for item in items),
            lambda: close(world, hall_id=hall["id"]),
        ]
    )

    assert [answer.status_code for answer in answers] == [201] * 4
    assert [dates_shown(world, item) for item in items] == [[]] * 3


def test_a_day_is_deleted_after_the_closure_that_is_under_way(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    first, second = a_day(world, item, TOMORROW, MORNING, AFTERNOON)["slots"]
    lock = "SELECT 1 FROM {} WHERE id = :id FOR NO KEY UPDATE"

    with ThreadPoolExecutor(1) as other, world.runtimes["catalog"].db.transaction() as session:
        # As a closure does, which takes slots in whatever order they lie.
        session.execute(text(lock.format("halls")), {"id": hall["id"]})
        session.execute(text(lock.format("slots")), {"id": second["id"]})
        deleting = other.submit(world.client.delete, day_url(item, TOMORROW), headers=world.staff())
        eventually(lambda: somebody_waits(world))
        session.execute(text(lock.format("slots")), {"id": first["id"]})
        session.commit()
        answer = deleting.result()

    assert answer.status_code == 204, answer.text


def test_others_are_told_of_a_closure_by_one_statement(world: World) -> None:
    item = an_item(world, a_hall(world))
    dates = {"from": TOMORROW.isoformat(), "to": in_days(60).isoformat()}
    shown(fill(world, item, periods=[MORNING], holidays="ignore", **dates))
    batches: list[int] = []

    @event.listens_for(world.runtimes["catalog"].db.engine, "before_cursor_execute")
    def _(*args: Any) -> None:
        batches.append(len(args[3]) if args[5] else 1)  # the rows of a statement that is sent for each of them

    made(close(world, TOMORROW, in_days(60), item_id=item["id"]))

    assert sum(batches) == len(batches)
    assert len(published(world, "slot.changed")) == 120


def somebody_waits(world: World) -> bool:
    """Whether somebody waits in PostgreSQL for what another one holds."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with world.runtimes["catalog"].db.transaction() as session:
        return bool(session.scalar(text(waiting)))


def test_more_slots_than_one_request_can_carry_are_closed_in_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_CHANGES", 2)  # ten thousand take a while to make
    hall = a_hall(world)
    item = an_item(world, hall)
    for ahead in (1, 2, 3):
        a_day(world, item, in_days(ahead))

    params = refused(close(world, in_days(1), in_days(3), hall_id=hall["id"]), 422, "too_many_slots")
    still_open = dates_shown(world, item)
    closure = made(close(world, in_days(1), in_days(2), hall_id=hall["id"]))
    shown(edit(world, closure, to=in_days(3).isoformat()))

    assert params == {"most": 2}
    assert (len(still_open), dates_shown(world, item)) == (3, [])


def test_a_hall_admin_closes_within_their_halls_and_sees_nothing_of_others(world: World) -> None:
    own, foreign = a_hall(world), a_hall(world)
    item = an_item(world, foreign)
    mine, theirs = (made(close(world, hall_id=hall["id"])) for hall in (own, foreign))
    admin = world.staff(Role.HALL_ADMIN, [own["id"]])
    url = f"{STAFF}/closures"
    dates = {"from": TOMORROW.isoformat(), "to": TOMORROW.isoformat(), "reason": "检修"}

    assert [row["id"] for row in shown(world.client.get(url, headers=admin))["items"]] == [mine["id"]]
    assert shown(world.client.get(url, params={"hall_id": foreign["id"]}, headers=admin))["items"] == []
    assert shown(world.client.get(url, params={"from": in_days(2).isoformat()}, headers=admin))["items"] == []
    for named in ({"hall_id": foreign["id"]}, {"item_id": item["id"]}):
        refused(world.client.post(url, json=dates | named, headers=admin), 404, "not_found")
    refused(world.client.patch(f"{url}/{theirs['id']}", json={"reason": "检修"}, headers=admin), 404, "not_found")
    refused(world.client.delete(f"{url}/{theirs['id']}", headers=admin), 404, "not_found")
    for body in (
        dates,
        dates | {"hall_id": own["id"], "item_id": item["id"]},
        dates | {"hall_id": own["id"], "reason": ""},
    ):
        refused(world.client.post(url, json=body, headers=admin), 422, "invalid")
    backwards = dates | {"hall_id": own["id"], "to": in_days(0).isoformat()}
    refused(world.client.post(url, json=backwards, headers=admin), 422, "closure_unfit")
