"""A user's own joins: lists, detail, form, QR code, calendar entry; and what users say of themselves."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
import segno
import time_machine
from icalendar import Calendar

from libs.common.ids import new_id
from libs.contracts.catalog import FieldType, FormField, ItemStatus
from tests.booking.builders import (
    NAME,
    Headers,
    a_slot,
    book,
    booked,
    cancel,
    checked_in,
    code_of,
    move,
    my_join,
    my_joins,
    refused,
    revoke,
)
from tests.world import World

PHONE = FormField(key="phone", type=FieldType.MOBILE, label="手机号", required=False)


def _ids(page: dict[str, Any]) -> list[str]:
    return [join["id"] for join in page["items"]]


def test_each_filter_shows_its_joins(world: World) -> None:
    user = world.user("wang")
    soon: dict[str, Any] = {"starts_in": timedelta(minutes=-30), "lasts": timedelta(minutes=40)}
    [missed] = booked(world, user, a_slot(world, **soon).slot_id)
    [arrived_before] = booked(world, user, a_slot(world, **soon).slot_id)
    [ahead] = booked(world, user, a_slot(world).slot_id)
    [arrived_early] = booked(world, user, a_slot(world).slot_id)
    [cancelled] = booked(world, user, a_slot(world).slot_id)
    [revoked] = booked(world, user, a_slot(world).slot_id)
    for join in (arrived_before, arrived_early):
        checked_in(world, join["id"])
    cancel(world, user, cancelled["id"])
    revoke(world, revoked["id"])

    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=20)):
        found = {
            chosen: _ids(my_joins(world, user, filter=chosen))
            for chosen in ("all", "usable", "checked_in", "missed", "booked", "cancelled")
        }
        says_missed = [join["id"] for join in my_joins(world, user)["items"] if join["missed"]]
        unfiltered = _ids(my_joins(world, user))

    in_order = [revoked, cancelled, arrived_early, ahead, arrived_before, missed]
    assert found == {
        "all": [join["id"] for join in in_order],
        "usable": [arrived_early["id"], ahead["id"]],
        "checked_in": [arrived_early["id"], arrived_before["id"]],
        "missed": [missed["id"]],
        "booked": [arrived_early["id"], ahead["id"], arrived_before["id"], missed["id"]],
        "cancelled": [revoked["id"], cancelled["id"]],
    }
    assert says_missed == [missed["id"]]
    assert unfiltered == found["all"]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("%", ["满意度100%"]),
        ("_", ["room_a"]),
        ("0%", ["满意度100%"]),
        ("ROOM", ["room_a", "Room B"]),
        ("\\", ["C:\\"]),
        ("/", []),
        ("m%a", []),
        ("'", []),
        ("度", ["满意度100%"]),
        ("", ["C:\\", "room_a", "Room B", "满意度100%"]),
    ],
)
def test_a_search_takes_every_character_for_itself(titled: tuple[World, Headers], text: str, titles: list[str]) -> None:
    world, user = titled

    found = my_joins(world, user, q=text)["items"]

    assert sorted(join["item"]["title"] for join in found) == sorted(titles)


@pytest.fixture
def titled(world: World) -> tuple[World, Headers]:
    """A user with a join for items of telling titles, and another user with one for them too."""
    user, other = world.user("wang"), world.user("li")
    for title in ("满意度100%", "room_a", "Room B", "C:\\"):
        place = a_slot(world)
        place.change_item(title=title)
        booked(world, user, place.slot_id)
        booked(world, other, place.slot_id)
    return world, user


def test_filter_and_search_combine(titled: tuple[World, Headers]) -> None:
    world, user = titled
    [gone] = my_joins(world, user, q="room_a")["items"]
    cancel(world, user, gone["id"])

    assert _ids(my_joins(world, user, q="room", filter="cancelled")) == [gone["id"]]
    assert [join["item"]["title"] for join in my_joins(world, user, q="room", filter="usable")["items"]] == ["Room B"]
    assert my_joins(world, user, q="满意", filter="cancelled")["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"q": "\x00"},
        {"q": "x" * 51},
        {"filter": "use"},
        {"day": "2026-13-01"},
        {"day": "99999999999999999999"},
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "9" * 30},
    ],
)
def test_a_query_that_makes_no_sense_is_refused(world: World, query: dict[str, str]) -> None:
    answer = world.client.get("/api/booking/joins", params=query, headers=world.user("wang"))

    assert code_of(answer) == (422, "invalid")


@pytest.mark.parametrize("raw", ["q=%ED%A0%80", "q=%ff%fe", "q=%F0%9F%98%80", "day=0001-01-01", "day=9999-12-31"])
def test_odd_queries_find_nothing(world: World, raw: str) -> None:
    user = world.user("wang")
    booked(world, user, a_slot(world).slot_id)

    answer = world.client.get(f"/api/booking/joins?{raw}", headers=user)

    assert answer.status_code == 200
    assert answer.json() == {"items": [], "next_cursor": None}


def test_a_day_is_listed_by_its_starts(world: World) -> None:
    user = world.user("wang")
    place = a_slot(world, starts_in=timedelta(days=3))
    early = place.another_slot(date=place.slot.date, starts_in=timedelta(days=3, hours=-2))
    late = place.another_slot(date=place.slot.date, starts_in=timedelta(days=3, hours=2))
    place.another_slot(starts_in=timedelta(days=9))
    joins = {slot: booked(world, user, slot)[0]["id"] for slot in (place.slot_id, late.slot_id, early.slot_id)}
    booked(world, user, a_slot(world, starts_in=timedelta(days=9)).slot_id)
    day = place.slot.date.isoformat()

    whole = my_joins(world, user, day=day)
    one_by_one = _walk(world, user, day=day, limit=1)

    in_order = [joins[early.slot_id], joins[place.slot_id], joins[late.slot_id]]
    assert _ids(whole) == in_order
    assert one_by_one == in_order


def _walk(world: World, user: Headers, **query: Any) -> list[str]:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = my_joins(world, user, **query, **cursor)
        found += _ids(page)
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_pages_show_each_join_once_whatever_is_booked_between(world: World) -> None:
    user = world.user("wang")
    place = a_slot(world, max_per_slot=50)
    joins = [booked(world, user, place.slot_id)[0]["id"] for _ in range(7)]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = my_joins(world, user, limit=3, **cursor)
        seen += _ids(page)
        booked(world, user, place.slot_id)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == joins[::-1]


def _cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!!!",
        "名",
        "\x00",
        _cursor([]),
        _cursor({}),
        _cursor("text"),
        _cursor([1]),
        _cursor([None]),
        _cursor([["a"]]),
        _cursor(["nonsense"]),
        _cursor(["\x00"]),
        _cursor(["\ud800"]),
        _cursor(["2026-01-01T00:00:00+00:00", "01a206b3-0000-7000-8000-000000000000"]),
        base64.urlsafe_b64encode(b"[" * 700).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(world: World, cursor: str) -> None:
    answer = world.client.get("/api/booking/joins", params={"cursor": cursor}, headers=world.user("wang"))

    assert code_of(answer) == (422, "bad_cursor")


@pytest.mark.parametrize(
    "instant", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00", "2026", 7]
)
def test_a_cursor_with_an_odd_instant_breaks_nothing(world: World, instant: Any) -> None:
    cursor = _cursor([instant, "01a206b3-0000-7000-8000-000000000000"])

    answer = world.client.get(
        "/api/booking/joins", params={"cursor": cursor, "day": "2026-01-01"}, headers=world.user("wang")
    )

    assert answer.status_code in (200, 422)


def test_joins_of_others_are_invisible(world: World) -> None:
    place = a_slot(world)
    [join] = booked(world, world.user("wang"), place.slot_id)
    other = world.user("li")
    views = ["", "/qr.svg", ".ics"]

    foreign = [world.client.get(f"/api/booking/joins/{join['id']}{view}", headers=other) for view in views]
    missing = [world.client.get(f"/api/booking/joins/{new_id()}{view}", headers=other) for view in views]
    anonymous = [world.client.get(f"/api/booking/joins/{join['id']}{view}") for view in views]
    no_id = [world.client.get(f"/api/booking/joins/1{view}", headers=other) for view in views]

    assert [code_of(answer) for answer in foreign] == [(404, "join_not_found")] * 3
    assert [code_of(answer) for answer in missing] == [(404, "join_not_found")] * 3
    assert [code_of(answer) for answer in anonymous] == [(401, "unauthenticated")] * 3
    assert [code_of(answer) for answer in no_id] == [(404, "not_found")] * 3
    assert my_joins(world, other)["items"] == []


def test_the_detail_shows_the_place_in_the_halls_time(world: World) -> None:
    place = a_slot(world, form=[NAME, PHONE])
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id, "王小明", phone="13800138000")

    found = my_join(world, user, join["id"])

    assert found == join | {"form": found["form"]}
    assert found["answers"] == {"name": "王小明", "phone": "13800138000"}
    assert found["hall"] == {"id": place.hall_id, "name": "市民之窗", "address": "天河路1号"}
    assert found["item"] == {"id": place.item.item_id, "title": "护照办理", "cover": ""}
    starts_at = datetime.fromisoformat(found["slot"]["starts_at"])
    assert starts_at == place.slot.starts_at
    assert starts_at.utcoffset() == timedelta(hours=8)
    assert found["slot"]["start"] == place.slot.start.strftime("%H:%M")
    assert (found["missed"], found["checked_in_at"], found["reason"]) == (False, None, "")


def test_a_join_follows_its_slot_when_the_period_is_edited(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    later = place.slot.ends_at + timedelta(hours=1)
    place.change_slot(ends_at=later)

    assert datetime.fromisoformat(my_join(world, user, join["id"])["slot"]["ends_at"]) == later


def test_ids_may_be_written_in_capitals(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    capitals = place.slot_id.upper()
    [join] = booked(world, user, capitals)
    join_id = join["id"].upper()

    answers = [
        world.client.get(f"/api/booking/{path}", headers=user)
        for path in (f"joins/{join_id}", f"joins/{join_id}.ics", f"joins/{join_id}/qr.svg", f"slots/{capitals}/form")
    ]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[0].json()["id"] == join["id"]
    assert join["slot"]["id"] == place.slot_id


# --- the form ---


def _form(world: World, user: Headers, slot_id: str) -> dict[str, Any]:
    answer = world.client.get(f"/api/booking/slots/{slot_id}/form", headers=user)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_form_says_all_that_is_needed_to_fill_it_in(world: World) -> None:
    place = a_slot(world, capacity=5, party_max=3, form=[NAME, PHONE])
    booked(world, world.user("li"), place.slot_id)

    found = _form(world, world.user("wang"), place.slot_id)

    assert [field["key"] for field in found["form"]] == ["name", "phone"]
    assert (found["party_max"], found["remaining"], found["prefill"]) == (3, 4, {})
    assert found["slot"]["id"] == place.slot_id
    assert found["item"]["title"] == "护照办理"
    assert found["hall"]["name"] == "市民之窗"


def test_the_form_is_filled_in_from_the_same_item_and_the_same_user_only(world: World) -> None:
    place = a_slot(world, form=[NAME, PHONE])
    next_week = place.another_slot(starts_in=timedelta(days=7))
    another_item = a_slot(world, form=[NAME, PHONE])
    user = world.user("wang")
    booked(world, user, place.slot_id, "王小明", phone="13800138000")
    booked(world, world.user("li"), place.slot_id, "李四", phone="13900139000")

    assert _form(world, user, next_week.slot_id)["prefill"] == {"name": "王小明", "phone": "13800138000"}
    assert _form(world, user, another_item.slot_id)["prefill"] == {}
    assert _form(world, world.user("zhao"), next_week.slot_id)["prefill"] == {}


def test_the_form_shows_the_first_attendee_of_the_latest_booking(world: World) -> None:
    place = a_slot(world, party_max=3)
    second = place.another_slot()
    user = world.user("wang")
    booked(world, user, place.slot_id, "旧名")
    joins = booked(world, user, second.slot_id, "王一", "王二", "王三")
    cancel(world, user, joins[0]["id"])

    assert _form(world, user, place.slot_id)["prefill"] == {"name": "王一"}


def test_an_answer_that_is_no_longer_asked_for_is_not_filled_in(world: World) -> None:
    place = a_slot(world, form=[NAME, PHONE])
    user = world.user("wang")
    booked(world, user, place.slot_id, "王小明", phone="13800138000")
    place.change_item(form=[NAME], form_version=2)

    assert _form(world, user, place.slot_id)["prefill"] == {"name": "王小明"}


@pytest.mark.parametrize("status", [ItemStatus.DRAFT, ItemStatus.CLOSED])
def test_the_form_of_a_hidden_item_is_hidden(world: World, status: ItemStatus) -> None:
    place = a_slot(world, item_status=status)

    refusal = refused(
        lambda who: world.client.get(f"/api/booking/slots/{place.slot_id}/form", headers=who), world.user("wang")
    )

    assert refusal.kind == (404, "slot_not_found")


# --- QR code and calendar ---

SVG = "{http://www.w3.org/2000/svg}"


def test_the_qr_code_is_the_code_and_nothing_else(world: World) -> None:
    user = world.user("wang")
    [join] = booked(world, user, a_slot(world).slot_id)

    answer = world.client.get(f"/api/booking/joins/{join['id']}/qr.svg", headers=user)

    root = ElementTree.fromstring(answer.content)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["cache-control"] == "private, no-store"
    assert root.tag == f"{SVG}svg"
    assert {element.tag for element in root.iter()} <= {f"{SVG}svg", f"{SVG}path", f"{SVG}g"}
    attributes = {name.lower() for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name or name == "style"]
    assert _dark_modules(root) == _modules_of(join["code"])


def _dark_modules(root: ElementTree.Element) -> set[tuple[int, int]]:
    """Read the modules (column, row) from the strokes of the path, without the quiet zone of 4."""
    path = next(root.iter(f"{SVG}path"))
    dark: set[tuple[int, int]] = set()
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([-\d. ]+)", path.attrib["d"]):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            x, y = values
        elif command == "m":
            x, y = x + values[0], y + values[1]
        else:
            dark |= {(int(x) + step - 4, int(y) - 4) for step in range(int(values[0]))}
            x += values[0]
    return dark


def _modules_of(code: str) -> set[tuple[int, int]]:
    rows = segno.make(code, error="m").matrix
    return {(column, row) for row, modules in enumerate(rows) for column, module in enumerate(modules) if module}


def _entry(world: World, user: Headers, join_id: str) -> tuple[Any, str]:
    """Return the one entry of the join's calendar file, and the file."""
    answer = world.client.get(f"/api/booking/joins/{join_id}.ics", headers=user)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/calendar")
    [entry] = Calendar.from_ical(answer.content).walk("VEVENT")
    return entry, answer.text


