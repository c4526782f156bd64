"""Days and slots, as staff edit them: one at a time, many at once, and two people at once."""

from datetime import UTC, date, datetime, timedelta
from threading import Thread
from typing import Any

import time_machine
from sqlalchemy import select, text

from libs.common.ids import new_id
from libs.contracts.principals import Role
from services.catalog import tasks
from services.catalog.models import Day, Slot
from tests.catalog.builders import (
    AFTERNOON,
    API,
    MORNING,
    STAFF,
    a_day,
    a_hall,
    an_item,
    day_url,
    fill,
    in_days,
    made,
    published,
    queries_of,
    refused,
    shown,
    stat,
)
from tests.world import World, eventually, simultaneously

TOMORROW = in_days(1)


def save(world: World, item: Any, day: Any, *slots: Any, note: str = "", on: date = TOMORROW) -> Any:
    """Send a day's slots from the version that `day` is."""
    headers = world.staff() | {"If-Match": day["etag"]}
    return world.client.put(day_url(item, on), json={"note": note, "slots": list(slots)}, headers=headers)


def sent(slot: Any, **changes: Any) -> Any:
    """Return what an editor sends back of a slot that was loaded."""
    return {name: slot[name] for name in ("id", "start", "end", "capacity", "status")} | changes


def facts_of(world: World, slot: Any) -> list[Any]:
    return published(world, "slot.changed", slot["id"])


# --- one day ---


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


def test_the_times_of_slots_with_joins_change_only_when_that_is_confirmed(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]
    stat(world, morning, item, taken=2, booked=2)
    stat(world, afternoon, item, cancelled=1)
    earlier = (sent(morning, start="08:00", end="11:00", capacity=5), sent(afternoon, start="15:00"))

    answer = save(world, item, day, *earlier)
    in_chinese = world.client.put(
        day_url(item, TOMORROW),
        json={"slots": earlier},
        headers=world.staff() | {"If-Match": day["etag"], "Accept-Language": "zh"},
    )

    assert refused(answer, 409, "joins_ahead") == {"joins": 2, "days": [TOMORROW.isoformat()]}
    assert "confirm with accept_joins_ahead" in answer.json()["detail"]
    assert "有 2 人预约了要调整时间的时段" in in_chinese.json()["detail"]
    confirmed = world.client.put(
        day_url(item, TOMORROW),
        json={"slots": earlier, "accept_joins_ahead": True},
        headers=world.staff() | {"If-Match": day["etag"]},
    )
    assert [(slot["id"], slot["start"]) for slot in shown(confirmed)["slots"]] == [
        (morning["id"], "08:00"),
        (afternoon["id"], "15:00"),
    ]


