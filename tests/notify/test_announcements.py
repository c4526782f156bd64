"""Announcements: news that staff write and everybody, or the visitors of one hall, can read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.outbox import OutboxRow
from libs.contracts.principals import Role
from tests.notify.builders import a_hall_known_to, rows
from tests.world import World

PUBLIC = "/api/notify/announcements"
STAFF = "/api/notify/staff/announcements"


def an_announcement(**differing: Any) -> dict[str, Any]:
    plain = {
        "hall_id": None,
        "title": "国庆放假安排",
        "summary": "十月一日至七日各服务厅暂停服务。",
        "content": "请提前安排行程。",
        "status": "published",
    }
    return plain | differing


def written(world: World, headers: dict[str, str] | None = None, **differing: Any) -> dict[str, Any]:
    answer = world.client.post(STAFF, json=an_announcement(**differing), headers=headers or world.staff())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def public_titles(world: World, **query: Any) -> list[str]:
    answer = world.client.get(PUBLIC, params=query)
    assert answer.status_code == 200, answer.text
    return [line["title"] for line in answer.json()["items"]]


def audited(world: World) -> list[dict[str, Any]]:
    found = rows(world, OutboxRow, type="audit.recorded")
    return [row["data"] for row in sorted(found, key=lambda row: row["position"])]


# --- what everybody sees ---


def test_everybody_reads_what_is_published(world: World) -> None:
    made = written(world)

    listed = world.client.get(PUBLIC).json()
    detail = world.client.get(f"{PUBLIC}/{made['id']}").json()

    line = {
        "id": made["id"],
        "hall_id": None,
        "title": "国庆放假安排",
        "summary": "十月一日至七日各服务厅暂停服务。",
        "order": 9999,
        "published_at": made["publish_at"],
    }
    assert listed == {"items": [line], "next_cursor": None}
    assert detail == line | {"content": "请提前安排行程。"}


def test_drafts_and_what_is_to_come_out_later_are_not_shown(world: World) -> None:
    draft = written(world, status="draft")
    later = written(world, publish_at=(utcnow() + timedelta(hours=1)).isoformat())

    answers = [world.client.get(f"{PUBLIC}/{made['id']}").status_code for made in (draft, later)]

    assert public_titles(world) == []
    assert answers == [404, 404]


def test_news_of_a_hall_is_shown_to_its_visitors_beside_the_news_for_everybody(world: World) -> None:
    hall, other = a_hall_known_to(world), a_hall_known_to(world)
    written(world, title="全体公告")
    written(world, title="天河公告", hall_id=hall)
    written(world, title="越秀公告", hall_id=other)

    assert public_titles(world) == ["全体公告"]
    assert public_titles(world, hall_id=hall) == ["天河公告", "全体公告"]


def test_order_comes_first_then_the_newest(world: World) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for title, order, day in (("甲甲甲甲", 9999, 1), ("乙乙乙乙", 9999, 3), ("丙丙丙丙", 0, 2), ("丁丁丁丁", 5, 9)):
        written(world, title=title, order=order, publish_at=(start + timedelta(days=day)).isoformat())

    titles = public_titles(world)
    cursor = world.client.get(PUBLIC, params={"limit": 2}).json()["next_cursor"]

    assert titles == ["丙丙丙丙", "丁丁丁丁", "乙乙乙乙", "甲甲甲甲"]
    assert public_titles(world, limit=2, cursor=cursor) == ["乙乙乙乙", "甲甲甲甲"]


def test_an_announcement_that_is_not_there_is_404(world: World) -> None:
    addresses = ["nonsense", "%00", "018f5b0e-0000-7000-8000-000000000000", "9" * 400]

    answers = [world.client.get(f"{PUBLIC}/{address}") for address in addresses]

    assert [answer.status_code for answer in answers] == [404] * len(addresses)


def test_odd_queries_are_refused(world: World) -> None:
    queries = [
        {"hall_id": "x"},
        {"hall_id": "\x00"},
        {"cursor": "nonsense"},
        {"cursor": "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LCAxLCAxXQ"},
        {"limit": "1000"},
    ]

    answers = [world.client.get(PUBLIC, params=query) for query in queries]

    assert [answer.status_code for answer in answers] == [422] * len(queries)


# --- what staff write ---


def test_a_super_admin_writes_to_everybody_and_to_any_hall(world: World) -> None:
    hall = a_hall_known_to(world)

    assert written(world)["hall_id"] is None
    assert written(world, hall_id=hall)["hall_id"] == hall


def test_a_hall_admin_writes_to_their_halls_only(world: World) -> None:
    mine = a_hall_known_to(world)
    admin = world.staff(Role.HALL_ADMIN, [mine])

    own = world.client.post(STAFF, json=an_announcement(hall_id=mine), headers=admin)
    foreign = world.client.post(STAFF, json=an_announcement(hall_id=new_id()), headers=admin)
    everybody = world.client.post(STAFF, json=an_announcement(), headers=admin)

    assert own.status_code == 201
    assert foreign.status_code == 404
    assert (everybody.status_code, everybody.json()["code"]) == (403, "role_forbids")


def test_a_hall_that_nobody_has_heard_of_is_not_there_for_anybody(world: World) -> None:
    answer = world.client.post(STAFF, json=an_announcement(hall_id=new_id()), headers=world.staff())

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert world.client.get(STAFF, headers=world.staff()).json()["items"] == []


def test_a_foreign_halls_announcement_is_not_there_for_a_hall_admin(world: World) -> None:
    admin = world.staff(Role.HALL_ADMIN, [new_id()])
    foreign, everybody = written(world, hall_id=a_hall_known_to(world)), written(world)

    answers = [
        world.client.request(method, f"{STAFF}/{made['id']}", json=body, headers=admin)
        for made in (foreign, everybody)
        for method, body in (("GET", None), ("PATCH", {"title": "改动标题"}), ("DELETE", None))
    ]

    assert [answer.status_code for answer in answers] == [404] * 6
    assert world.client.get(STAFF, headers=admin).json()["items"] == []
    assert len(world.client.get(STAFF, headers=world.staff()).json()["items"]) == 2


def test_a_verifier_and_a_stranger_edit_nothing(world: World) -> None:
    hall = a_hall_known_to(world)
    one = f"{STAFF}/{written(world, hall_id=hall)['id']}"
    asked: list[tuple[str, str, Any]] = [
        ("GET", STAFF, None),
        ("POST", STAFF, an_announcement(hall_id=hall)),
        ("GET", one, None),
        ("PATCH", one, {"title": "改动标题"}),
        ("DELETE", one, None),
    ]

    for method, address, body in asked:
        verifier = world.client.request(method, address, json=body, headers=world.staff(Role.VERIFIER, [hall]))
        stranger = world.client.request(method, address, json=body)
        assert (verifier.status_code, stranger.status_code) == (403, 401)


def test_staff_find_drafts_by_hall_status_and_words(world: World) -> None:
    hall = a_hall_known_to(world)
    written(world, title="Holiday 100%", hall_id=hall, status="draft")
    written(world, title="Holiday 1000", hall_id=hall)
    written(world, title="Other news")

    def found(**query: str) -> list[str]:
        answer = world.client.get(STAFF, params=query, headers=world.staff())
        return [line["title"] for line in answer.json()["items"]]

    assert found() == ["Other news", "Holiday 1000", "Holiday 100%"]
    assert found(hall_id=hall) == ["Holiday 1000", "Holiday 100%"]
    assert found(status="draft") == ["Holiday 100%"]
    assert found(q="HOLIDAY 100%") == ["Holiday 100%"]
    assert world.client.get(STAFF, params={"q": "\x00"}, headers=world.staff()).status_code == 422


def test_a_draft_is_published_now_unless_it_has_a_date(world: World) -> None:
    draft = written(world, status="draft")

    answer = world.client.patch(f"{STAFF}/{draft['id']}", json={"status": "published"}, headers=world.staff())

    assert answer.status_code == 200
    assert answer.json()["publish_at"] is not None
    assert public_titles(world) == ["国庆放假安排"]


def test_a_published_announcement_can_be_taken_back(world: World) -> None:
    made = written(world)

    world.client.patch(f"{STAFF}/{made['id']}", json={"status": "draft"}, headers=world.staff())

    assert public_titles(world) == []


def test_a_deleted_announcement_is_gone(world: World) -> None:
    made = written(world)

    answer = world.client.delete(f"{STAFF}/{made['id']}", headers=world.staff())

    assert (answer.status_code, answer.content) == (204, b"")
    assert public_titles(world) == []
    assert world.client.delete(f"{STAFF}/{made['id']}", headers=world.staff()).status_code == 404


def test_an_edit_of_what_somebody_else_has_changed_is_refused(world: World) -> None:
    made = written(world)
    address = f"{STAFF}/{made['id']}"
    loaded = world.client.get(address, headers=world.staff()).headers["etag"]

    first = world.client.patch(address, json={"title": "第一次改动"}, headers=world.staff() | {"If-Match": loaded})
    second = world.client.patch(address, json={"title": "第二次改动"}, headers=world.staff() | {"If-Match": loaded})
    gone = world.client.delete(address, headers=world.staff() | {"If-Match": "nonsense"})
    either = {"If-Match": f"{loaded}, {first.headers['etag']}"}
    third = world.client.patch(address, json={"title": "第三次改动"}, headers=world.staff() | either)

    assert first.status_code == 200
    assert first.headers["etag"] != loaded
    assert [(answer.status_code, answer.json()["code"]) for answer in (second, gone)] == [
        (412, "changed_meanwhile"),
        (412, "changed_meanwhile"),
    ]
    assert third.status_code == 200
    assert public_titles(world) == ["第三次改动"]


def test_what_staff_do_is_audited_with_what_changed(world: World) -> None:
    hall = a_hall_known_to(world)
    made = written(world, hall_id=hall)
    address = f"{STAFF}/{made['id']}"

    world.client.patch(address, json={"title": "国庆调休安排", "order": 0}, headers=world.staff())
    world.client.patch(address, json={"title": "国庆调休安排"}, headers=world.staff())  # changes nothing
    world.client.delete(address, headers=world.staff())

    created, changed, deleted = audited(world)
    assert [fact["action"] for fact in (created, changed, deleted)] == [
        "announcement.created",
        "announcement.changed",
        "announcement.deleted",
    ]
    assert {(fact["object_id"], fact["hall_id"]) for fact in (created, changed, deleted)} == {(made["id"], hall)}
    assert changed["before"] == {"title": "国庆放假安排", "order": 9999}
    assert changed["after"] == {"title": "国庆调休安排", "order": 0}
    assert deleted["before"]["title"] == "国庆调休安排"


def test_odd_announcements_are_refused(world: World) -> None:
    made = written(world)
    headers = world.staff() | {"Content-Type": "application/json"}
    odd: list[dict[str, Any]] = [
        {"title": "三个字"},
        {"title": "字" * 51},
        {"title": "   短   "},
        {"title": "no \x00 nul"},
        {"title": "\ud800 alone"},
        {"title": "two\r\nlines"},
        {"title": "bell \x07 rings"},
        {"title": "turned \u202e round"},
        {"title": "\u200b" * 5},
        {"title": None},
        {"summary": "two lines of\r\na summary"},
        {"summary": "\u2060" * 12},
        {"summary": "九个字的摘要不够长"},
        {"summary": "长" * 201},
        {"content": ""},
        {"content": "a\x00b"},
        {"content": "长" * 20_001},
        {"order": -1},
        {"order": 10**40},
        {"order": 1.5},
        {"status": "gone"},
        {"publish_at": "2026-11-03T09:00:00"},
        {"publish_at": "9999-12-31T23:59:59-12:00"},
        {"publish_at": "0001-01-01T00:00:00+12:00"},
        {"publish_at": 10**30},
        {"hall_id": "x"},
        {"hall_id": 1},
        {"tell": {"upcoming": False}},
        {"tell": {"visited_days": 0}},
        {"tell": {"visited_days": 91}},
        {"tell": {"everybody": True}},
        {"unknown": 1},
    ]

    found = {}
    for differing in odd:
        # In ASCII, so that it can hold what is no UTF-8.
        whole, change = json.dumps(an_announcement(**differing)), json.dumps(differing)
        created = world.client.post(STAFF, content=whole, headers=headers)
        edited = world.client.patch(f"{STAFF}/{made['id']}", content=change, headers=headers)
        found[change[:60]] = (created.status_code, edited.status_code)

    assert found == dict.fromkeys(found, (422, 422))


def test_whom_an_announcement_is_for_must_be_said(world: World) -> None:
    body = an_announcement()
    del body["hall_id"]

    assert world.client.post(STAFF, json=body, headers=world.staff()).status_code == 422
