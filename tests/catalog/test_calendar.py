"""Holidays, make-up workdays and the operator's own special days, as they shape what a plan fills."""

from datetime import date
from typing import Any

import pytest

from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.catalog.builders import (
    AFTERNOON,
    MORNING,
    STAFF,
    a_hall,
    an_item,
    day_url,
    fill,
    made,
    published,
    refused,
    shown,
)
from tests.world import World

WEEKDAYS, SATURDAY, SUNDAY = [1, 2, 3, 4, 5], 6, 7

# The State Council's notice for 2026, and the weekend workdays in it.
HOLIDAYS_OF_2026 = [
    ("2026-01-01", "2026-01-03"),
    ("2026-02-15", "2026-02-23"),
    ("2026-04-04", "2026-04-06"),
    ("2026-05-01", "2026-05-05"),
    ("2026-06-19", "2026-06-21"),
    ("2026-09-25", "2026-09-27"),
    ("2026-10-01", "2026-10-07"),
]
WORKDAYS_OF_2026 = ["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"]


def a_week(world: World, *parts: tuple[list[int], Any], hall_id: str | None = None, **fields: Any) -> Any:
    """Return a template with the parts of a week: weekdays, and the period they have."""
    week = [{"weekdays": weekdays, "periods": [period]} for weekdays, period in parts]
    body = {"name": new_id()[-12:], "hall_id": hall_id, "week": week} | fields
    return made(world.client.post(f"{STAFF}/templates", json=body, headers=world.staff()))


def special(world: World, *dates: str, hall: Any = None, kind: str = "day_off", name: str = "停电") -> Any:
    body = {"hall_id": hall and hall["id"], "dates": list(dates), "kind": kind, "name": name}
    return shown(world.client.put(f"{STAFF}/special-days", json=body, headers=world.staff()))["items"]


def calendar(world: World, hall: Any, first: str, last: str) -> Any:
    params = {"from": first, "to": last}
    return shown(world.client.get(f"{STAFF}/halls/{hall['id']}/calendar", params=params, headers=world.staff()))


def test_the_calendar_of_a_year_is_that_of_the_state_councils_notice(world: World) -> None:
    hall = a_hall(world)

    found = calendar(world, hall, "2026-01-01", "2026-12-31")

    off = [
        date.fromordinal(day).isoformat()
        for first, last in HOLIDAYS_OF_2026
        for day in range(date.fromisoformat(first).toordinal(), date.fromisoformat(last).toordinal() + 1)
    ]
    assert [day["date"] for day in found["days"] if day["kind"] == "day_off"] == off
    assert [day["date"] for day in found["days"] if day["kind"] == "workday"] == WORKDAYS_OF_2026
    assert {day["date"]: day["name"] for day in found["days"]}["2026-02-17"] == "春节"
    assert found["years_not_announced"] == []


