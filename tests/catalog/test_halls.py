"""Halls: what everybody sees of them, and how staff edit them."""

import pytest

from libs.contracts.principals import Role
from tests.catalog.builders import (
    API,
    STAFF,
    a_day,
    a_hall,
    an_item,
    in_days,
    names,
    published,
    refused,
    shown,
    stat,
    titles,
)
from tests.world import World


def test_open_halls_are_shown_by_order_then_newest(world: World) -> None:
    a_hall(world, name="旧")
    a_hall(world, name="新")
    a_hall(world, name="置顶", order=0)
    a_hall(world, name="关闭", status="closed")

    page = shown(world.client.get(f"{API}/halls"))

    assert names(page) == ["置顶", "新", "旧"]


def test_a_hall_has_its_place_hours_and_zone(world: World) -> None:
    made = a_hall(
        world,
        address="天河路1号",
        position={"lat": 23.13, "lng": 113.32},
        opening="周一至周五 9:00-17:30",
        phone="020-12345",
        cover="/covers/1.jpg",
        intro="地铁三号线",
    )

    hall = shown(world.client.get(f"{API}/halls/{made['id']}"))

    assert hall["position"] == {"lat": 23.13, "lng": 113.32}
    assert (hall["address"], hall["opening"], hall["phone"]) == ("天河路1号", "周一至周五 9:00-17:30", "020-12345")
    assert (hall["cover"], hall["intro"], hall["order"]) == ("/covers/1.jpg", "地铁三号线", 9999)
    assert hall["timezone"] == "Asia/Shanghai"


def test_a_closed_hall_is_not_found(world: World) -> None:
    hall = a_hall(world, status="closed")

    for path in ("", "/days", "/items"):
        refused(world.client.get(f"{API}/halls/{hall['id']}{path}"), 404, "not_found")


def test_the_nearest_hall_comes_first_with_its_distance(world: World) -> None:
    a_hall(world, name="无位置", order=0)
    a_hall(world, name="北京", position={"lat": 39.9042, "lng": 116.4074}, order=0)
    a_hall(world, name="天河", position={"lat": 23.1353, "lng": 113.3240})

    page = shown(world.client.get(f"{API}/halls?near=23.1291,113.2644"))

    assert names(page) == ["天河", "北京", "无位置"]
    assert page["items"][0]["distance_m"] == pytest.approx(6_130, abs=30)
    assert page["items"][1]["distance_m"] == pytest.approx(1_887_000, rel=0.01)
    assert page["items"][2]["distance_m"] is None


def test_a_list_by_distance_goes_on_where_its_page_ended(world: World) -> None:
    for number in range(5):
        a_hall(world, name=str(number), position={"lat": 23 + number / 10, "lng": 113})

    first = shown(world.client.get(f"{API}/halls?near=23,113&limit=2"))
    second = shown(world.client.get(f"{API}/halls?near=23,113&limit=2&cursor={first['next_cursor']}"))
    third = shown(world.client.get(f"{API}/halls?near=23,113&limit=2&cursor={second['next_cursor']}"))

    assert names(first) + names(second) + names(third) == ["0", "1", "2", "3", "4"]
    assert third["next_cursor"] is None


def test_the_other_side_of_the_earth_has_a_distance(world: World) -> None:
    a_hall(world, position={"lat": 23.0, "lng": 113.0})

    page = shown(world.client.get(f"{API}/halls?near=-23.0,-67.0"))

    assert page["items"][0]["distance_m"] == pytest.approx(20_015_000, rel=0.001)


def test_a_place_that_is_none_is_refused(world: World) -> None:
    for near in ("", "x", "1", "1,2,3", "91,0", "0,181", "nan,nan", "inf,0", "1e9,0", "1;2"):
        refused(world.client.get(f"{API}/halls", params={"near": near}), 422, "invalid")


def test_the_search_text_is_literal(world: World) -> None:
    a_hall(world, name="100%服务")
    a_hall(world, name="100个服务")
    a_hall(world, name="A_B")
    a_hall(world, name="AxB (c+")

    assert names(shown(world.client.get(f"{API}/halls", params={"q": "100%"}))) == ["100%服务"]
    assert names(shown(world.client.get(f"{API}/halls", params={"q": "a_b"}))) == ["A_B"]
    assert names(shown(world.client.get(f"{API}/halls", params={"q": "(c+"}))) == ["AxB (c+"]
    assert names(shown(world.client.get(f"{API}/halls", params={"q": "\\"}))) == []