def test_the_calendar_entry_has_the_right_instants(world: World) -> None:
    place = a_slot(world)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    entry, text = _entry(world, user, join["id"])

    assert entry["dtstart"].dt == place.slot.starts_at
    assert entry["dtend"].dt == place.slot.ends_at
    assert entry["dtstart"].params["TZID"] == "Asia/Shanghai"
    assert str(entry["summary"]) == "护照办理"
    assert str(entry["location"]) == "市民之窗 天河路1号"
    assert entry["status"] == "CONFIRMED"
    assert entry["uid"] == f"{join['id']}@hallpass"
    assert join["code"] not in text


def test_a_calendar_entry_is_updated_under_the_same_uid(world: World) -> None:
    place = a_slot(world)
    target = place.another_slot()
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)
    entries = []

    for change in (
        None,
        lambda: move(world, user, join["id"], target.slot_id),
        lambda: cancel(world, user, join["id"]),
    ):
        if change is not None:
            assert change().status_code == 200
        entries.append(_entry(world, user, join["id"])[0])

    assert len({entry["uid"] for entry in entries}) == 1
    assert [entry["status"] for entry in entries] == ["CONFIRMED", "CONFIRMED", "CANCELLED"]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3]
    assert entries[1]["dtstart"].dt == target.starts_at


