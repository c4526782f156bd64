"""Items, categories and templates, as staff edit them."""

from collections.abc import Callable
from typing import Any

import pytest

from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.catalog.builders import (
    API,
    MORNING,
    STAFF,
    a_category,
    a_day,
    a_hall,
    an_item,
    in_days,
    made,
    published,
    refused,
    shown,
    stat,
    titles,
)
from tests.world import World

NAME = {"key": "name", "type": "text", "label": "姓名", "min": 2, "max": 30}


def patch(world: World, item: Any, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return world.client.patch(f"{STAFF}/items/{item['id']}", json=body, headers=headers or world.staff())


def test_a_new_item_is_a_draft_and_told_to_the_others(world: World) -> None:
    hall = a_hall(world)

    body = {"hall_id": hall["id"], "title": "护照办理", "form": [NAME], "rules": {"party_max": 2}}
    item = made(world.client.post(f"{STAFF}/items", json=body, headers=world.staff(Role.HALL_ADMIN, [hall["id"]])))

    assert (item["status"], item["version"], item["form_version"]) == ("draft", 1, 1)
    [fact] = published(world, "item.changed")
    assert (fact["item_id"], fact["hall_id"], fact["title"]) == (item["id"], hall["id"], "护照办理")
    assert (fact["status"], fact["version"], fact["form_version"]) == ("draft", 1, 1)
    assert fact["form"][0]["key"] == "name"
    assert fact["rules"]["party_max"] == 2


def test_an_edit_changes_what_was_sent_and_nothing_else(world: World) -> None:
    item = an_item(world, a_hall(world), content="内容", order=5, form=[NAME])

    edited = shown(patch(world, item, title="新标题"))

    assert edited == item | {"title": "新标题", "version": 2}
    record = published(world, "audit.recorded")[-1]
    assert (record["action"], record["before"], record["after"]) == (
        "item.edited",
        {"title": "护照办理"},
        {"title": "新标题"},
    )


def test_the_form_version_grows_only_with_the_form(world: World) -> None:
    item = an_item(world, a_hall(world), form=[NAME])

    same = shown(patch(world, item, form=[NAME], rules={"party_max": 5}))
    changed = shown(
        patch(world, item, form=[NAME, {"key": "sex", "type": "radio", "label": "性别", "options": ["男", "女"]}])
    )

    assert (same["form_version"], same["version"]) == (1, 2)
    assert (changed["form_version"], changed["version"]) == (2, 3)
    assert [(fact["version"], fact["form_version"]) for fact in published(world, "item.changed")] == [
        (1, 1),
        (2, 1),
        (3, 2),
    ]


def test_rules_are_replaced_whole(world: World) -> None:
    item = an_item(world, a_hall(world), rules={"party_max": 5, "cancel": "never"})

    edited = shown(patch(world, item, rules={"party_max": 6}))

    assert (edited["rules"]["party_max"], edited["rules"]["cancel"]) == (6, "before_start")


def test_a_category_can_be_taken_away_from_an_item(world: World) -> None:
    item = an_item(world, a_hall(world), category_id=a_category(world)["id"])

    assert shown(patch(world, item, category_id=None))["category"] is None
    refused(patch(world, item, category_id=new_id()), 422, "category_unknown")


def test_an_item_cannot_be_edited_from_an_old_version(world: World) -> None:
    item = an_item(world, a_hall(world))
    headers = world.staff()
    etag = world.client.get(f"{STAFF}/items/{item['id']}", headers=headers).headers["etag"]
    patch(world, item, title="一")

    params = refused(patch(world, item, headers | {"If-Match": etag}, title="二"), 412, "changed_meanwhile")

    assert params["version"] == 2
    assert shown(patch(world, item, headers | {"If-Match": params["etag"]}, title="二"))["title"] == "二"


@pytest.mark.parametrize("status", ["closed", "draft"])
def test_an_item_with_joins_ahead_disappears_only_when_that_is_confirmed(world: World, status: str) -> None:
    item = an_item(world, a_hall(world))
    first = a_day(world, item, in_days(1))["slots"][0]
    second = a_day(world, item, in_days(3))["slots"][0]
    third = a_day(world, item, in_days(4))["slots"][0]
    stat(world, first, item, taken=2, booked=2)
    stat(world, second, item, taken=30, booked=1)  # the others are held, or waited for
    stat(world, third, item, taken=30)

    params = refused(patch(world, item, status=status), 409, "joins_ahead")

    assert params == {"joins": 3, "days": [in_days(1).isoformat(), in_days(3).isoformat()]}
    assert shown(patch(world, item, status="stopped"))["status"] == "stopped"
    assert shown(patch(world, item, status=status, accept_joins_ahead=True))["status"] == status
    refused(world.client.get(f"{API}/items/{item['id']}"), 404, "not_found")


def field(**changes: Any) -> dict[str, Any]:
    return {"key": "field", "type": "text", "label": "字段"} | changes


UNFIT_FORMS: list[Any] = [
    ([field(), field()], ("form.1.key", "key_repeated")),
    ([field(label="  ")], ("form.0.label", "label_empty")),
    ([field(label="\u200b")], ("form.0.label", "label_empty")),
    ([field(type="radio", options=["\u200b"])], ("form.0.options", "option_unfit")),
    ([field(label="姓\n名")], ("form.0.label", "label_unfit")),
    ([field(type="select")], ("form.0.options", "options_missing")),
    ([field(type="radio", options=["a", "a"])], ("form.0.options", "options_repeated")),
    ([field(type="radio", options=["a", " a"])], ("form.0.options", "options_repeated")),
    ([field(type="radio", options=["é", "e\u0301"])], ("form.0.options", "options_repeated")),
    ([field(type="radio", options=[" "])], ("form.0.options", "option_unfit")),
    ([field(type="radio", options=["a\x07b"])], ("form.0.options", "option_unfit")),
    ([field(options=["a"])], ("form.0.options", "options_not_for_type")),
    ([field(min=3, max=2)], ("form.0.min", "min_above_max")),
    ([field(min=1.5)], ("form.0.min", "bound_not_a_count")),
    ([field(min=-1)], ("form.0.min", "bound_not_a_count")),
    ([field(max=201)], ("form.0.max", "bound_out_of_range")),
    ([field(min=201)], ("form.0.min", "bound_out_of_range")),
    ([field(max=0)], ("form.0.max", "bound_out_of_range")),
    ([field(type="textarea", max=10_001)], ("form.0.max", "bound_out_of_range")),
    ([field(type="digits", min=51)], ("form.0.min", "bound_out_of_range")),
    ([field(type="number", min=1e15)], ("form.0.min", "bound_out_of_range")),
    ([field(type="checkbox", options=["a"], max=0)], ("form.0.max", "bound_out_of_range")),
    ([field(type="number", max=1e300)], ("form.0.max", "bound_out_of_range")),
    ([field(type="switch", min=1)], ("form.0.min", "bound_not_for_type")),
    ([field(type="checkbox", options=["a"], max=2)], ("form.0.max", "more_than_options")),
    ([field(pattern="(")], ("form.0.pattern", "pattern_unfit")),
    ([field(pattern=r"(a)\1")], ("form.0.pattern", "pattern_unfit")),
    ([field(type="date", pattern="a")], ("form.0.pattern", "pattern_not_for_type")),
    ([field(type="switch", unique="slot")], ("form.0.unique", "unique_not_for_type")),
    ([field(type="image", unique="slot")], ("form.0.unique", "unique_not_for_type")),
    ([field(type="file", min=1)], ("form.0.min", "bound_not_for_type")),
    ([field(type="image", max=0)], ("form.0.max", "bound_out_of_range")),
    ([field(type="file", max=51)], ("form.0.max", "bound_out_of_range")),
    ([field(pattern="((((a{100}){100}){100}){100})")], ("form.0.pattern", "pattern_unfit")),
    ([field(default="")], ("form.0.default", "default_unfit")),
    ([field(max=1, default="ab")], ("form.0.default", "default_unfit")),
    ([field(pattern="[a-z]+", default="1")], ("form.0.default", "default_unfit")),
    ([field(type="radio", options=["a"], default="b")], ("form.0.default", "default_unfit")),
    ([field(type="checkbox", options=["a", "b"], max=1, default=["a", "b"])], ("form.0.default", "default_unfit")),
    ([field(type="number", max=1, default=2)], ("form.0.default", "default_unfit")),
    ([field(type="switch", default="true")], ("form.0.default", "default_unfit")),
    ([field(type="date", default="2026-02-30")], ("form.0.default", "default_unfit")),
    ([field(type="file", default="a.pdf")], ("form.0.default", "default_unfit")),
    ([field(unique="slot", default="a")], ("form.0.default", "default_of_unique")),
    ([field(key=f"f{number}") for number in range(51)], ("form", "too_many")),
]


def test_a_form_that_cannot_be_answered_is_refused(world: World) -> None:
    item = an_item(world, a_hall(world))

    for form, fault in UNFIT_FORMS:
        params = refused(patch(world, item, form=form), 422, "form_unfit")
        assert fault in [(found["field"], found["reason"]) for found in params["faults"]], params


@pytest.mark.parametrize("type", ["image", "file"])
def test_a_form_promises_no_larger_files_than_the_installation_takes(
    make_world: Callable[..., World], type: str
) -> None:
    world = make_world(upload_max_bytes=2_500_000)
    hall = a_hall(world)
    item = an_item(world, hall, form=[field(type=type, max=2)])

    changed = refused(patch(world, item, form=[field(key="name"), field(type=type, max=3)]), 422, "form_unfit")
    draft = {"hall_id": hall["id"], "title": "别的", "form": [field(type=type, max=3)]}
    drafted = refused(world.client.post(f"{STAFF}/items", json=draft, headers=world.staff()), 422, "form_unfit")

    assert changed["faults"] == [{"field": "form.1.max", "reason": "above_upload_limit", "most": 2}]
    assert drafted["faults"] == [{"field": "form.0.max", "reason": "above_upload_limit", "most": 2}]
    assert shown(patch(world, item, form=[field(type=type), field(key="words", max=100)]))["form_version"] == 2


FIT_FORMS: list[Any] = [
    [field(min=0, max=30, pattern="[a-z]+", unique="day")],
    [field(type="number", min=-1.5, max=1.5)],
    [field(type="checkbox", options=["a", "b"], min=1, max=2)],
    [field(type="id_card", unique="item")],
    [field(type="checkbox", options=["a", "b"], default=["b"]), field(key="f", type="switch", default=False)],
    [field(type="region", default=["广东省", "广州市"], required=False), field(key="f", type="number", default=0)],
    [field(type=type) for type in ("switch",)],
    [field(key=type, type=type, max=2, sensitive=True) for type in ("image", "file")],
    [
        field(key=type, type=type)
        for type in ("textarea", "digits", "mobile", "plate", "date", "month", "time", "region")
    ],
]


def test_a_form_that_can_be_answered_is_taken(world: World) -> None:
    item = an_item(world, a_hall(world))

    for form in FIT_FORMS:
        assert len(shown(patch(world, item, form=form))["form"]) == len(form)


SENSELESS: list[Any] = [
    {"title": ""},
    {"title": None},
    {"title": "a\x00"},
    {"title": "\u200b"},
    {"status": "on"},
    {"form": None},
    {"form": [field(key="1")]},
    {"form": [field(label="a\x00")]},
    {"form": [field(type="year")]},
    {"form": [field(more=1)]},
    {"rules": None},
    {"rules": {"party_max": 0}},
    {"rules": {"party_max": 10**40}},
    {"rules": {"opens_at": "24:00", "opens_days_before": 1}},
    {"hall_id": new_id()},
    {"order": 2**31},
]


def test_an_item_that_makes_no_sense_is_refused(world: World) -> None:
    item = an_item(world, a_hall(world))

    for body in SENSELESS:
        refused(patch(world, item, **body), 422, "invalid")


def test_rules_that_contradict_themselves_are_refused(world: World) -> None:
    item = an_item(world, a_hall(world))

    refused(patch(world, item, rules={"opens_at": "08:00"}), 422, "rules_unfit")
    refused(patch(world, item, rules={"opens_at": "08:00:30", "opens_days_before": 1}), 422, "rules_unfit")


def test_items_are_edited_within_the_staffs_halls_only(world: World) -> None:
    own, foreign = a_hall(world), a_hall(world)
    mine, other = an_item(world, own, title="本厅"), an_item(world, foreign, title="他厅")
    admin, verifier = world.staff(Role.HALL_ADMIN, [own["id"]]), world.staff(Role.VERIFIER, [own["id"]])

    assert titles(shown(world.client.get(f"{STAFF}/items", headers=admin))) == ["本厅"]
    assert titles(shown(world.client.get(f"{STAFF}/items", headers=verifier))) == ["本厅"]
    refused(world.client.get(f"{STAFF}/items/{other['id']}", headers=admin), 404, "not_found")
    refused(patch(world, other, admin, title="x"), 404, "not_found")
    refused(patch(world, mine, verifier, title="x"), 403, "role_forbids")
    body = {"hall_id": foreign["id"], "title": "x"}
    refused(world.client.post(f"{STAFF}/items", json=body, headers=admin), 404, "not_found")


def test_staff_find_items_by_status_category_and_literal_title(world: World) -> None:
    hall, category = a_hall(world), a_category(world)
    an_item(world, hall, title="草_稿", status="draft", category_id=category["id"])
    an_item(world, hall, title="草稿")

    def found(**params: str | bool) -> list[str]:
        return titles(shown(world.client.get(f"{STAFF}/items", params=params, headers=world.staff())))

    assert found(status="draft") == ["草_稿"]
    assert found(category_id=category["id"]) == ["草_稿"]
    assert found(q="_") == ["草_稿"]
    assert found(hall_id=hall["id"]) == ["草稿", "草_稿"]


# --- categories ---


def test_category_names_are_unique(world: World) -> None:
    a_category(world, "证件")
    other = a_category(world, "其他")
    headers = world.staff()

    refused(world.client.post(f"{STAFF}/categories", json={"name": "证件"}, headers=headers), 409, "name_taken")
    url = f"{STAFF}/categories/{other['id']}"
    refused(world.client.patch(url, json={"name": " 证件 "}, headers=headers), 409, "name_taken")
    edited = shown(world.client.patch(url, json={"order": 1}, headers=headers))
    assert edited == other | {"order": 1, "version": 2, "etag": edited["etag"]}


def test_a_category_with_items_is_not_deleted(world: World) -> None:
    category = a_category(world)
    item = an_item(world, a_hall(world), category_id=category["id"])
    url, headers = f"{STAFF}/categories/{category['id']}", world.staff()

    assert refused(world.client.delete(url, headers=headers), 409, "category_in_use") == {"items": 1}
    patch(world, item, category_id=None)
    assert world.client.delete(url, headers=headers).status_code == 204
    refused(world.client.delete(url, headers=headers), 404, "not_found")


def test_only_a_super_admin_edits_categories_and_all_staff_read_them(world: World) -> None:
    category = a_category(world)
    admin, verifier = world.staff(Role.HALL_ADMIN, []), world.staff(Role.VERIFIER, [])

    assert len(shown(world.client.get(f"{STAFF}/categories", headers=verifier))["items"]) == 1
    url = f"{STAFF}/categories/{category['id']}"
    refused(world.client.post(f"{STAFF}/categories", json={"name": "x"}, headers=admin), 403, "role_forbids")
    refused(world.client.patch(url, json={"name": "x"}, headers=admin), 403, "role_forbids")
    refused(world.client.delete(url, headers=admin), 403, "role_forbids")


# --- templates ---


def test_a_template_name_is_unique_in_its_scope(world: World) -> None:
    hall, other = a_hall(world), a_hall(world)

    def make(hall_id: str | None) -> Any:
        body = {"name": "工作日", "hall_id": hall_id, "periods": [MORNING]}
        return world.client.post(f"{STAFF}/templates", json=body, headers=world.staff())

    assert [make(hall["id"]).status_code, make(other["id"]).status_code, make(None).status_code] == [201, 201, 201]
    refused(make(hall["id"]), 409, "name_taken")
    refused(make(None), 409, "name_taken")


def test_hall_admins_use_global_templates_and_edit_their_own(world: World) -> None:
    own, foreign = a_hall(world), a_hall(world)
    boss, admin = world.staff(), world.staff(Role.HALL_ADMIN, [own["id"]])

    def make(name: str, hall_id: str | None, headers: dict[str, str]) -> Any:
        body = {"name": name, "hall_id": hall_id, "periods": [MORNING]}
        return world.client.post(f"{STAFF}/templates", json=body, headers=headers)

    everywhere = made(make("全局", None, boss))
    mine = made(make("本厅", own["id"], admin))
    other = made(make("他厅", foreign["id"], boss))

    page = shown(world.client.get(f"{STAFF}/templates", headers=admin))
    assert {template["name"] for template in page["items"]} == {"全局", "本厅"}
    refused(make("x", None, admin), 403, "global_template")
    refused(make("x", foreign["id"], admin), 404, "not_found")
    url = f"{STAFF}/templates"
    refused(world.client.patch(f"{url}/{everywhere['id']}", json={"name": "x"}, headers=admin), 403, "global_template")
    refused(world.client.delete(f"{url}/{other['id']}", headers=admin), 404, "not_found")
    refused(world.client.get(f"{url}/{other['id']}", headers=admin), 404, "not_found")
    edited = world.client.patch(f"{url}/{mine['id']}", json={"periods": [MORNING | {"capacity": 5}]}, headers=admin)
    assert shown(edited)["periods"] == [{"start": "09:00", "end": "12:00", "capacity": 5}]
    assert world.client.delete(f"{url}/{mine['id']}", headers=admin).status_code == 204


SENSELESS_TEMPLATES: list[Any] = [
    ({"name": ""}, "invalid"),
    ({"name": "x" * 21}, "invalid"),
    ({"name": "\u200b"}, "invalid"),
    ({"periods": []}, "invalid"),
    ({"periods": [{"start": "9:00", "end": "10:00"}]}, "invalid"),
    ({"periods": [{"start": "09:00", "end": "24:00"}]}, "invalid"),
    ({"periods": [{"start": "10:00", "end": "09:00"}]}, "periods_unfit"),
    ({"periods": [MORNING, {"start": "11:00", "end": "13:00"}]}, "periods_unfit"),
]


def test_a_template_that_makes_no_sense_is_refused(world: World) -> None:
    for body, code in SENSELESS_TEMPLATES:
        whole = {"name": "工作日", "periods": [MORNING]} | body
        refused(world.client.post(f"{STAFF}/templates", json=whole, headers=world.staff()), 422, code)