def test_two_halls_of_one_name_keep_their_items_apart_also_after_a_rename(world: World) -> None:
    one, other = a_hall(world, name="服务厅"), a_hall(world, name="服务厅")
    an_item(world, one, title="甲")
    an_item(world, other, title="乙")

    world.client.patch(f"{STAFF}/halls/{one['id']}", json={"name": "新名字"}, headers=world.staff())

    of_one = shown(world.client.get(f"{API}/items?hall_id={one['id']}"))
    assert titles(of_one) == ["甲"]
    assert of_one["items"][0]["hall"]["name"] == "新名字"
    assert titles(shown(world.client.get(f"{API}/items?hall_id={other['id']}"))) == ["乙"]


def test_a_page_is_never_larger_than_the_limit_and_says_when_there_is_more(world: World) -> None:
    for number in range(3):
        a_hall(world, name=str(number))

    page = shown(world.client.get(f"{API}/halls?limit=2"))

    assert names(page) == ["2", "1"]
    assert names(shown(world.client.get(f"{API}/halls?limit=2&cursor={page['next_cursor']}"))) == ["0"]
    refused(world.client.get(f"{API}/halls?limit=101"), 422, "invalid")
    refused(world.client.get(f"{API}/halls?cursor=nonsense"), 422, "bad_cursor")


def test_a_new_hall_is_told_to_the_others(world: World) -> None:
    hall = a_hall(world, name="市民之窗", address="天河路1号")

    [fact] = published(world, "hall.changed")
    assert fact == {
        "version": 1,
        "hall_id": hall["id"],
        "name": "市民之窗",
        "address": "天河路1号",
        "timezone": "Asia/Shanghai",
        "status": "open",
        "missed_policy": None,
        "quiet_hours": None,
    }


def test_what_missed_visits_lead_to_is_said_by_a_halls_own_admin(world: World) -> None:
    hall = a_hall(world)
    url, admin = f"{STAFF}/halls/{hall['id']}", world.staff(Role.HALL_ADMIN, [hall["id"]])
    policy = {"missed": 3, "within_days": 30, "pause_days": 14}

    set_once = world.client.patch(url, json={"missed_policy": policy}, headers=admin)
    set_again = world.client.patch(url, json={"missed_policy": policy}, headers=admin)
    ended = world.client.patch(url, json={"missed_policy": None}, headers=admin)

    assert hall["missed_policy"] is None
    assert [shown(answer)["version"] for answer in (set_once, set_again, ended)] == [2, 2, 3]
    assert shown(set_once)["missed_policy"] == policy
    assert [fact["missed_policy"] for fact in published(world, "hall.changed")] == [None, policy, None]
    records = published(world, "audit.recorded")[-2:]
    assert [(record["before"], record["after"]) for record in records] == [
        ({"missed_policy": None}, {"missed_policy": policy}),
        ({"missed_policy": policy}, {"missed_policy": None}),
    ]


def test_an_edit_of_a_hall_counts_its_version_up_and_is_audited_with_before_and_after(world: World) -> None:
    hall = a_hall(world)

    answer = world.client.patch(
        f"{STAFF}/halls/{hall['id']}",
        json={"phone": "10086", "position": {"lat": 1, "lng": 2}},
        headers=world.staff(Role.HALL_ADMIN, [hall["id"]], name="小李"),
    )

    assert shown(answer)["phone"] == "10086"
    assert [fact["version"] for fact in published(world, "hall.changed")] == [1, 2]
    record = published(world, "audit.recorded")[-1]
    assert (record["action"], record["actor_name"], record["hall_id"]) == ("hall.edited", "小李", hall["id"])
    assert record["before"] == {"phone": "", "lat": None, "lng": None}
    assert record["after"] == {"phone": "10086", "lat": 1.0, "lng": 2.0}


def test_an_edit_that_changes_nothing_tells_nobody(world: World) -> None:
    hall = a_hall(world, name="市民之窗")

    answer = world.client.patch(f"{STAFF}/halls/{hall['id']}", json={"name": "市民之窗"}, headers=world.staff())

    assert shown(answer)["version"] == 1
    assert len(published(world, "hall.changed")) == 1


def test_an_edit_of_an_older_version_is_refused_where_the_caller_names_it(world: World) -> None:
    hall = a_hall(world)
    url, headers = f"{STAFF}/halls/{hall['id']}", world.staff()
    etag = world.client.get(url, headers=headers).headers["etag"]

    first = world.client.patch(url, json={"phone": "1"}, headers=headers | {"If-Match": etag})
    second = world.client.patch(url, json={"phone": "2"}, headers=headers | {"If-Match": etag})

    assert first.status_code == 200
    params = refused(second, 412, "changed_meanwhile")
    assert (params["version"], params["etag"]) == (2, first.headers["etag"])