def test_what_is_no_change_of_times_needs_no_confirmation(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    [morning] = day["slots"]
    stat(world, morning, item, taken=2, booked=2)

    edited = shown(save(world, item, day, sent(morning, capacity=1, status="closed"), AFTERNOON, note="请带证件"))

    assert [slot["start"] for slot in edited["slots"]] == ["09:00", "14:00"]


def test_who_waits_has_not_booked(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    [morning] = day["slots"]
    stat(world, morning, item, taken=30)  # all of it is for the line

    moved = shown(save(world, item, day, sent(morning, start="08:00")))
    deleted = shown(save(world, item, moved, AFTERNOON))

    assert [slot["start"] for slot in moved["slots"]] == ["08:00"]
    assert [slot["start"] for slot in deleted["slots"]] == ["14:00"]
    stat(world, morning, item, taken=30, version=2, slot_version=2)
    assert facts_of(world, morning)[-1]["deleted"]


def test_a_slot_with_joins_is_not_moved_into_the_past(world: World) -> None:
    on = date(2027, 3, 10)
    with time_machine.travel(datetime(2027, 3, 9, tzinfo=UTC)):
        item = an_item(world, a_hall(world))
        day = a_day(world, item, on, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]
    for slot in (morning, afternoon):
        stat(world, slot, item, taken=1, booked=1)

    def move(*slots: Any) -> Any:
        body = {"slots": slots, "accept_joins_ahead": True}
        return world.client.put(day_url(item, on), json=body, headers=world.staff() | {"If-Match": day["etag"]})

    with time_machine.travel(datetime(2027, 3, 10, 2, 30, tzinfo=UTC)):  # 10:30 at the hall: the morning is on
        over = refused(move(sent(morning, end="10:00"), sent(afternoon)), 409, "slot_in_past")
        begun = refused(move(sent(morning, start="08:30"), sent(afternoon)), 409, "slot_in_past")
        back = refused(
            move(sent(morning, end="09:30"), sent(afternoon, start="10:00", end="13:00")), 409, "slot_in_past"
        )
        longer = shown(move(sent(morning, end="13:00"), sent(afternoon)))

    assert over["slots"] == begun["slots"] == [{"id": morning["id"], "start": "09:00", "end": "12:00", "taken": 1}]
    assert [slot["id"] for slot in back["slots"]] == [morning["id"], afternoon["id"]]
    assert longer["slots"][0]["end"] == "13:00"


def test_a_slot_left_out_is_deleted_and_its_tombstone_published(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]

    edited = shown(save(world, item, day, sent(afternoon)))

    assert [slot["id"] for slot in edited["slots"]] == [afternoon["id"]]
    assert [(fact["version"], fact["deleted"]) for fact in facts_of(world, morning)] == [(1, False), (2, True)]
    again = shown(save(world, item, edited, sent(afternoon), MORNING))
    assert again["slots"][0]["id"] != morning["id"]


def test_a_slot_that_somebody_booked_is_closed_and_never_deleted(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING, AFTERNOON)
    morning, afternoon = day["slots"]
    stat(world, morning, item, cancelled=1)

    params = refused(save(world, item, day, sent(afternoon)), 409, "slot_has_joins")
    closed = shown(save(world, item, day, sent(morning, status="closed"), sent(afternoon)))

    assert params == {"slots": [{"id": morning["id"], "start": "09:00", "end": "12:00", "taken": 0}]}
    assert closed["slots"][0]["status"] == "closed"
    public = shown(world.client.get(f"{API}/items/{item['id']}"))["days"][0]["slots"]
    assert [slot["id"] for slot in public] == [afternoon["id"]]


def test_numbers_of_the_client_are_not_taken(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)

    answer = save(world, item, day, sent(day["slots"][0]) | {"taken": 0, "booked": 0})

    refused(answer, 422, "invalid")


def test_an_edit_leaves_the_stat_alone(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    slot = day["slots"][0]
    stat(world, slot, item, taken=4, booked=4, cancelled=2, revoked=1, checked_in=3, missed=0)

    edited = shown(save(world, item, day, sent(slot, capacity=2)))["slots"][0]

    assert (edited["capacity"], edited["capacity_in_force"], edited["remaining"], edited["state"]) == (2, 4, 0, "full")
    assert [edited[name] for name in ("taken", "booked", "cancelled", "revoked", "checked_in", "missed")] == [
        *(4, 4, 2, 1, 3, 0)
    ]


def test_a_deleted_slot_that_somebody_booked_meanwhile_comes_back_closed(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW)
    slot = day["slots"][0]
    assert world.client.delete(day_url(item, TOMORROW), headers=world.staff()).status_code == 204

    stat(world, slot, item, taken=1, booked=1)

    back = shown(world.client.get(day_url(item, TOMORROW), headers=world.staff()))
    assert [(found["id"], found["status"], found["taken"]) for found in back["slots"]] == [(slot["id"], "closed", 1)]
    assert [(fact["version"], fact["deleted"], fact["status"]) for fact in facts_of(world, slot)] == [
        (1, False, "open"),
        (2, True, "open"),
        (3, False, "closed"),
    ]


def test_what_came_back_does_not_stand_in_the_way_of_the_day(world: World) -> None:
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    old = day["slots"][0]
    halves = ({"start": "09:00", "end": "10:30"}, {"start": "10:30", "end": "12:00"})
    replaced = shown(save(world, item, day, *halves))
    stat(world, old, item, taken=1, booked=1)

    present = shown(world.client.get(day_url(item, TOMORROW), headers=world.staff()))
    edited = shown(save(world, item, present, *(sent(slot) for slot in present["slots"]), note="新"))
    reopened = save(world, item, edited, *(sent(slot, status="open") for slot in edited["slots"]))

    refused(save(world, item, replaced, *halves), 412, "changed_meanwhile")
    assert sorted(slot["start"] for slot in edited["slots"]) == ["09:00", "09:00", "10:30"]
    refused(reopened, 422, "periods_unfit")


def test_what_comes_back_waits_for_its_day_before_it_holds_a_slot(world: World) -> None:
    """Whoever edits the day holds it, and takes its slots next: the other way round both would wait for ever."""
    item = an_item(world, a_hall(world))
    day = a_day(world, item, TOMORROW, MORNING)
    old = day["slots"][0]
    save(world, item, day, AFTERNOON)
    hearing = Thread(target=lambda: stat(world, old, item, taken=1, booked=1))

    with world.runtimes["catalog"].db.transaction() as editing:
        editing.execute(select(Day).where(Day.item_id == item["id"]).with_for_update())
        hearing.start()
        eventually(lambda: editing.scalar(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")))
        editing.execute(select(Slot).where(Slot.id == old["id"]).with_for_update(nowait=True))
    hearing.join()

    assert facts_of(world, old)[-1]["deleted"] is False


def test_a_stat_without_joins_does_not_bring_a_deleted_slot_back(world: World) -> None:
    item = an_item(world, a_hall(world))
    slot = a_day(world, item, TOMORROW)["slots"][0]
    world.client.delete(day_url(item, TOMORROW), headers=world.staff())

    stat(world, slot, item)

    refused(world.client.get(day_url(item, TOMORROW), headers=world.staff()), 404, "not_found")


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


# --- two people at once ---


def test_a_day_is_not_saved_without_the_version_that_was_loaded(world: World) -> None:
    item = an_item(world, a_hall(world))
    a_day(world, item, TOMORROW)
    body: Any = {"slots": [MORNING]}

    for headers in ({}, {"If-None-Match": '"x"'}):
        answer = world.client.put(day_url(item, TOMORROW), json=body, headers=world.staff() | headers)
        refused(answer, 428, "if_match_required")


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


# --- deleting, listing, scope ---


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


# --- many days ---


def test_a_range_is_filled_on_its_weekdays_and_days_that_exist_are_left_alone(world: World) -> None:
    item = an_item(world, a_hall(world))
    wednesday = date(2027, 3, 10)
    a_day(world, item, wednesday, AFTERNOON, note="旧")

    filled = shown(
        fill(
            world,
            item,
            **{"from": "2027-03-08", "to": "2027-03-14", "weekdays": [1, 2, 3], "periods": [MORNING, AFTERNOON]},
            note="新",
        )
    )

    assert filled == {
        "created": ["2027-03-08", "2027-03-09"],
        "slots": 4,
        "skipped": [{"date": "2027-03-10", "reason": "exists", "name": ""}],
        "workdays": [],
        "years_not_announced": [2027],
    }
    stood = shown(world.client.get(day_url(item, wednesday), headers=world.staff()))
    assert (stood["note"], stood["version"], len(stood["slots"])) == ("旧", 1, 1)
    monday = shown(world.client.get(day_url(item, date(2027, 3, 8)), headers=world.staff()))
    assert (monday["note"], [slot["start"] for slot in monday["slots"]]) == ("新", ["09:00", "14:00"])
    assert len(published(world, "slot.changed")) == 5
    record = published(world, "audit.recorded")[-1]
    assert (record["action"], record["after"]["made"][0]["days"]) == ("days.filled", ["2027-03-08", "2027-03-09"])


def test_a_range_is_filled_from_a_template_that_the_hall_can_use(world: World) -> None:
    hall, other = a_hall(world), a_hall(world)
    item = an_item(world, hall)

    def template(hall_id: str | None) -> Any:
        body = {"name": "工作日", "hall_id": hall_id, "periods": [MORNING, {"start": "13:00", "end": "14:00"}]}
        return made(world.client.post(f"{STAFF}/templates", json=body, headers=world.staff()))["id"]

    def filled(template_id: str, on: date) -> Any:
        return fill(
            world, item, **{"template_id": template_id, "from": on.isoformat(), "to": on.isoformat()}, holidays="ignore"
        )

    assert shown(filled(template(hall["id"]), in_days(1)))["slots"] == 2
    assert shown(filled(template(None), in_days(2)))["slots"] == 2
    refused(filled(template(other["id"]), in_days(3)), 422, "template_unknown")
    refused(filled(new_id(), in_days(3)), 422, "template_unknown")
    day = shown(world.client.get(day_url(item, in_days(1)), headers=world.staff()))
    assert [(slot["start"], slot["capacity"]) for slot in day["slots"]] == [("09:00", 30), ("13:00", None)]


def test_a_range_that_makes_no_sense_is_refused(world: World) -> None:
    item = an_item(world, a_hall(world))
    week = {"from": "2027-03-08", "to": "2027-03-14", "periods": [MORNING]}

    for changes, code in (
        ({"to": "2027-03-07"}, "range_unfit"),
        ({"to": "2028-03-08"}, "range_unfit"),
        ({"periods": [MORNING, MORNING]}, "periods_unfit"),
        ({"periods": None}, "invalid"),
        ({"template_id": new_id()}, "invalid"),
        ({"weekdays": [0]}, "invalid"),
        ({"weekdays": []}, "invalid"),
        ({"from": "2027-03-08T00:00:00Z"}, "invalid"),
        ({"from": "0001-01-01"}, "invalid"),
        ({"from": 1}, "invalid"),
    ):
        refused(fill(world, item, **(week | changes)), 422, code)


def test_a_year_of_twenty_slots_a_day_is_filled_by_a_few_statements(world: World) -> None:
    item = an_item(world, a_hall(world))
    starts = [f"{8 + number // 2:02}:{number % 2 * 30:02}" for number in range(20)]
    periods = [{"start": start, "end": f"{start[:3]}{int(start[3:]) + 29}"} for start in starts]
    answers = []

    year = {"from": "2027-01-01", "to": "2027-12-31", "holidays": "ignore"}
    statements = queries_of(world, lambda: answers.append(fill(world, item, **year, periods=periods)))

    filled = shown(answers[0])
    assert (len(filled["created"]), filled["slots"], filled["skipped"]) == (365, 7300, [])
    assert statements < 10


def test_two_fills_of_one_range_make_each_day_once(world: World) -> None:
    item = an_item(world, a_hall(world))
    week = {"from": "2027-03-08", "to": "2027-03-14", "periods": [MORNING]}

    answers = simultaneously([lambda: fill(world, item, **week)] * 3)

    assert sorted(len(shown(answer)["created"]) for answer in answers) == [0, 0, 7]
    assert len(published(world, "slot.changed")) == 7


def test_a_day_is_copied_with_its_open_slots_onto_days_that_do_not_exist(world: World) -> None:
    item = an_item(world, a_hall(world))
    a_day(world, item, TOMORROW, MORNING, AFTERNOON | {"status": "closed"}, note="样板")
    a_day(world, item, in_days(2))
    dates = [in_days(3).isoformat(), in_days(2).isoformat(), TOMORROW.isoformat(), in_days(3).isoformat()]

    answer = world.client.post(f"{day_url(item, TOMORROW)}/copy", json={"dates": dates}, headers=world.staff())

    assert shown(answer) == {
        "created": [in_days(3).isoformat()],
        "slots": 1,
        "skipped": [
            {"date": TOMORROW.isoformat(), "reason": "exists", "name": ""},
            {"date": in_days(2).isoformat(), "reason": "exists", "name": ""},
        ],
        "workdays": [],
        "years_not_announced": [],
    }
    copied = shown(world.client.get(day_url(item, in_days(3)), headers=world.staff()))
    assert (copied["note"], [slot["start"] for slot in copied["slots"]]) == ("样板", ["09:00"])
    nothing = world.client.post(f"{day_url(item, in_days(9))}/copy", json={"dates": dates}, headers=world.staff())
    refused(nothing, 404, "not_found")


# --- clocks that are set ---


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
