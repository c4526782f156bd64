"""What the public sees of items, days and slots."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from libs.common.ids import new_id
from tests.catalog.builders import (
    AFTERNOON,
    API,
    MORNING,
    STAFF,
    a_category,
    a_day,
    a_hall,
    an_item,
    fill,
    in_days,
    queries_of,
    refused,
    shown,
    stat,
    titles,
)
from tests.world import World, eventually

FIELD = {"key": "name", "type": "text", "label": "姓名", "min": 2, "max": 30}


def test_open_and_stopped_items_of_open_halls_are_shown_by_order_then_newest(world: World) -> None:
    hall, closed = a_hall(world), a_hall(world, status="closed")
    an_item(world, hall, title="旧")
    an_item(world, hall, title="停约", status="stopped")
    an_item(world, hall, title="置顶", order=0)
    an_item(world, hall, title="草稿", status="draft")
    an_item(world, hall, title="关闭", status="closed")
    an_item(world, closed, title="关闭的厅")

    page = shown(world.client.get(f"{API}/items"))

    assert titles(page) == ["置顶", "停约", "旧"]


def test_what_is_not_shown_is_not_found(world: World) -> None:
    hall = a_hall(world)
    hidden = [
        an_item(world, hall, status="draft"),
        an_item(world, hall, status="closed"),
        an_item(world, a_hall(world, status="closed")),
        {"id": new_id()},
        {"id": "nonsense"},
    ]

    for item in hidden:
        refused(world.client.get(f"{API}/items/{item['id']}"), 404, "not_found")


def test_items_are_found_by_hall_category_and_literal_title(world: World) -> None:
    hall, other = a_hall(world), a_hall(world)
    category = a_category(world)
    an_item(world, hall, title="护照 50% (A)", category_id=category["id"], recommended=True)
    an_item(world, hall, title="护照 500 A")
    an_item(world, other, title="驾照 50%")

    def found(**params: str | bool) -> list[str]:
        return titles(shown(world.client.get(f"{API}/items", params=params)))

    assert found(hall_id=other["id"]) == ["驾照 50%"]
    assert found(category_id=category["id"]) == ["护照 50% (A)"]
    assert found(q="50%") == ["驾照 50%", "护照 50% (A)"]
    assert found(q="50%", hall_id=hall["id"]) == ["护照 50% (A)"]
    assert found(q="(a") == ["护照 50% (A)"]
    assert found(q=".*") == []
    assert found(recommended=True) == ["护照 50% (A)"]
    refused(world.client.get(f"{API}/items?hall_id=x"), 422, "invalid")
    refused(world.client.get(f"{API}/items", params={"q": "a\x00"}), 422, "invalid")


def test_pages_of_items_neither_repeat_nor_leave_out(world: World) -> None:
    hall = a_hall(world)
    for number in range(5):
        an_item(world, hall, title=str(number), order=number % 2)

    first = shown(world.client.get(f"{API}/items?limit=3"))
    an_item(world, hall, title="later", order=0)
    second = shown(world.client.get(f"{API}/items?limit=3&cursor={first['next_cursor']}"))

    assert titles(first) + titles(second) == ["4", "2", "0", "3", "1"]


def test_categories_are_shown_by_order(world: World) -> None:
    a_category(world, "其他")
    a_category(world, "证件", order=1)

    page = shown(world.client.get(f"{API}/categories"))

    assert [category["name"] for category in page["items"]] == ["证件", "其他"]


def test_an_item_has_its_form_rules_and_open_slots(world: World) -> None:
    hall, category = a_hall(world), a_category(world)
    made = an_item(
        world,
        hall,
        category_id=category["id"],
        form=[FIELD],
        rules={"party_max": 3},
        content="带身份证",
        cover="/c.png",
    )
    tomorrow = in_days(1)
    a_day(world, made, tomorrow, AFTERNOON, MORNING, {**MORNING, "start": "08:00", "end": "09:00", "status": "closed"})

    item = shown(world.client.get(f"{API}/items/{made['id']}"))

    assert item["hall"] == {"id": hall["id"], "name": "市民之窗", "timezone": "Asia/Shanghai"}
    assert item["category"] == {"id": category["id"], "name": "证件"}
    assert (item["status"], item["content"], item["cover"]) == ("open", "带身份证", "/c.png")
    assert item["form"] == [
        FIELD | {"required": True, "help": "", "options": [], "pattern": None, "unique": None, "sensitive": False}
    ]
    assert (item["rules"]["party_max"], item["rules"]["cancel"]) == (3, "before_start")
    [day] = item["days"]
    assert day["date"] == tomorrow.isoformat()
    assert [slot["start"] for slot in day["slots"]] == ["09:00", "14:00"]
    morning = day["slots"][0]
    assert set(morning) == {
        *("id", "date", "start", "end", "starts_at", "ends_at"),
        *("capacity", "remaining", "state", "opens_at"),
    }
    assert morning["starts_at"] == f"{tomorrow}T09:00:00+08:00"
    assert morning["ends_at"] == f"{tomorrow}T12:00:00+08:00"
    assert (morning["capacity"], morning["remaining"], morning["state"], morning["opens_at"]) == (
        30,
        30,
        "bookable",
        None,
    )


def test_what_is_left_follows_the_stat(world: World) -> None:
    item = an_item(world, a_hall(world))
    slots = a_day(world, item, in_days(1), {**MORNING, "capacity": 3}, {**AFTERNOON, "capacity": None})["slots"]

    def offered() -> list[tuple[object, object]]:
        found = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
        return [(slot["remaining"], slot["state"]) for slot in found]

    assert offered() == [(3, "bookable"), (None, "bookable")]
    stat(world, slots[0], item, taken=2, version=1, slot_version=1)
    eventually(lambda: offered()[0] == (1, "bookable"))
    stat(world, slots[0], item, taken=3, version=2, slot_version=2)
    stat(world, slots[1], item, taken=1000)
    eventually(lambda: offered() == [(0, "full"), (None, "bookable")])
    stat(world, slots[0], item, taken=5, version=3, slot_version=3)
    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json={"title": "换证"}, headers=world.staff()))
    assert offered()[0] == (0, "full")


def test_a_stat_that_is_older_or_comes_twice_changes_nothing(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = in_days(1)
    [slot] = a_day(world, item, day)["slots"]

    stat(world, slot, item, version=5, slot_version=2, taken=2, booked=2)
    stat(world, slot, item, version=5, slot_version=2, taken=2, booked=2)
    stat(world, slot, item, version=4, slot_version=3, taken=3, booked=9)
    stat(world, slot, item, version=6, slot_version=1, taken=9, booked=3)

    url = f"{STAFF}/items/{item['id']}/days/{day}"
    [present] = shown(world.client.get(url, headers=world.staff()))["slots"]
    assert (present["taken"], present["booked"]) == (3, 3)


def test_a_stat_of_an_unknown_slot_is_passed_over(world: World) -> None:
    item = an_item(world, a_hall(world))

    stat(world, {"id": new_id(), "capacity": 1}, item, taken=1)

    assert shown(world.client.get(f"{API}/items/{item['id']}"))["days"] == []


def test_a_slot_is_shown_before_during_and_after_its_booking_window(world: World) -> None:
    # The window opens two days before at 08:30 and closes half an hour before the start, by the clock of the hall.
    rules = {
        "opens_days_before": 2,
        "opens_at": "08:30",
        "closes_minutes_before": 30,
        "closes_before": "start",
    }
    with time_machine.travel(datetime(2027, 3, 1, tzinfo=UTC), tick=False):
        item = an_item(world, a_hall(world, timezone="Asia/Tokyo"), rules=rules)
        a_day(world, item, datetime(2027, 3, 10, tzinfo=UTC).date(), MORNING)

    def state_at(instant: datetime) -> str:
        with time_machine.travel(instant, tick=False):
            [slot] = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
            [listed] = shown(world.client.get(f"{API}/halls/{item['hall']['id']}/items?day=2027-03-10"))["items"]
            assert listed["slots"] == [slot]
            assert slot["opens_at"] == "2027-03-08T08:30:00+09:00"
            return str(slot["state"])

    a_moment = timedelta(milliseconds=1)
    opens, closes = datetime(2027, 3, 7, 23, 30, tzinfo=UTC), datetime(2027, 3, 9, 23, 30, tzinfo=UTC)
    assert state_at(opens - a_moment) == "not_yet"
    assert state_at(opens) == "bookable"
    assert state_at(closes - a_moment) == "bookable"
    assert state_at(closes) == "ended"


def test_a_slot_can_be_booked_until_its_end_by_default(world: World) -> None:
    with time_machine.travel(datetime(2027, 3, 1, tzinfo=UTC), tick=False):
        item = an_item(world, a_hall(world))
        a_day(world, item, datetime(2027, 3, 10, tzinfo=UTC).date(), MORNING)

    states = []
    for instant in (datetime(2027, 3, 10, 3, 59, 59, tzinfo=UTC), datetime(2027, 3, 10, 4, tzinfo=UTC)):
        with time_machine.travel(instant, tick=False):
            [slot] = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
            states.append(slot["state"])

    assert states == ["bookable", "ended"]


@pytest.mark.parametrize(
    ("zone", "offset"), [("Pacific/Kiritimati", "+14:00"), ("Pacific/Pago_Pago", "-11:00"), ("Asia/Shanghai", "+08:00")]
)
def test_today_is_the_date_at_the_hall_on_both_sides_of_midnight(world: World, zone: str, offset: str) -> None:
    midnight = datetime.fromisoformat(f"2027-03-11T00:00:00{offset}")
    with time_machine.travel(datetime(2027, 3, 1, tzinfo=UTC), tick=False):
        hall = a_hall(world, timezone=zone)
        item = an_item(world, hall)
        for number in (9, 10, 11, 12):
            a_day(world, item, datetime(2027, 3, number, tzinfo=UTC).date(), MORNING)

    def dates_at(instant: datetime) -> tuple[list[str], list[str], list[str]]:
        with time_machine.travel(instant, tick=False):
            days = shown(world.client.get(f"{API}/items/{item['id']}"))["days"]
            of_hall = shown(world.client.get(f"{API}/halls/{hall['id']}/days"))["items"]
            today = shown(world.client.get(f"{API}/halls/{hall['id']}/items"))["items"]
            return (
                [day["date"] for day in days],
                [day["date"] for day in of_hall],
                [slot["date"] for found in today for slot in found["slots"]],
            )

    before = dates_at(midnight - timedelta(seconds=1))
    after = dates_at(midnight)

    # Shown is the whole of today; what can be booked of it is over by now.
    assert before == (["2027-03-10", "2027-03-11", "2027-03-12"], ["2027-03-11", "2027-03-12"], ["2027-03-10"])
    assert after == (["2027-03-11", "2027-03-12"],) * 2 + (["2027-03-11"],)
    assert days_start(world, item, midnight) == f"2027-03-11T09:00:00{offset}"


def days_start(world: World, item: dict[str, object], instant: datetime) -> object:
    with time_machine.travel(instant, tick=False):
        return shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"][0]["starts_at"]


def test_the_dates_of_a_hall_are_those_with_an_open_slot_of_an_open_item(world: World) -> None:
    hall = a_hall(world)
    item, stopped = an_item(world, hall), an_item(world, hall, status="stopped")
    draft, foreign = an_item(world, hall, status="draft"), an_item(world, a_hall(world))
    a_day(world, item, in_days(-1))
    a_day(world, item, in_days(1), MORNING, AFTERNOON)
    a_day(world, item, in_days(2), {**MORNING, "status": "closed"})
    a_day(world, item, in_days(3))
    a_day(world, stopped, in_days(4))
    a_day(world, draft, in_days(5))
    a_day(world, foreign, in_days(6))

    url = f"{API}/halls/{hall['id']}/days"
    page = shown(world.client.get(url))

    assert page["items"] == [
        {"date": in_days(1).isoformat(), "slots": 2},
        {"date": in_days(3).isoformat(), "slots": 1},
    ]
    later = shown(world.client.get(url, params={"from": in_days(2).isoformat()}))
    assert [day["date"] for day in later["items"]] == [in_days(3).isoformat()]
    first = shown(world.client.get(url, params={"limit": 1}))
    rest = shown(world.client.get(url, params={"limit": 1, "cursor": first["next_cursor"]}))
    assert [day["date"] for day in rest["items"]] == [in_days(3).isoformat()]


def test_a_date_is_listed_while_a_slot_of_it_can_be_booked(world: World) -> None:
    # Of the second item one slot is full, and booking closes a day before the end of the other.
    window = {"opens_days_before": 2, "opens_at": "08:30", "closes_minutes_before": 30, "closes_before": "start"}
    one = MORNING | {"capacity": 1}
    with time_machine.travel(datetime(2027, 3, 1, tzinfo=UTC), tick=False):
        hall = a_hall(world, timezone="Asia/Tokyo")
        a_day(world, an_item(world, hall, rules=window), datetime(2027, 3, 10, tzinfo=UTC).date())
        item = an_item(world, hall, rules={"closes_minutes_before": 24 * 60})
        [last, full] = a_day(world, item, datetime(2027, 3, 20, tzinfo=UTC).date(), one, AFTERNOON)["slots"]
    stat(world, full, item, taken=30, booked=30)

    def dates_at(instant: datetime) -> list[tuple[str, int]]:
        with time_machine.travel(instant, tick=False):
            page = shown(world.client.get(f"{API}/halls/{hall['id']}/days"))
        return [(day["date"], day["slots"]) for day in page["items"]]

    second = timedelta(seconds=1)
    opens, closes = datetime(2027, 3, 7, 23, 30, tzinfo=UTC), datetime(2027, 3, 9, 23, 30, tzinfo=UTC)
    other_closes = datetime(2027, 3, 19, 3, tzinfo=UTC)
    both, other = [("2027-03-10", 1), ("2027-03-20", 1)], [("2027-03-20", 1)]
    assert dates_at(opens - second) == other
    assert dates_at(opens) == both
    assert dates_at(closes - second) == both
    assert dates_at(closes) == other
    assert dates_at(other_closes - second) == other
    assert dates_at(other_closes) == []
    stat(world, last, item, taken=1, booked=1)
    assert dates_at(closes) == []


def test_a_slot_is_closed_while_it_or_its_item_or_its_hall_is(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    tomorrow, staff = in_days(1), world.staff()
    a_day(world, item, tomorrow, MORNING, {**AFTERNOON, "status": "closed"})

    def states_to_staff() -> list[str]:
        day = shown(world.client.get(f"{STAFF}/items/{item['id']}/days/{tomorrow}", headers=staff))
        return [slot["state"] for slot in day["slots"]]

    def states() -> list[str]:
        of_item = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
        [of_day] = shown(world.client.get(f"{API}/halls/{hall['id']}/items?day={tomorrow}"))["items"]
        assert of_item == of_day["slots"]
        return [slot["state"] for slot in of_item]

    assert (states(), states_to_staff()) == (["bookable"], ["bookable", "closed"])
    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json={"status": "stopped"}, headers=staff))
    assert (states(), states_to_staff()) == (["closed"], ["closed", "closed"])
    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json={"status": "open"}, headers=staff))
    shown(world.client.patch(f"{STAFF}/halls/{hall['id']}", json={"status": "closed"}, headers=staff))
    assert states_to_staff() == ["closed", "closed"]


def test_the_items_of_a_day_are_shown_with_their_slots_and_first_start(world: World) -> None:
    hall = a_hall(world)
    late, early = an_item(world, hall, title="下午"), an_item(world, hall, title="全天", order=1)
    an_item(world, hall, title="无时段")
    a_day(world, late, in_days(1), AFTERNOON)
    a_day(world, early, in_days(1), AFTERNOON, MORNING)

    page = shown(world.client.get(f"{API}/halls/{hall['id']}/items", params={"day": in_days(1).isoformat()}))

    assert [(item["title"], item["slot_count"], item["first_start"]) for item in page["items"]] == [
        ("全天", 2, "09:00"),
        ("下午", 1, "14:00"),
    ]
    assert [slot["start"] for slot in page["items"][0]["slots"]] == ["09:00", "14:00"]
    past = shown(world.client.get(f"{API}/halls/{hall['id']}/items", params={"day": "2020-01-01"}))
    assert past == {"items": [], "next_cursor": None}


def test_a_date_that_is_none_is_refused(world: World) -> None:
    hall = a_hall(world)

    for day in ("", "0", "20270310", "2027-02-30", "9999-12-31", "0001-01-01", "1710000000", "x"):
        refused(world.client.get(f"{API}/halls/{hall['id']}/items", params={"day": day}), 422, "invalid")
        refused(world.client.get(f"{API}/halls/{hall['id']}/days", params={"from": day}), 422, "invalid")


def test_an_item_with_many_days_shows_a_hundred_and_says_where_to_go_on(world: World) -> None:
    item = an_item(world, a_hall(world))
    body = {"periods": [MORNING], "from": in_days(1).isoformat(), "to": in_days(130).isoformat()}
    shown(fill(world, item, **body, holidays="ignore"))

    first = shown(world.client.get(f"{API}/items/{item['id']}"))
    rest = shown(world.client.get(f"{API}/items/{item['id']}", params={"from": first["next_from"]}))

    assert (len(first["days"]), first["next_from"]) == (100, in_days(101).isoformat())
    assert (len(rest["days"]), rest["next_from"]) == (30, None)


def test_the_number_of_queries_does_not_grow_with_what_is_shown(world: World) -> None:
    hall, category = a_hall(world), a_category(world)
    few = an_item(world, hall, category_id=category["id"])
    a_day(world, few, in_days(1), MORNING)
    urls = (f"{API}/items/{few['id']}", f"{API}/halls/{hall['id']}/items?day={in_days(1)}", f"{API}/items")
    before = [queries_of(world, lambda url=url: world.client.get(url)) for url in urls]  # type: ignore[misc]  # a default binds the url

    for number in range(3):
        a_day(world, an_item(world, hall, title=str(number)), in_days(1), MORNING, AFTERNOON)
        a_day(world, few, in_days(2 + number), MORNING, AFTERNOON)

    after = [queries_of(world, lambda url=url: world.client.get(url)) for url in urls]  # type: ignore[misc]  # a default binds the url
    assert after == before
    assert max(after) <= 4
