"""Two people who edit the same, at once or one after the other."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import time_machine

from services.catalog import tasks
from tests.catalog.builders import (
    AFTERNOON,
    MORNING,
    STAFF,
    TOMORROW,
    a_day,
    a_hall,
    an_item,
    day_url,
    facts_of,
    made,
    published,
    refused,
    save,
    sent,
    shown,
    stat,
)
from tests.world import World, simultaneously


def test_a_day_is_not_saved_without_the_version_that_was_loaded(world: World) -> None:
    item = an_item(world, a_hall(world))
    a_day(world, item, TOMORROW)
    body: Any = {"slots": [MORNING]}

    for headers in ({}, {"If-None-Match": '"x"'}):
        answer = world.client.put(day_url(item, TOMORROW), json=body, headers=world.staff() | headers)
        refused(answer, 428, "if_match_required")


def test_a_tag_that_the_gateway_has_weakened_names_the_same_version(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    a_day(world, item, TOMORROW)
    edits: Any = (
        ("PATCH", f"{STAFF}/halls/{hall['id']}", {"intro": "一楼"}),
        ("PATCH", f"{STAFF}/items/{item['id']}", {"content": "请带证件"}),
        ("PUT", day_url(item, TOMORROW), {"slots": [MORNING | {"capacity": 7}]}),
    )

    for method, url, body in edits:
        loaded = world.client.get(url, headers=world.staff()).headers["ETag"]
        weakened = world.staff() | {"If-Match": f"W/{loaded}"}
        saved, late = (world.client.request(method, url, json=body, headers=weakened) for _ in range(2))

        assert saved.status_code == 200, saved.text
        refused(late, 412, "changed_meanwhile")


def test_who_saves_a_day_from_an_old_version_is_told_what_others_changed_meanwhile(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = (slot["id"] for slot in day["slots"])

    def saved(name: str, loaded: Any, *slots: Any, note: str = "") -> Any:
        headers = world.staff(name=name) | {"If-Match": loaded["etag"]}
        return world.client.put(day_url(item, TOMORROW), json={"note": note, "slots": list(slots)}, headers=headers)

    second = shown(saved("Wu", day, MORNING | {"capacity": 9}, AFTERNOON, note="请带证件"))
    third = shown(saved("Lin", second, MORNING | {"capacity": 7}, {"start": "18:00", "end": "19:00"}))
    evening = third["slots"][1]["id"]
    answer = saved("He", day, MORNING)

    params = refused(answer, 412, "changed_meanwhile")
    assert (params["version"], params["etag"], params["by"]) == (3, third["etag"], "Wu, Lin")
    assert answer.json()["detail"].startswith("Wu, Lin has changed this meanwhile")
    told = {change["field"]: (change["before"], change["after"], change["by"]) for change in params["changes"]}
    whole: Any = {"status": "open", "start": "09:00", "end": "12:00"}
    assert told == {
        f"slots.{morning}": (whole | {"id": morning, "capacity": 30}, whole | {"id": morning, "capacity": 7}, "Lin"),
        f"slots.{afternoon}": (AFTERNOON | {"id": afternoon, "status": "open"}, None, "Lin"),
        f"slots.{evening}": (
            None,
            {"id": evening, "start": "18:00", "end": "19:00", "capacity": None, "status": "open"},
            "Lin",
        ),
    }


def test_who_edits_a_hall_or_an_item_from_an_old_version_is_told_what_others_changed(world: World) -> None:
    hall = a_hall(world, phone="1")
    item = an_item(world, hall)
    for thing, url, changes in (
        (hall, f"{STAFF}/halls/{hall['id']}", {"phone": "2"}),
        (item, f"{STAFF}/items/{item['id']}", {"title": "护照换发"}),
    ):
        etag = world.client.get(url, headers=world.staff()).headers["ETag"]
        shown(world.client.patch(url, json=changes, headers=world.staff(name="Wu")))

        params = refused(
            world.client.patch(url, json={"order": 1}, headers=world.staff() | {"If-Match": etag}),
            412,
            "changed_meanwhile",
        )

        [change] = params["changes"]
        [(field, value)] = changes.items()
        assert (change["field"], change["before"], change["after"]) == (field, thing[field], value)
        assert (change["by"], params["by"]) == ("Wu", "Wu")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("kind", ["templates", "closures", "categories"])
def test_who_changes_anything_else_from_an_old_version_is_told_too(world: World, kind: str, method: str) -> None:
    hall = a_hall(world)
    given, field, value = {
        "templates": ({"name": "工作日", "hall_id": hall["id"], "periods": [MORNING]}, "name", "周末"),
        "closures": (
            {"hall_id": hall["id"], "from": "2027-03-08", "to": "2027-03-09", "reason": "检修"},
            "to",
            "2027-03-10",
        ),
        "categories": ({"name": "证件"}, "name", "证照"),
    }[kind]
    answer = world.client.post(f"{STAFF}/{kind}", json=given, headers=world.staff())
    loaded = made(answer)
    url = f"{STAFF}/{kind}/{loaded['id']}"
    assert answer.headers["ETag"] == loaded["etag"]

    edited = shown(
        world.client.patch(url, json={field: value}, headers=world.staff(name="Wu") | {"If-Match": loaded["etag"]})
    )
    listed = shown(world.client.get(f"{STAFF}/{kind}", headers=world.staff()))["items"]
    body: Any = {"json": {field: loaded[field]}} if method == "PATCH" else {}
    late = world.client.request(method, url, headers=world.staff() | {"If-Match": loaded["etag"]}, **body)
    in_time = world.client.request(method, url, headers=world.staff() | {"If-Match": edited["etag"]}, **body)

    params = refused(late, 412, "changed_meanwhile")
    assert (params["etag"], params["by"]) == (edited["etag"], "Wu")
    assert [(change["field"], change["before"], change["after"]) for change in params["changes"]] == [
        (field, loaded[field], value)
    ]
    assert [one["etag"] for one in listed] == [edited["etag"]]
    assert in_time.is_success, in_time.text


def test_special_days_that_others_have_set_meanwhile_are_not_overwritten(world: World) -> None:
    hall, url = a_hall(world), f"{STAFF}/special-days"

    def put(kind: str, *dates: str, name: str = "Wu", **headers: str) -> httpx2.Response:
        body = {"hall_id": hall["id"], "dates": list(dates), "kind": kind, "name": "停电"}
        return world.client.put(url, json=body, headers=world.staff(name=name) | headers)

    first, second = shown(put("day_off", "2026-12-01", "2026-12-02"))["items"]
    both = {"If-Match": f"{first['etag']}, {second['etag']}"}
    shown(put("workday", "2026-12-02", name="Lin", **both))

    params = refused(put("workday", "2026-12-01", "2026-12-02", **both), 412, "changed_meanwhile")
    refused(put("day_off", "2026-12-02", **{"If-None-Match": "*"}), 412, "changed_meanwhile")
    refused(put("day_off", "2026-12-01", "2026-12-02", **{"If-Match": first["etag"]}), 412, "changed_meanwhile")
    late = world.client.delete(f"{url}/{second['id']}", headers=world.staff() | {"If-Match": second["etag"]})
    refused(late, 412, "changed_meanwhile")

    assert [(change["field"], change["before"]["kind"], change["after"]["kind"]) for change in params["changes"]] == [
        ("2026-12-02", "day_off", "workday")
    ]
    assert params["by"] == "Lin"
    standing = shown(world.client.get(f"{url}?hall_id={hall['id']}", headers=world.staff()))["items"]
    assert [(day["date"], day["kind"], day["version"]) for day in standing] == [
        ("2026-12-01", "day_off", 1),
        ("2026-12-02", "workday", 2),
    ]
    present = {"If-Match": ", ".join(day["etag"] for day in standing)}
    shown(put("workday", "2026-12-01", "2026-12-02", "2026-12-03", **present))


def test_what_came_back_after_its_deletion_is_told_as_nobodys_change(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    fewer = shown(save(world, item, day, AFTERNOON))
    stat(world, day["slots"][0], item, taken=1, booked=1)

    params = refused(save(world, item, fewer, AFTERNOON, note="新"), 412, "changed_meanwhile")

    assert [(change["field"], change["after"]["status"], change["by"]) for change in params["changes"]] == [
        (f"slots.{day['slots'][0]['id']}", "closed", None)
    ]


def test_of_edits_longer_ago_than_anybody_can_have_waited_nothing_is_told(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    newer = shown(save(world, item, day, MORNING, AFTERNOON))
    [upkeep] = tasks.TASKS

    with time_machine.travel(datetime.now(UTC) + timedelta(days=31)):
        assert upkeep.run(world.runtimes["catalog"])["edits"] == 2  # type: ignore[index]  # it counts what it forgot

    params = refused(save(world, item, day, MORNING), 412, "changed_meanwhile")
    assert params == {"version": 2, "etag": newer["etag"]}


def test_a_day_that_exists_is_not_made_anew_and_one_that_is_gone_is_not_edited(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    new = world.staff() | {"If-None-Match": "*"}

    params = refused(
        world.client.put(day_url(item, TOMORROW), json={"slots": []}, headers=new), 412, "changed_meanwhile"
    )
    world.client.delete(day_url(item, TOMORROW), headers=world.staff())
    gone = refused(save(world, item, day, MORNING), 412, "changed_meanwhile")
    a_day(world, item, TOMORROW)
    made_anew = save(world, item, day, MORNING)

    assert (params["version"], params["etag"], params["by"]) == (1, day["etag"], "boss")
    assert [change["field"] for change in params["changes"]] == ["note", f"slots.{day['slots'][0]['id']}"]
    assert gone == {"version": None, "etag": None}
    refused(made_anew, 412, "changed_meanwhile")


def test_of_two_people_who_save_a_day_at_once_one_is_told_to_load_it_again(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    slot = day["slots"][0]

    answers = simultaneously(
        [lambda n=n: save(world, item, day, sent(slot, capacity=n)) for n in range(1, 5)]  # type: ignore[misc]  # a default binds n
    )

    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    assert shown(world.client.get(day_url(item, TOMORROW), headers=world.staff())) == winner
    assert len(facts_of(world, slot)) == 2


def test_of_two_people_who_make_a_day_at_once_one_makes_it(world: World) -> None:
    item = an_item(world, a_hall(world))
    headers = world.staff() | {"If-None-Match": "*"}
    body: Any = {"slots": [MORNING]}

    answers = simultaneously([lambda: world.client.put(day_url(item, TOMORROW), json=body, headers=headers)] * 4)

    assert sorted(answer.status_code for answer in answers) == [201, 412, 412, 412]
    assert len(published(world, "slot.changed")) == 1
