"""What changes many things at once: rules and order of items, capacities of slots; and an item's QR code."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import segno

from libs.common.ids import new_id
from libs.contracts.catalog import Rules
from libs.contracts.principals import Role
from services.catalog import policy
from tests.booking.builders import booked
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
    published,
    queries_of,
    refused,
    shown,
    stat,
    titles,
)
from tests.world import World, simultaneously

ROOT = Path(__file__).parents[2]


def change_rules(world: World, *items: Any, staff: Any = None, **rules: Any) -> httpx2.Response:
    body = {"item_ids": [item["id"] for item in items], "rules": rules}
    return world.client.post(f"{STAFF}/items/rules", json=body, headers=staff or world.staff())


def arrange(world: World, *items: Any, staff: Any = None) -> httpx2.Response:
    body = {"item_ids": [item["id"] for item in items]}
    return world.client.put(f"{STAFF}/items/order", json=body, headers=staff or world.staff())


def change_capacity(world: World, *items: Any, capacity: int | None, staff: Any = None, **more: Any) -> httpx2.Response:
    body = {"item_ids": [item["id"] for item in items], "from": TOMORROW.isoformat(), "to": in_days(9).isoformat()}
    return world.client.post(
        f"{STAFF}/slots/capacity", json=body | {"capacity": capacity} | more, headers=staff or world.staff()
    )


def rules_of(world: World, item: Any) -> Any:
    return shown(world.client.get(f"{STAFF}/items/{item['id']}", headers=world.staff()))["rules"]


def capacities_of(world: World, item: Any, ahead: int) -> list[int | None]:
    day = shown(world.client.get(day_url(item, in_days(ahead)), headers=world.staff()))
    return [slot["capacity"] for slot in day["slots"]]


# --- rules ---


def test_rules_that_are_sent_change_for_all_items_and_the_others_stay(world: World) -> None:
    hall = a_hall(world)
    first = an_item(world, hall, rules={"party_max": 2, "cancel": "never", "max_per_day": 4})
    second = an_item(world, hall, rules={"party_max": 3})

    changed = shown(change_rules(world, first, second, party_max=3, max_per_day=None))["items"]

    assert {one["id"]: one["version"] for one in changed} == {first["id"]: 2, second["id"]: 1}
    kept = rules_of(world, first)
    assert (kept["party_max"], kept["max_per_day"], kept["cancel"]) == (3, None, "never")
    assert [fact["rules"]["party_max"] for fact in published(world, "item.changed", first["id"])] == [2, 3]
    assert len(published(world, "item.changed", second["id"])) == 1, "what did not change is told to nobody"
    [record] = [one for one in published(world, "audit.recorded") if one["action"] == "item.edited"]
    assert (record["object_id"], record["before"]["rules"]["party_max"]) == (first["id"], 2)


def test_the_page_about_waiting_names_a_request_that_changes_no_other_rule(world: World) -> None:
    page = (ROOT / "docs/waiting.md").read_text()
    [(path, body)] = re.findall(r"^POST (/api/catalog/\S+)\n(.+)$", page, re.MULTILINE)
    item = an_item(world, a_hall(world), rules={"party_max": 5, "cancel": "anytime", "checkin_opens_minutes": 120})
    before = rules_of(world, item)

    shown(world.client.post(path, json=json.loads(body.replace("<id>", item["id"])), headers=world.staff()))

    assert rules_of(world, item) == before | {"waitlist": "offer", "offer_minutes": 60}
    whole = {"rules": {"waitlist": "take"}}
    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json=whole, headers=world.staff()))
    assert rules_of(world, item) == Rules(waitlist="take").model_dump(), "the page warns of this one"


def test_rules_change_for_all_items_or_for_none(world: World) -> None:
    hall, foreign = a_hall(world), a_hall(world)
    free = an_item(world, hall)
    opening = an_item(world, hall, rules={"opens_days_before": 3, "opens_at": "09:00"})
    theirs = an_item(world, foreign)
    admin = world.staff(Role.HALL_ADMIN, [hall["id"]])

    unfit = refused(change_rules(world, opening, free, opens_at="08:00"), 422, "rules_unfit")
    refused(change_rules(world, free, theirs, party_max=9, staff=admin), 404, "not_found")
    refused(change_rules(world, free, {"id": new_id()}, party_max=9), 404, "not_found")
    refused(change_rules(world, free, free, party_max=9), 422, "invalid")
    refused(change_rules(world, free, party_max=0), 422, "invalid")

    assert (unfit["item_id"], unfit["faults"][0]["field"]) == (free["id"], "rules.opens_at")
    assert rules_of(world, opening)["opens_at"] == "09:00"
    assert rules_of(world, free)["party_max"] == 1


# --- order and recommendation ---


def test_items_are_put_on_top_in_the_order_that_is_sent(world: World) -> None:
    hall = a_hall(world)
    first, second, third = (an_item(world, hall, title=title) for title in ("甲", "乙", "丙"))

    arranged = shown(arrange(world, second, first))["items"]

    assert [(one["id"], one["order"]) for one in arranged] == [(second["id"], 0), (first["id"], 1)]
    assert titles(shown(world.client.get(f"{API}/items", params={"hall_id": hall["id"]}))) == ["乙", "甲", "丙"]
    assert third["order"] == 9999
    refused(arrange(world, first, {"id": hall["id"]}), 404, "not_found")
    refused(arrange(world, first, first), 422, "invalid")


def test_what_stood_on_top_comes_after_what_is_put_there(world: World) -> None:
    hall = a_hall(world)
    names = ("旧一", "旧二", "新一", "新二", "靠后", "末位")
    old_1, old_2, new_1, new_2, behind, _ = (an_item(world, hall, title=title) for title in names)
    shown(world.client.patch(f"{STAFF}/items/{behind['id']}", json={"order": 7}, headers=world.staff()))
    shown(arrange(world, old_1, old_2))

    shown(arrange(world, new_2, new_1))

    listed = shown(world.client.get(f"{STAFF}/items", headers=world.staff()))["items"]
    assert [(item["title"], item["order"]) for item in listed] == [
        ("新二", 0),
        ("新一", 1),
        ("旧一", 2),
        ("旧二", 3),
        ("靠后", 7),
        ("末位", 9999),
    ]


def test_items_that_are_put_on_top_at_once_make_room_for_one_another(world: World) -> None:
    hall = a_hall(world)
    items = [an_item(world, hall, title=f"项目{number}") for number in range(6)]

    for answer in simultaneously([partial(arrange, world, *items[number : number + 2]) for number in (0, 2, 4)]):
        shown(answer)

    listed = shown(world.client.get(f"{STAFF}/items", headers=world.staff()))["items"]
    assert [item["order"] for item in listed] == [0, 1, 2, 3, 4, 5]


def test_a_hall_admin_does_not_go_on_top_of_what_all_halls_offer(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    admin = world.staff(Role.HALL_ADMIN, [hall["id"]])
    body = {"hall_id": hall["id"], "title": "置顶", "order": 0}

    refused(arrange(world, item, staff=admin), 403, "role_forbids")
    for url in (f"{STAFF}/halls/{hall['id']}", f"{STAFF}/items/{item['id']}"):
        refused(world.client.patch(url, json={"order": 0}, headers=admin), 403, "role_forbids")
        shown(world.client.patch(url, json={"order": 9999}, headers=admin))  # as it stands
    refused(world.client.post(f"{STAFF}/items", json=body, headers=admin), 403, "role_forbids")


def test_staff_and_users_list_what_is_recommended(world: World) -> None:
    hall = a_hall(world)
    an_item(world, hall, title="普通")
    chosen = an_item(world, hall, title="推荐", recommended=True)

    for url, headers in ((f"{API}/items", {}), (f"{STAFF}/items", world.staff())):
        page = shown(world.client.get(url, params={"recommended": "true"}, headers=headers))
        assert [item["id"] for item in page["items"]] == [chosen["id"]]


# --- capacities ---


def test_many_slots_get_one_capacity_and_the_others_are_told(world: World) -> None:
    hall = a_hall(world)
    first, second = an_item(world, hall), an_item(world, hall)
    for item in (first, second):
        for ahead in (1, 2, 10):
            a_day(world, item, in_days(ahead), MORNING, AFTERNOON | {"capacity": 5})

    changed = shown(change_capacity(world, first, second, capacity=5))

    assert changed == {"slots": 4, "days": 4, "overfull": []}
    assert [capacities_of(world, first, ahead) for ahead in (1, 2, 10)] == [[5, 5], [5, 5], [30, 5]]
    day = shown(world.client.get(day_url(first, TOMORROW), headers=world.staff()))
    morning, afternoon = (published(world, "slot.changed", slot["id"]) for slot in day["slots"])
    assert [(fact["version"], fact["capacity"]) for fact in morning] == [(1, 30), (2, 5)]
    assert [fact["version"] for fact in afternoon] == [1]
    records = [one for one in published(world, "audit.recorded") if one["action"] == "slots.capacity_changed"]
    assert {record["object_id"] for record in records} == {first["id"], second["id"]}
    assert records[0]["before"] == {
        "slots": [{"start": "09:00", "end": "12:00", "capacity": 30, "days": [in_days(n).isoformat() for n in (1, 2)]}]
    }
    assert records[0]["after"] == {"capacity": 5}


def test_weekdays_and_times_of_day_choose_among_the_slots(world: World) -> None:
    item = an_item(world, a_hall(world))
    for ahead in (1, 2):
        a_day(world, item, in_days(ahead), MORNING, AFTERNOON)

    shown(change_capacity(world, item, capacity=1, weekdays=[in_days(2).isoweekday()], end="12:00"))
    shown(change_capacity(world, item, capacity=None, start="14:00"))
    nothing = shown(change_capacity(world, item, capacity=3, start="09:01", end="17:29"))

    assert [capacities_of(world, item, ahead) for ahead in (1, 2)] == [[30, None], [1, None]]
    assert nothing == {"slots": 0, "days": 0, "overfull": []}


def test_a_capacity_below_what_is_taken_throws_nobody_out_and_is_told(world: World) -> None:
    item = an_item(
        world, a_hall(world), form=[{"key": "name", "type": "text", "label": "姓名"}], rules={"party_max": 5}
    )
    [slot] = a_day(world, item, TOMORROW)["slots"]
    world.settle()
    booked(world, world.user("wang"), slot["id"], "王一", "王二")
    world.settle()

    changed = shown(change_capacity(world, item, capacity=1))
    world.settle()

    assert [(one["id"], one["taken"]) for one in changed["overfull"]] == [(slot["id"], 2)]
    inventory = shown(world.client.get(f"/api/booking/staff/slots/{slot['id']}", headers=world.staff()))
    assert (inventory["asked"], inventory["capacity"], inventory["taken"]) == (1, 2, 2)


def test_a_slot_is_overfull_by_those_who_have_booked_it(world: World) -> None:
    item = an_item(world, a_hall(world))
    [slot] = a_day(world, item, TOMORROW)["slots"]
    stat(world, slot, item, taken=30, booked=3)  # the others are held, or waited for

    enough = shown(change_capacity(world, item, capacity=3))
    less = shown(change_capacity(world, item, capacity=2))

    assert (enough["overfull"], [one["taken"] for one in less["overfull"]]) == ([], [3])


def test_who_edits_a_day_meanwhile_is_told_of_the_new_capacities(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, _ = day["slots"]
    shown(change_capacity(world, item, capacity=8, end="12:00", staff=world.staff(name="Wu")))

    answer = world.client.put(
        day_url(item, TOMORROW), json={"slots": [MORNING]}, headers=world.staff() | {"If-Match": day["etag"]}
    )

    params = refused(answer, 412, "changed_meanwhile")
    assert [(one["field"], one["after"]["capacity"], one["by"]) for one in params["changes"]] == [
        (f"slots.{morning['id']}", 8, "Wu")
    ]


def test_capacities_are_changed_within_the_staffs_halls_and_within_bounds(world: World) -> None:
    hall = a_hall(world)
    item, theirs = an_item(world, hall), an_item(world, a_hall(world))
    admin = world.staff(Role.HALL_ADMIN, [hall["id"]])
    a_day(world, item, TOMORROW)

    refused(change_capacity(world, item, theirs, capacity=1, staff=admin), 404, "not_found")
    refused(change_capacity(world, item, capacity=1, to=in_days(400).isoformat()), 422, "range_unfit")
    refused(change_capacity(world, item, capacity=1, start="12:00", end="09:00"), 422, "range_unfit")
    refused(change_capacity(world, item, capacity=-1), 422, "invalid")
    assert capacities_of(world, item, 1) == [30]


def test_more_slots_than_one_request_can_carry_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    item = an_item(world, a_hall(world))
    dates = {"from": TOMORROW.isoformat(), "to": in_days(6).isoformat()}
    shown(fill(world, item, periods=[MORNING, AFTERNOON], holidays="ignore", **dates))
    monkeypatch.setattr(policy, "MOST_CHANGES", 10)  # ten thousand take a while to make

    params = refused(change_capacity(world, item, capacity=1), 422, "too_many_slots")

    assert params == {"most": 10}
    other = an_item(world, a_hall(world))
    refused(fill(world, other, periods=[MORNING, AFTERNOON], holidays="ignore", **dates), 422, "too_many_slots")
    assert shown(change_capacity(world, item, capacity=1, end="12:00"))["slots"] == 6


def test_the_number_of_queries_does_not_grow_with_the_slots_that_change(world: World) -> None:
    item = an_item(world, a_hall(world))
    dates = {"from": TOMORROW.isoformat(), "to": in_days(60).isoformat()}
    shown(fill(world, item, periods=[MORNING, AFTERNOON], holidays="ignore", **dates))
    answers: list[Any] = []

    few, many = (
        queries_of(world, lambda to=to: answers.append(shown(change_capacity(world, item, capacity=2, **to))))  # type: ignore[misc]  # a default binds to
        for to in ({"to": in_days(2).isoformat()}, {"to": in_days(60).isoformat()})
    )

    assert [answer["slots"] for answer in answers] == [4, 116]
    assert few == many


# --- the QR code ---


def test_an_items_qr_code_is_the_address_of_its_page(world: World, make_world: Callable[..., World]) -> None:
    item = an_item(world, a_hall(world))
    answer = world.client.get(f"{STAFF}/items/{item['id']}/qr.svg", headers=world.staff())
    elsewhere = make_world(public_url="https://yue.example.cn/")
    other = an_item(elsewhere, a_hall(elsewhere))

    configured = elsewhere.client.get(f"{STAFF}/items/{other['id']}/qr.svg", headers=elsewhere.staff())

    assert answer.headers["content-type"] == "image/svg+xml"
    assert path_in(answer) == path_of(f"http://testserver/?item={item['id']}")
    assert path_in(configured) == path_of(f"https://yue.example.cn/?item={other['id']}")


def path_in(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.text.partition(' d="')[2].partition('"')[0]


def path_of(text: str) -> str:
    drawn: str = segno.make(text, error="m").svg_inline(scale=6, border=4)
    return drawn.partition(' d="')[2].partition('"')[0]