def test_a_hall_with_joins_ahead_closes_only_when_that_is_confirmed(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    soon, past = in_days(2), in_days(-2)
    slot = a_day(world, item, soon)["slots"][0]
    over = a_day(world, item, past)["slots"][0]
    stat(world, slot, item, taken=3, booked=3)
    stat(world, over, item, taken=5, booked=5)
    url, headers = f"{STAFF}/halls/{hall['id']}", world.staff()

    params = refused(world.client.patch(url, json={"status": "closed"}, headers=headers), 409, "joins_ahead")
    answer = world.client.patch(url, json={"status": "closed", "accept_joins_ahead": True}, headers=headers)

    assert params == {"joins": 3, "days": [soon.isoformat()]}
    assert shown(answer)["status"] == "closed"
    assert published(world, "hall.changed")[-1]["status"] == "closed"
    assert published(world, "slot.changed", slot["id"])[-1]["deleted"] is False


def test_a_zone_must_exist(world: World) -> None:
    for zone in ("Mars/Olympus", "../etc/passwd", "", "localtime", "Factory", "posix/Asia/Tokyo", "right/Asia/Tokyo"):
        answer = world.client.post(f"{STAFF}/halls", json={"name": "x", "timezone": zone}, headers=world.staff())
        refused(answer, 422, "timezone_unknown")


def test_the_zone_of_a_hall_stays_while_slots_are_ahead(world: World) -> None:
    hall = a_hall(world)
    a_day(world, an_item(world, hall), in_days(1))
    url = f"{STAFF}/halls/{hall['id']}"

    answer = world.client.patch(url, json={"timezone": "Asia/Tokyo"}, headers=world.staff())

    assert refused(answer, 409, "timezone_fixed") == {"slots": 1}


def test_staff_see_and_edit_their_own_halls_only(world: World) -> None:
    own, foreign = a_hall(world, name="本厅"), a_hall(world, name="他厅")
    admin = world.staff(Role.HALL_ADMIN, [own["id"]])

    assert names(shown(world.client.get(f"{STAFF}/halls", headers=admin))) == ["本厅"]
    refused(world.client.get(f"{STAFF}/halls/{foreign['id']}", headers=admin), 404, "not_found")
    refused(world.client.patch(f"{STAFF}/halls/{foreign['id']}", json={"phone": "1"}, headers=admin), 404, "not_found")
    refused(world.client.post(f"{STAFF}/halls", json={"name": "新"}, headers=admin), 403, "role_forbids")


def test_a_verifier_reads_and_does_not_write(world: World) -> None:
    hall = a_hall(world)
    verifier = world.staff(Role.VERIFIER, [hall["id"]])

    assert shown(world.client.get(f"{STAFF}/halls/{hall['id']}", headers=verifier))["id"] == hall["id"]
    answer = world.client.patch(f"{STAFF}/halls/{hall['id']}", json={"phone": "1"}, headers=verifier)
    refused(answer, 403, "role_forbids")


def test_nobody_edits_without_a_token(world: World) -> None:
    hall = a_hall(world)

    refused(world.client.get(f"{STAFF}/halls"), 401, "unauthenticated")
    refused(world.client.patch(f"{STAFF}/halls/{hall['id']}", json={"phone": "1"}), 401, "unauthenticated")


SENSELESS: list[dict[str, object]] = [
    {"name": ""},
    {"name": "  "},
    {"name": None},
    {"name": "a\x00b"},
    {"name": "\u200b"},
    {"phone": "020\n110"},
    {"phone": "020\u202e110"},
    {"name": "x" * 61},
    {"order": -1},
    {"order": 10**30},
    {"position": {"lat": 91, "lng": 0}},
    {"position": {"lat": 1}},
    {"cover": "javascript:alert(1)"},
    {"status": "gone"},
    {"missed_policy": {"missed": 0, "within_days": 30, "pause_days": 14}},
    {"missed_policy": {"missed": 3, "within_days": 367, "pause_days": 14}},
    {"missed_policy": {"missed": 3, "within_days": 30, "pause_days": 367}},
    {"missed_policy": {"missed": 3, "within_days": 30}},
    {"missed_policy": {"missed": 3, "within_days": 30, "pause_days": 14, "people": 1}},
    {"missed_policy": {"missed": "3", "within_days": 30, "pause_days": 14}},
    {"unknown": 1},
]


def test_a_hall_that_makes_no_sense_is_refused(world: World) -> None:
    hall = a_hall(world)

    for body in SENSELESS:
        answer = world.client.patch(f"{STAFF}/halls/{hall['id']}", json=body, headers=world.staff())
        refused(answer, 422, "invalid")


def test_numbers_and_letters_that_are_none_are_refused(world: World) -> None:
    for name, number in (("x", "NaN"), ("x", "Infinity"), ("x", "1e999"), ("\\ud800", "1")):
        answer = world.client.post(
            f"{STAFF}/halls",
            content=f'{{"name": "{name}", "position": {{"lat": {number}, "lng": 0}}}}',
            headers=world.staff() | {"Content-Type": "application/json"},
        )
        assert answer.status_code in (400, 422), answer.text
