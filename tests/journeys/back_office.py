"""A new hall, built by its staff from nothing to the first booked, checked-in and exported visit, over HTTP alone."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx2

from deploy.demo import FORM, Person, StoryBroken, zone_at
from libs.common.ids import new_id
from tests.admin.exporting import records, sheets
from tests.world import eventually


def build_and_open(http: httpx2.Client, *, password: str) -> None:
    """Play it at the gateway; `password` is that of `admin`."""
    suffix = new_id()[-6:]
    office = _signed_in(http, "admin", password)
    now = datetime.now(UTC)
    zone = zone_at(now)
    new = {"name": f"新区服务厅 {suffix}", "timezone": str(zone)}
    hall = office.ask("POST", "catalog/staff/halls", json=new, expect=201)
    manager = _appointed(http, office, f"manager-{suffix}", "hall_admin", hall["id"])
    doorman = _appointed(http, office, f"door-{suffix}", "verifier", hall["id"])

    item, slot_id = _published(manager, hall["id"], today=now.astimezone(zone).date())
    visitor = _visitor(http, suffix)
    eventually(lambda: visitor.finds(f"booking/slots/{slot_id}/form"))
    [join] = visitor.book(slot_id, [("王小明", "13800138000")])["joins"]
    arrived = doorman.ask("POST", "booking/staff/check-ins", json={"code": join["code"]})

    assert [one["id"] for one in arrived["joins"]] == [join["id"]]
    export_id, row = _exported(http, manager, item)
    assert (row["预约码"], row["姓名"], row["手机号"]) == (join["code"], "王小明", "138******00")
    assert row["签到时间"]
    eventually(lambda: "join.checked_in" in _trail(office, join["id"]))
    eventually(lambda: {"export.asked", "export.done", "export.fetched"} <= _trail(office, export_id))


def _signed_in(http: httpx2.Client, name: str, password: str) -> Person:
    opened = Person(http, name).ask("POST", "admin/sessions", json={"username": name, "password": password}, expect=201)
    return Person(http, name, opened["token"])


def _appointed(http: httpx2.Client, office: Person, username: str, role: str, hall_id: str) -> Person:
    """Make an account for the hall; its owner signs in and chooses a password of their own."""
    account = {"username": username, "name": username, "role": role, "halls": [hall_id]}
    first = eventually(lambda: _made(office, account))["password"]
    own = f"correct horse {new_id()}"
    _signed_in(http, username, first).ask("POST", "admin/me/password", json={"current": first, "new": own})
    return _signed_in(http, username, own)


def _made(office: Person, account: dict[str, Any]) -> dict[str, Any] | None:
    """Make an account and return it; None where admin has not heard of its hall yet."""
    try:
        made: dict[str, Any] = office.ask("POST", "admin/staff", json=account, expect=201)
    except StoryBroken as broken:
        if "halls_unknown" not in str(broken):
            raise
        return None
    return made


def _published(manager: Person, hall_id: str, *, today: date) -> tuple[dict[str, Any], str]:
    """Fill a week of an item by a template and open it; return the item, and its slot of today."""
    rules = {"cancel": "anytime", "checkin_opens_minutes": 1440}
    # Long enough to be sent compressed, upon which nginx weakens its tag.
    draft = {
        "hall_id": hall_id,
        "title": "居住证办理",
        "content": "请携带证件原件。" * 100,
        "form": FORM,
        "rules": rules,
    }
    item = manager.ask("POST", "catalog/staff/items", json=draft, expect=201)
    whole_day = [{"start": "00:00", "end": "23:59", "capacity": 5}]
    template = manager.ask(
        "POST",
        "catalog/staff/templates",
        json={"name": f"全天 {new_id()[-6:]}", "hall_id": hall_id, "periods": whole_day, "holidays": "ignore"},
        expect=201,
    )
    days = {"template_id": template["id"], "from": today.isoformat(), "to": (today + timedelta(days=6)).isoformat()}
    filled = manager.ask("POST", f"catalog/staff/items/{item['id']}/days/fill", json=days)
    assert filled["slots"] == 7
    seen = {"If-Match": manager.etag_of(f"catalog/staff/items/{item['id']}")}
    manager.ask("PATCH", f"catalog/staff/items/{item['id']}", json={"status": "open"}, headers=seen)
    shown = manager.ask("GET", f"catalog/items/{item['id']}")
    assert len(shown["days"]) == 7
    return shown, shown["days"][0]["slots"][0]["id"]


def _visitor(http: httpx2.Client, suffix: str) -> Person:
    code = f"first visitor {suffix}"
    opened = Person(http, code).ask("POST", "booking/sessions", json={"provider": "dev", "code": code}, expect=201)
    return Person(http, code, opened["token"])


def _exported(http: httpx2.Client, manager: Person, item: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Export the item's joins and return the export's id and the only row."""
    asked = manager.ask("POST", "admin/exports", json={"kind": "joins", "filter": {"item_id": item["id"]}}, expect=202)
    path = f"admin/exports/{asked['id']}"
    eventually(lambda: manager.ask("GET", path)["state"] == "done", timeout_s=120)
    link = manager.ask("POST", f"{path}/links", expect=201)["url"]
    [row] = records(sheets(http.get(link).content)[item["title"]])
    return asked["id"], row


def _trail(office: Person, object_id: str) -> set[str]:
    """Return what the audit trail says was done with something."""
    found = office.ask("GET", "admin/audit", params={"object_id": object_id})["items"]
    return {line["action"] for line in found}
