"""Days with their slots, as staff edit them one at a time."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from libs.common.ids import new_id
from libs.contracts.principals import Role
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
    fill,
    in_days,
    published,
    queries_of,
    refused,
    save,
    sent,
    shown,
    stat,
)
from tests.world import World

# --- slots ---


def test_a_new_day_is_made_with_its_slots_and_told_to_the_others(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)

    day = a_day(world, item, TOMORROW, AFTERNOON, MORNING, note="请带身份证")

    assert (day["date"], day["note"], day["version"]) == (TOMORROW.isoformat(), "请带身份证", 1)
    assert [slot["start"] for slot in day["slots"]] == ["09:00", "14:00"]
    [fact] = facts_of(world, day["slots"][0])
    starts = datetime(TOMORROW.year, TOMORROW.month, TOMORROW.day, 1, tzinfo=UTC)
    assert fact == {
        "version": 1,
        "slot_id": day["slots"][0]["id"],
        "item_id": item["id"],
        "hall_id": hall["id"],
        "date": TOMORROW.isoformat(),
        "start": "09:00",
        "end": "12:00",
        "starts_at": f"{starts:%Y-%m-%dT%H:%M:%SZ}",
        "ends_at": f"{starts + timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}",
        "status": "open",
        "capacity": 30,
        "deleted": False,
    }


def test_an_edit_touches_only_the_slots_that_differ(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]

    edited = shown(save(world, item, day, sent(morning), sent(afternoon, capacity=5), note="新"))

    assert [slot["id"] for slot in edited["slots"]] == [morning["id"], afternoon["id"]]
    assert (edited["slots"][1]["capacity"], edited["note"], edited["version"]) == (5, "新", 2)
    assert [fact["version"] for fact in facts_of(world, morning)] == [1]
    assert [(fact["version"], fact["capacity"]) for fact in facts_of(world, afternoon)] == [(1, 30), (2, 5)]


def test_an_edit_that_changes_nothing_leaves_the_version(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)

    edited = shown(save(world, item, day, MORNING))

    assert edited == day
    assert len(published(world, "slot.changed")) == 1
    assert published(world, "audit.recorded")[-1]["action"] == "day.created"


def test_a_slot_without_its_id_is_known_by_its_period(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)

    edited = shown(save(world, item, day, MORNING | {"capacity": 7}))

    assert [(slot["id"], slot["capacity"]) for slot in edited["slots"]] == [(day["slots"][0]["id"], 7)]


def test_a_slot_that_moves_keeps_its_identity_and_gets_new_instants(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]

    edited = shown(
        save(world, item, day, sent(morning, start="14:00", end="17:30"), sent(afternoon, start="09:00", end="12:00"))
    )

    assert [(slot["id"], slot["start"]) for slot in edited["slots"]] == [
        (afternoon["id"], "09:00"),
        (morning["id"], "14:00"),
    ]
    last = facts_of(world, morning)[-1]
    assert (last["start"], last["starts_at"][11:16], last["ends_at"][11:16]) == ("14:00", "06:00", "09:30")


def test_a_slot_left_out_is_deleted_and_its_tombstone_published(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]

    edited = shown(save(world, item, day, sent(afternoon)))

    assert [slot["id"] for slot in edited["slots"]] == [afternoon["id"]]
    assert [(fact["version"], fact["deleted"]) for fact in facts_of(world, morning)] == [(1, False), (2, True)]
    again = shown(save(world, item, edited, sent(afternoon), MORNING))
    assert again["slots"][0]["id"] != morning["id"]


def test_numbers_of_the_client_are_not_taken(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)

    answer = save(world, item, day, sent(day["slots"][0]) | {"taken": 0, "booked": 0})

    refused(answer, 422, "invalid")


# --- their times ---


def test_periods_that_do_not_fit_are_refused(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    many = [{"start": f"{n // 4:02}:{n % 4 * 15:02}", "end": f"{n // 4:02}:{n % 4 * 15 + 14:02}"} for n in range(49)]

    def reasons(*slots: Any) -> list[tuple[str, str]]:
        params = refused(save(world, item, day, *slots), 422, "periods_unfit")
        return [(fault["field"], fault["reason"]) for fault in params["faults"]]

    assert reasons({"start": "10:00", "end": "10:00"}) == [("slots.0", "end_not_after_start")]
    assert reasons({"start": "22:00", "end": "02:00"}) == [("slots.0", "end_not_after_start")]
    assert reasons(AFTERNOON, MORNING, {"start": "11:59", "end": "13:00"}) == [("slots.2", "overlap")]
    assert reasons(MORNING, MORNING) == [("slots.1", "overlap")]
    assert reasons({"start": "08:00", "end": "18:00"}, MORNING, AFTERNOON) == [
        ("slots.1", "overlap"),
        ("slots.2", "overlap"),
    ]
    assert reasons(*many) == [("slots", "too_many")]
    assert len(shown(save(world, item, day, *many[:48]))["slots"]) == 48


def test_neighbours_may_touch_and_are_ordered_by_time(world: World) -> None:
    item = an_item(world, a_hall(world))

    day = a_day(world, item, TOMORROW, {"start": "10:00", "end": "11:00"}, {"start": "09:30", "end": "10:00"})

    assert [slot["start"] for slot in day["slots"]] == ["09:30", "10:00"]


def test_what_is_no_time_or_no_number_is_refused(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)

    for changes in (
        *({"end": "24:00"}, {"start": "9:30"}, {"start": "09:30:15"}, {"start": 34200}, {"start": "09:30Z"}),
        *({"start": None}, {"capacity": -1}, {"capacity": 10**30}, {"capacity": 1.5}, {"status": "half"}),
        *({"id": "x"}, {"start": "09:30\x00"}, {"start": "０９:30"}),
    ):
        refused(save(world, item, day, MORNING | changes), 422, "invalid")
    refused(save(world, item, day, MORNING, note="a\x00"), 422, "invalid")
    refused(save(world, item, day, *([MORNING] * 201)), 422, "invalid")


def test_a_time_that_the_clocks_jump_over_is_refused_and_its_day_skipped(world: World) -> None:
    item = an_item(world, a_hall(world, timezone="America/New_York"))
    night = {"start": "02:15", "end": "02:45", "capacity": 1}
    new = world.staff() | {"If-None-Match": "*"}

    answer = world.client.put(day_url(item, date(2027, 3, 14)), json={"slots": [night]}, headers=new)
    filled = shown(fill(world, item, **{"from": "2027-03-13", "to": "2027-03-15", "periods": [night]}))

    assert refused(answer, 422, "no_such_local_time") == {"date": "2027-03-14", "start": "02:15", "end": "02:45"}
    assert filled["created"] == ["2027-03-13", "2027-03-15"]
    assert filled["skipped"] == [{"date": "2027-03-14", "reason": "no_such_local_time", "name": ""}]


def test_a_period_may_end_when_the_clocks_jump_ahead(world: World) -> None:
    item = an_item(world, a_hall(world, timezone="America/New_York"))
    until_then = {"start": "01:00", "end": "02:00", "capacity": 1}
    dates = {"from": "2027-03-14", "to": "2027-03-14"}

    filled = shown(fill(world, item, periods=[until_then], **dates))

    assert (filled["created"], filled["skipped"]) == (["2027-03-14"], [])
    [slot] = shown(world.client.get(day_url(item, date(2027, 3, 14)), headers=world.staff()))["slots"]
    assert [datetime.fromisoformat(slot[name]).astimezone(UTC).hour for name in ("starts_at", "ends_at")] == [6, 7]


def test_a_time_that_comes_twice_means_its_first_coming(world: World) -> None:
    item = an_item(world, a_hall(world, timezone="America/New_York"))

    day = a_day(
        world,
        item,
        date(2027, 11, 7),
        {"start": "00:30", "end": "01:30"},
        {"start": "01:30", "end": "02:30"},
    )

    assert [(slot["starts_at"], slot["ends_at"]) for slot in day["slots"]] == [
        ("2027-11-07T00:30:00-04:00", "2027-11-07T01:30:00-04:00"),
        ("2027-11-07T01:30:00-04:00", "2027-11-07T02:30:00-05:00"),
    ]


# --- whole days ---


def test_a_slot_of_another_day_is_not_known_here(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    foreign = a_day(world, item, in_days(2))["slots"][0]
    own = sent(day["slots"][0])

    refused(save(world, item, day, sent(foreign)), 422, "slot_unknown")
    refused(save(world, item, day, MORNING | {"id": new_id()}), 422, "slot_unknown")
    refused(save(world, item, day, own, own | {"start": "13:00", "end": "14:00"}), 422, "slot_unknown")


def test_days_and_items_that_do_not_exist_are_not_found(world: World) -> None:
    item = an_item(world, a_hall(world))
    headers = world.staff() | {"If-None-Match": "*"}
    body: Any = {"slots": [MORNING]}

    for path in (f"/items/{item['id']}/days/{TOMORROW}", f"/items/{new_id()}/days/{TOMORROW}", "/items/x/days/y"):
        refused(world.client.get(f"{STAFF}{path}", headers=headers), 404, "not_found")
        refused(world.client.delete(f"{STAFF}{path}", headers=headers), 404, "not_found")
    for path in (f"/items/{new_id()}/days/{TOMORROW}", f"/items/{item['id']}/days/2027-02-30"):
        refused(world.client.put(f"{STAFF}{path}", json=body, headers=headers), 404, "not_found")
    refused(world.client.get(f"{STAFF}/items/{new_id()}/days", headers=headers), 404, "not_found")


def test_a_day_that_somebody_booked_is_not_deleted(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    stat(world, day["slots"][1], item, taken=2, booked=2)

    params = refused(world.client.delete(day_url(item, TOMORROW), headers=world.staff()), 409, "slot_has_joins")

    assert [slot["start"] for slot in params["slots"]] == ["14:00"]


def test_a_deleted_day_is_audited_with_what_it_was(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, note="节前")
    headers = world.staff()

    stale = world.client.delete(day_url(item, TOMORROW), headers=headers | {"If-Match": '"x.1"'})
    gone = world.client.delete(day_url(item, TOMORROW), headers=headers | {"If-Match": day["etag"]})

    refused(stale, 412, "changed_meanwhile")
    assert gone.status_code == 204
    record = published(world, "audit.recorded")[-1]
    assert (record["action"], record["object_id"], record["after"]) == ("day.deleted", item["id"], None)
    assert (record["before"]["note"], len(record["before"]["slots"])) == ("节前", 1)


def test_staff_list_days_with_all_slots_in_pages(world: World) -> None:
    item = an_item(world, a_hall(world))
    for number in range(-1, 4):
        a_day(world, item, in_days(number), MORNING, AFTERNOON | {"status": "closed"})
    url, headers = f"{STAFF}/items/{item['id']}/days", world.staff()
    params = {"from": in_days(0).isoformat(), "to": in_days(2).isoformat()}

    first = shown(world.client.get(url, params=params | {"limit": "2"}, headers=headers))
    rest = shown(world.client.get(url, params=params | {"cursor": first["next_cursor"]}, headers=headers))

    assert [day["date"] for day in first["items"] + rest["items"]] == [in_days(n).isoformat() for n in range(3)]
    assert [slot["status"] for slot in first["items"][0]["slots"]] == ["open", "closed"]
    one, many = (
        queries_of(world, lambda limit=limit: world.client.get(url, params={"limit": limit}, headers=headers))  # type: ignore[misc]  # a default binds limit
        for limit in ("1", "5")
    )
    assert one == many


def test_days_are_edited_within_the_staffs_halls_only(world: World) -> None:
    own, foreign = a_hall(world), a_hall(world)
    item, other = an_item(world, own), an_item(world, foreign)
    a_day(world, item, TOMORROW)
    a_day(world, other, TOMORROW)
    admin, verifier = world.staff(Role.HALL_ADMIN, [own["id"]]), world.staff(Role.VERIFIER, [own["id"]])
    new = {"If-None-Match": "*"}
    fill: Any = {"periods": [MORNING], "from": TOMORROW.isoformat(), "to": TOMORROW.isoformat()}
    copy: Any = {"dates": [in_days(5).isoformat()]}
    base = f"{STAFF}/items/{other['id']}/days"

    refused(world.client.get(base, headers=admin), 404, "not_found")
    refused(world.client.get(f"{base}/{TOMORROW}", headers=admin), 404, "not_found")
    refused(world.client.put(f"{base}/{in_days(3)}", json={"slots": []}, headers=admin | new), 404, "not_found")
    refused(world.client.delete(f"{base}/{TOMORROW}", headers=admin), 404, "not_found")
    refused(world.client.post(f"{base}/fill", json=fill, headers=admin), 404, "not_found")
    refused(world.client.post(f"{base}/{TOMORROW}/copy", json=copy, headers=admin), 404, "not_found")
    assert len(shown(world.client.get(f"{STAFF}/items/{item['id']}/days", headers=verifier))["items"]) == 1
    base = f"{STAFF}/items/{item['id']}/days"
    refused(world.client.put(f"{base}/{in_days(3)}", json={"slots": []}, headers=verifier | new), 403, "role_forbids")
    refused(world.client.delete(f"{base}/{TOMORROW}", headers=verifier), 403, "role_forbids")
    refused(world.client.post(f"{base}/fill", json=fill, headers=verifier), 403, "role_forbids")
    refused(world.client.post(f"{base}/{TOMORROW}/copy", json=copy, headers=verifier), 403, "role_forbids")
