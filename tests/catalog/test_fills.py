"""Many days made at once."""

from datetime import date
from typing import Any

from libs.common.ids import new_id
from tests.catalog.builders import (
    AFTERNOON,
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
    queries_of,
    refused,
    shown,
    stat,
)
from tests.world import World, simultaneously


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


def test_a_fault_of_periods_is_told_by_the_name_that_was_sent(world: World) -> None:
    item = an_item(world, a_hall(world))
    week = {"from": "2027-03-08", "to": "2027-03-14", "periods": [MORNING, MORNING]}
    template = {"name": "工作日", "periods": [MORNING, MORNING]}

    of_fill = refused(fill(world, item, **week), 422, "periods_unfit")
    answer = world.client.post(f"{STAFF}/templates", json=template, headers=world.staff())
    of_template = refused(answer, 422, "periods_unfit")

    assert of_fill["faults"] == of_template["faults"] == [{"field": "periods.1", "reason": "overlap"}]


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


def test_a_day_without_open_slots_is_not_copied(world: World) -> None:
    item = an_item(world, a_hall(world))
    a_day(world, item, TOMORROW, MORNING | {"status": "closed"})
    later = in_days(3).isoformat()

    answer = world.client.post(f"{day_url(item, TOMORROW)}/copy", json={"dates": [later]}, headers=world.staff())

    refused(answer, 409, "nothing_to_copy")
    dates = {"from": later, "to": later, "holidays": "ignore"}
    assert shown(fill(world, item, periods=[MORNING], **dates))["created"] == [later]


# --- taken back -----------------------------------------------------------------------------------------------------


def clear(world: World, item: Any, **body: Any) -> Any:
    return world.client.post(f"{STAFF}/items/{item['id']}/days/clear", json=body, headers=world.staff())


def test_a_wrong_fill_is_taken_back_but_for_what_somebody_has_booked(world: World) -> None:
    item = an_item(world, a_hall(world))
    shown(fill(world, item, **{"from": "2027-03-08", "to": "2027-03-12", "periods": [MORNING, AFTERNOON]}))
    tuesday = shown(world.client.get(day_url(item, date(2027, 3, 9)), headers=world.staff()))
    stat(world, tuesday["slots"][0], item, cancelled=1)

    cleared = shown(clear(world, item, **{"from": "2027-03-01", "to": "2027-03-31", "weekdays": [1, 2, 3]}))

    assert cleared == {"deleted": ["2027-03-08", "2027-03-10"], "slots": 4, "kept": ["2027-03-09"]}
    stand = shown(world.client.get(f"{STAFF}/items/{item['id']}/days", headers=world.staff()))["items"]
    assert [day["date"] for day in stand] == ["2027-03-09", "2027-03-11", "2027-03-12"]
    facts = published(world, "slot.changed")[-4:]
    assert [(fact["date"], fact["deleted"]) for fact in facts] == [("2027-03-08", True)] * 2 + [
        ("2027-03-10", True)
    ] * 2
    record = published(world, "audit.recorded")[-1]
    assert (record["action"], record["before"]["cleared"][0]["days"]) == ("days.cleared", cleared["deleted"])
    assert shown(clear(world, item, **{"from": "2027-03-08", "to": "2027-03-08"})) == {
        "deleted": [],
        "slots": 0,
        "kept": [],
    }


def test_what_was_cleared_can_be_filled_again(world: World) -> None:
    item = an_item(world, a_hall(world))
    range_: Any = {"from": "2027-03-08", "to": "2027-03-09"}
    shown(fill(world, item, **range_, periods=[MORNING]))

    shown(clear(world, item, **range_))

    assert shown(fill(world, item, **range_, periods=[AFTERNOON]))["created"] == ["2027-03-08", "2027-03-09"]


def test_no_more_than_a_year_is_cleared_at_once(world: World) -> None:
    item = an_item(world, a_hall(world))

    for first, last in (("2027-03-09", "2027-03-08"), ("2027-01-01", "2028-03-01")):
        refused(clear(world, item, **{"from": first, "to": last}), 422, "range_unfit")


def test_days_are_cleared_and_booked_in_one_order(world: World) -> None:
    """Whoever edits a day while the range is cleared is before or after it, and never between."""
    item = an_item(world, a_hall(world))
    shown(fill(world, item, **{"from": "2027-03-01", "to": "2027-03-31", "periods": [MORNING], "holidays": "ignore"}))
    on = date(2027, 3, 15)
    etag = world.client.get(day_url(item, on), headers=world.staff()).headers["etag"]

    edited, cleared = simultaneously(
        [
            lambda: world.client.put(
                day_url(item, on), json={"note": "", "slots": [AFTERNOON]}, headers=world.staff() | {"If-Match": etag}
            ),
            lambda: clear(world, item, **{"from": "2027-03-01", "to": "2027-03-31"}),
        ]
    )

    assert len(shown(cleared)["deleted"]) == 31
    assert edited.status_code in (200, 412)
    assert shown(world.client.get(f"{STAFF}/items/{item['id']}/days", headers=world.staff()))["items"] == []