def test_a_title_can_not_add_lines_to_the_calendar(world: World) -> None:
    place = a_slot(world)
    title = "体检, 含;血\r\nATTENDEE:mailto:x@example.com\nEND:VEVENT"
    place.change_item(title=title)
    user = world.user("wang")
    [join] = booked(world, user, place.slot_id)

    entry, _ = _entry(world, user, join["id"])

    assert "attendee" not in entry
    assert str(entry["summary"]).split() == title.split()


# --- what users say of themselves ---


def _patch(world: World, user: Headers, **body: Any) -> Any:
    return world.client.patch("/api/booking/me", json=body, headers=user)


def test_a_user_edits_name_and_phone(world: World) -> None:
    user = world.user("wang")

    named = _patch(world, user, name=" 王小明 ")
    reached = _patch(world, user, phone="+86 138-0013-8000")
    seen = world.client.get("/api/booking/me", headers=user).json()
    removed = _patch(world, user, phone="")

    assert (named.json()["name"], named.json()["phone"]) == ("王小明", "")
    assert (reached.json()["name"], reached.json()["phone"]) == ("王小明", "13800138000")
    assert seen == reached.json()
    assert (removed.json()["name"], removed.json()["phone"]) == ("王小明", "")


def test_a_phone_number_is_encrypted_at_rest(world: World) -> None:
    user = world.user("wang")
    _patch(world, user, phone="13800138000")

    with world.runtimes["booking"].db.engine.connect() as connection:
        [row] = connection.exec_driver_sql("SELECT users::text, phone_sealed FROM users").all()

    assert row.phone_sealed is not None
    assert "13800138000" not in row[0]
    assert b"13800138000".hex() not in row[0]