def test_a_week_is_filled_with_what_each_weekday_has_and_holidays_are_told(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    week = a_week(world, (WEEKDAYS, MORNING), ([SATURDAY], AFTERNOON))

    filled = shown(fill(world, item, template_id=week["id"], **{"from": "2026-09-28", "to": "2026-10-12"}))

    assert filled["created"] == [
        *("2026-09-28", "2026-09-29", "2026-09-30"),
        *("2026-10-08", "2026-10-09", "2026-10-10", "2026-10-12"),
    ]
    assert filled["slots"] == 7
    assert [(skipped["date"], skipped["reason"]) for skipped in filled["skipped"]] == [
        (f"2026-10-0{day}", "day_off")
        for day in (1, 2, 3, 5, 6, 7)  # the 4th is a Sunday, on which nothing was wanted
    ]
    assert filled["skipped"][0]["name"] == "国庆节"
    assert filled["workdays"] == [{"date": "2026-10-10", "name": "调休上班"}]
    saturday = shown(world.client.get(day_url(item, date(2026, 10, 10)), headers=world.staff()))
    assert [slot["start"] for slot in saturday["slots"]] == ["09:00"], "a make-up workday is like a Monday"


def test_a_make_up_workday_is_like_the_weekday_that_the_template_or_the_request_names(world: World) -> None:
    item, other = (an_item(world, a_hall(world)) for _ in range(2))
    week = a_week(world, ([1, 2, 3, 4], MORNING), ([5], AFTERNOON), makeup_as=5)
    saturday = {"from": "2026-10-10", "to": "2026-10-10"}

    shown(fill(world, item, template_id=week["id"], **saturday))
    shown(fill(world, other, template_id=week["id"], makeup_as=2, **saturday))

    starts = [
        shown(world.client.get(day_url(one, date(2026, 10, 10)), headers=world.staff()))["slots"][0]["start"]
        for one in (item, other)
    ]
    assert starts == ["14:00", "09:00"]


def test_who_ignores_holidays_is_filled_by_the_weekday_alone(world: World) -> None:
    item = an_item(world, a_hall(world))
    museum = a_week(world, ([2, 3, 4, 5, 6, 7], MORNING), holidays="ignore")
    golden_week = {"from": "2026-10-01", "to": "2026-10-11"}

    by_template = shown(fill(world, item, template_id=museum["id"], **golden_week))
    by_request = shown(fill(world, an_item(world, a_hall(world)), periods=[MORNING], holidays="ignore", **golden_week))

    assert [day[-2:] for day in by_template["created"]] == ["01", "02", "03", "04", "06", "07", "08", "09", "10", "11"]
    assert (by_template["skipped"], by_template["workdays"]) == ([], [])
    assert len(by_request["created"]) == 11


def test_weekdays_narrow_a_week_and_its_make_up_workdays(world: World) -> None:
    item = an_item(world, a_hall(world))
    week = a_week(world, (WEEKDAYS, MORNING))
    dates = {"from": "2026-10-08", "to": "2026-10-13"}

    tuesdays = shown(fill(world, item, template_id=week["id"], weekdays=[2], **dates))
    mondays = shown(fill(world, item, template_id=week["id"], weekdays=[1], **dates))

    assert tuesdays["created"] == ["2026-10-13"]
    assert mondays["created"] == ["2026-10-10", "2026-10-12"]


def test_a_make_up_workday_is_no_saturday_and_no_day_off(world: World) -> None:
    item = an_item(world, a_hall(world))
    week = {"from": "2026-02-09", "to": "2026-02-15", "weekdays": [SATURDAY, SUNDAY]}

    filled = shown(fill(world, item, periods=[MORNING], **week))

    assert filled["created"] == []
    assert [(skipped["date"], skipped["reason"], skipped["name"]) for skipped in filled["skipped"]] == [
        ("2026-02-14", "makeup_without_periods", "调休上班"),
        ("2026-02-15", "day_off", "周末连休"),
    ]


@pytest.mark.parametrize("listed", ["special-days", "items/{item}/days", "halls/{hall}/calendar"])
def test_a_list_of_a_range_that_ends_before_it_begins_is_refused(world: World, listed: str) -> None:
    hall = a_hall(world)
    url = f"{STAFF}/{listed.format(hall=hall['id'], item=an_item(world, hall)['id'])}"

    answer = world.client.get(url, params={"from": "2026-10-02", "to": "2026-10-01"}, headers=world.staff())

    refused(answer, 422, "range_unfit")


def test_of_a_year_not_announced_yet_the_answer_says_so_and_knows_the_law_alone(world: World) -> None:
    item = an_item(world, a_hall(world))

    filled = shown(fill(world, item, periods=[MORNING], **{"from": "2098-09-29", "to": "2099-01-02"}))

    assert filled["years_not_announced"] == [2098, 2099]
    off = [skipped["date"] for skipped in filled["skipped"]]
    assert {"2098-10-01", "2098-10-02", "2098-10-03", "2099-01-01"} <= set(off)
    assert calendar(world, a_hall(world), "2098-12-31", "2099-01-01")["years_not_announced"] == [2098, 2099]


def test_the_operators_word_beats_the_calendar_and_the_halls_that_for_all(world: World) -> None:
    hall = a_hall(world)
    special(world, "2026-10-01", "2026-10-09", kind="workday", name="全市加班")
    special(world, "2026-10-09", "2026-10-10", hall=hall, name="停电检修")
    special(world, "2026-10-11", hall=hall, kind="workday", name="便民周日")
    special(world, "2026-10-12", hall=a_hall(world), name="别的厅")
    item = an_item(world, hall)

    filled = shown(fill(world, item, periods=[MORNING], **{"from": "2026-10-01", "to": "2026-10-12"}))

    assert filled["created"] == ["2026-10-01", "2026-10-08", "2026-10-11", "2026-10-12"]
    assert [day["name"] for day in filled["workdays"]] == ["全市加班", "便民周日"]
    named = {skipped["date"]: skipped["name"] for skipped in filled["skipped"]}
    assert (named["2026-10-09"], named["2026-10-10"]) == ("停电检修", "停电检修")
    found = {
        day["date"]: (day["kind"], day["source"]) for day in calendar(world, hall, "2026-10-01", "2026-10-12")["days"]
    }
    assert found["2026-10-01"] == ("workday", "all_halls")
    assert found["2026-10-02"] == ("day_off", "statutory")
    assert found["2026-10-09"] == ("day_off", "hall")
    assert "2026-10-12" not in found


def test_the_operators_days_off_count_where_holidays_are_ignored(world: World) -> None:
    hall = a_hall(world)
    special(world, "2026-10-02", hall=hall)

    filled = shown(
        fill(
            world,
            an_item(world, hall),
            periods=[MORNING],
            holidays="ignore",
            **{"from": "2026-10-01", "to": "2026-10-03"},
        )
    )

    assert filled["created"] == ["2026-10-01", "2026-10-03"]
    assert filled["skipped"] == [{"date": "2026-10-02", "reason": "day_off", "name": "停电"}]


def test_a_special_day_said_again_is_replaced_and_one_deleted_is_the_calendars_again(world: World) -> None:
    hall = a_hall(world)
    [first] = special(world, "2026-10-02", hall=hall, kind="workday", name="值班")
    [again] = special(world, "2026-10-02", hall=hall, kind="day_off", name="停电")
    records = published(world, "audit.recorded")

    gone = world.client.delete(f"{STAFF}/special-days/{again['id']}", headers=world.staff())

    assert (first["id"], again["kind"]) == (again["id"], "day_off")
    assert (records[-1]["action"], records[-1]["object_id"]) == ("special_days.set", hall["id"])
    assert records[-1]["before"] == {"2026-10-02": {"kind": "workday", "name": "值班"}}
    assert records[-1]["after"] == {"2026-10-02": {"kind": "day_off", "name": "停电"}}
    assert gone.status_code == 204
    assert calendar(world, hall, "2026-10-02", "2026-10-02")["days"][0]["source"] == "statutory"
    refused(world.client.delete(f"{STAFF}/special-days/{again['id']}", headers=world.staff()), 404, "not_found")


def test_a_hall_admin_sets_the_special_days_of_their_halls_and_sees_those_for_all(world: World) -> None:
    own, foreign = a_hall(world), a_hall(world)
    admin, verifier = world.staff(Role.HALL_ADMIN, [own["id"]]), world.staff(Role.VERIFIER, [own["id"]])
    [for_all] = special(world, "2026-12-31", name="全局")
    [theirs] = special(world, "2026-12-30", hall=foreign)
    url = f"{STAFF}/special-days"

    def put(hall_id: str | None, headers: dict[str, str]) -> Any:
        body = {"hall_id": hall_id, "dates": ["2026-12-29"], "kind": "day_off", "name": "盘点"}
        return world.client.put(url, json=body, headers=headers)

    [mine] = shown(put(own["id"], admin))["items"]
    refused(put(foreign["id"], admin), 404, "not_found")
    refused(put(None, admin), 403, "global_special_day")
    refused(put(own["id"], verifier), 403, "role_forbids")
    refused(world.client.delete(f"{url}/{theirs['id']}", headers=admin), 404, "not_found")
    refused(world.client.delete(f"{url}/{for_all['id']}", headers=admin), 403, "global_special_day")
    assert [row["id"] for row in shown(world.client.get(url, headers=admin))["items"]] == [mine["id"], for_all["id"]]
    of_foreign = shown(world.client.get(url, params={"hall_id": foreign["id"]}, headers=admin))["items"]
    assert [row["id"] for row in of_foreign] == [for_all["id"]]


@pytest.mark.parametrize(
    "week",
    [
        [{"weekdays": [1, 1], "periods": [MORNING]}],
        [{"weekdays": [1, 2], "periods": [MORNING]}, {"weekdays": [2], "periods": [AFTERNOON]}],
        [{"weekdays": [1], "periods": [MORNING, MORNING]}],
    ],
)
def test_a_week_that_contradicts_itself_is_refused(world: World, week: Any) -> None:
    body = {"name": "周", "week": week}

    params = refused(world.client.post(f"{STAFF}/templates", json=body, headers=world.staff()), 422, "periods_unfit")

    assert params["faults"][0]["field"].startswith("week.")


def test_a_template_is_a_day_or_a_week_and_can_become_the_other(world: World) -> None:
    template = a_week(world, (WEEKDAYS, MORNING), ([SUNDAY], AFTERNOON))
    url = f"{STAFF}/templates/{template['id']}"

    as_day = shown(world.client.patch(url, json={"periods": [AFTERNOON]}, headers=world.staff()))
    as_week = shown(world.client.patch(url, json={"week": template["week"]}, headers=world.staff()))

    assert template["week"][1] == {"weekdays": [SUNDAY], "periods": [AFTERNOON]}
    assert (as_day["periods"], as_day["week"]) == ([AFTERNOON], [])
    assert (as_week["periods"], as_week["week"]) == ([], template["week"])
    for body in (
        {"name": "双", "periods": [MORNING], "week": template["week"]},
        {"name": "无"},
        {"name": "错", "periods": [MORNING], "makeup_as": 8},
        {"name": "错", "periods": [MORNING], "holidays": "maybe"},
    ):
        refused(world.client.post(f"{STAFF}/templates", json=body, headers=world.staff()), 422, "invalid")
    both = {"periods": [MORNING], "week": template["week"]}
    refused(world.client.patch(url, json=both, headers=world.staff()), 422, "invalid")