@pytest.mark.parametrize(
    "phone", ["123", "1380013800", "not a number", "+1", "02087654321", "1380013TEST", "13800138000 ext. 1"]
)
def test_what_is_no_mobile_number_is_refused(world: World, phone: str) -> None:
    refusal = refused(lambda who: _patch(world, who, phone=phone), world.user("wang"))

    assert refusal.kind == (422, "phone_invalid")
    assert (refusal.english, refusal.chinese) == ("This is not a mobile number.", "手机号格式不正确")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x" * 31},
        {"name": "\x00"},
        {"name": "张\n三"},
        {"name": "\x1b[31m"},
        {"phone": "1" * 31},
        {"openid": "admin"},
        {"disabled": False},
        {"name": 1},
        [],
        "x",
        None,
    ],
)
def test_what_users_may_not_say_is_refused(world: World, body: Any) -> None:
    answer = world.client.patch("/api/booking/me", json=body, headers=world.user("wang"))

    assert code_of(answer) == (422, "invalid")


def test_booking_for_nothing_leaves_no_trace_in_my_joins(world: World) -> None:
    place = a_slot(world, capacity=0)
    user = world.user("wang")

    refusal = book(world, user, place.slot_id)

    assert code_of(refusal) == (409, "slot_full")
    assert my_joins(world, user) == {"items": [], "next_cursor": None}
