"""`make demo`: a day at a service hall, played through the gateway against a running instance and told as a story."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import httpx2

from libs.common.ids import new_id

ZONE = ZoneInfo("Asia/Shanghai")
PATIENCE_S = 60
FORM = [
    {"key": "name", "type": "text", "label": "姓名", "min": 2, "max": 30},
    {"key": "mobile", "type": "mobile", "label": "手机号"},
]


class StoryBroken(Exception):
    """The product did not do what the story tells; the text says where."""


class Person:
    """Somebody with a token, at the address of the gateway."""

    def __init__(self, http: httpx2.Client, name: str, token: str = "") -> None:
        self.name = name
        self._http = http
        self._headers = {"Accept-Language": "en"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def ask(self, method: str, path: str, *, expect: int = 200, **request: Any) -> Any:
        """Make a request and return its JSON; StoryBroken where the answer has another status."""
        headers = self._headers | request.pop("headers", {})
        answer = _until(f"an answer to {method} {path}", lambda: self._answer(method, path, headers=headers, **request))
        if answer.status_code != expect:
            raise StoryBroken(f"{method} {path} answered {answer.status_code} instead of {expect}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def _answer(self, method: str, path: str, **request: Any) -> httpx2.Response | None:
        """Make a request and return the answer; None where a busy machine asks people to come back."""
        answer = self._http.request(method, f"/api/{path}", **request)
        return None if answer.status_code == 503 else answer

    def etag_of(self, path: str) -> str:
        """Return the ETag with which something is shown, as whatever stands between has left it."""
        answer = self._http.get(f"/api/{path}", headers=self._headers | {"Accept-Encoding": "gzip"})
        etag: str = answer.headers["ETag"]
        return etag

    def finds(self, path: str) -> bool:
        """Tell whether something is at this address already."""
        return self._http.get(f"/api/{path}", headers=self._headers).status_code == 200

    def book(self, slot_id: str, people: list[tuple[str, str]], *, expect: int = 201) -> Any:
        """Ask for a place in the slot for each (name, mobile)."""
        attendees = [{"answers": {"name": name, "mobile": mobile}} for name, mobile in people]
        body = {"slot_id": slot_id, "attendees": attendees}
        return self.ask("POST", "booking/joins", json=body, headers={"Idempotency-Key": new_id()}, expect=expect)

    def notices(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", "notify/notices")["items"]
        return found


def zone_at(now: datetime) -> ZoneInfo:
    """Return the zone of a hall whose day does not end while a story goes on: China's, or before midnight one behind it."""
    return ZONE if now.astimezone(ZONE).hour < 23 else ZoneInfo("Asia/Dubai")


def play(base_url: str, *, username: str, password: str, say: Callable[[str], None] = print) -> None:
    """Play the whole day; raise StoryBroken at the first thing that is not as it should be."""
    with httpx2.Client(base_url=base_url, timeout=60) as http:
        staff = _staff(http, username, password)
        say("08:30  The hall's manager signs in and publishes what can be booked today and tomorrow.")
        hall_id, item_id, today, tomorrow = _publish(staff)
        wang, li = _user(http, "王小明"), _user(http, "李雷")
        say("08:45  Two people sign in: 王小明 (Wang) and 李雷 (Li).")
        _browse(http, hall_id, item_id, say)
        joins = _party_of_three(wang, http, item_id, today, say)
        _li_is_refused(li, today, say)
        _one_stays_at_home(wang, http, item_id, today, joins, say)
        _both_book_tomorrow(wang, li, http, item_id, tomorrow, say)
        _at_the_door(staff, joins[0], say)
        _tomorrow_is_called_off(staff, wang, li, tomorrow, say)
        _numbers(staff, today, say)
        say("17:30  The hall closes its doors. Everything above happened in a real database.")


def _staff(http: httpx2.Client, username: str, password: str) -> Person:
    signed_in = Person(http, username).ask(
        "POST", "admin/sessions", json={"username": username, "password": password}, expect=201
    )
    return Person(http, username, signed_in["token"])


def _user(http: httpx2.Client, name: str) -> Person:
    code = f"demo {name} {new_id()[-6:]}"
    signed_in = Person(http, name).ask("POST", "booking/sessions", json={"provider": "dev", "code": code}, expect=201)
    return Person(http, name, signed_in["token"])


def _publish(staff: Person) -> tuple[str, str, str, str]:
    """Make a hall, an item, a slot of five places today and one of ten tomorrow; return their ids."""
    suffix = new_id()[-4:]
    now = datetime.now(UTC)
    zone = zone_at(now)
    hall = {"name": f"演示服务厅 {suffix}", "address": "广州市天河区体育东路1号", "order": 9998, "timezone": str(zone)}
    hall_id = staff.ask("POST", "catalog/staff/halls", json=hall, expect=201)["id"]
    rules = {"party_max": 3, "cancel": "anytime", "checkin_opens_minutes": 1440}
    item = {"hall_id": hall_id, "title": "社保卡办理（演示）", "status": "open", "form": FORM, "rules": rules}
    item_id = staff.ask("POST", "catalog/staff/items", json=item, expect=201)["id"]
    day = now.astimezone(zone).date()
    today = _slot(staff, item_id, day, "00:00", "23:59", capacity=5)
    tomorrow = _slot(staff, item_id, day + timedelta(days=1), "09:00", "10:00", capacity=10)
    return hall_id, item_id, today, tomorrow


def _slot(staff: Person, item_id: str, day: date, start: str, end: str, *, capacity: int) -> str:
    body = {"note": "", "slots": [{"start": start, "end": end, "capacity": capacity}]}
    path = f"catalog/staff/items/{item_id}/days/{day.isoformat()}"
    saved = staff.ask("PUT", path, json=body, headers={"If-None-Match": "*"}, expect=201)
    slot_id: str = saved["slots"][0]["id"]
    return slot_id


def _browse(http: httpx2.Client, hall_id: str, item_id: str, say: Callable[[str], None]) -> None:
    visitor = Person(http, "visitor")
    halls = visitor.ask("GET", "catalog/halls", params={"limit": 100})["items"]
    hall = visitor.ask("GET", f"catalog/halls/{hall_id}")
    say(f"08:50  They look around: {len(halls)} halls; they choose {hall['name']}, {hall['address']}.")
    days = visitor.ask("GET", f"catalog/halls/{hall_id}/days")["items"]
    item = visitor.ask("GET", f"catalog/items/{item_id}")
    say(f"       {len(days)} days can be booked. {item['title']} has these slots:")
    for day in item["days"]:
        for slot in day["slots"]:
            say(f"         {slot['date']} {slot['start']}-{slot['end']}  {slot['remaining']} places, {slot['state']}")


def _remaining(http: httpx2.Client, item_id: str, slot_id: str) -> int | None:
    item = Person(http, "visitor").ask("GET", f"catalog/items/{item_id}")
    remaining: dict[str, int | None] = {slot["id"]: slot["remaining"] for day in item["days"] for slot in day["slots"]}
    return remaining[slot_id]


def _until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise StoryBroken(f"{what} did not happen within {PATIENCE_S} s")
        time.sleep(0.05)
    return found


def _first(person: Person, kind: str) -> dict[str, Any] | None:
    return next((notice for notice in person.notices() if notice["kind"] == kind), None)


def _party_of_three(
    wang: Person, http: httpx2.Client, item_id: str, slot_id: str, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    _until("booking hearing of the new slot", lambda: wang.finds(f"booking/slots/{slot_id}/form"))
    people = [("王小明", "13800138000"), ("王芳", "13800138001"), ("王刚", "13800138002")]
    joins: list[dict[str, Any]] = wang.book(slot_id, people)["joins"]
    say(f"09:00  Wang books a party of {len(joins)}; the first code is {joins[0]['code'][:4]}…")
    _until("remaining falling to 2", lambda: _remaining(http, item_id, slot_id) == 2)
    say("       The catalog shows it: 5 places before, 2 now.")
    notice = _until("Wang's notice", partial(_first, wang, "booked"))
    say(f"       Wang's inbox: “{notice['title']}: {notice['body']}”")
    return joins


def _li_is_refused(li: Person, slot_id: str, say: Callable[[str], None]) -> None:
    people = [("李雷", "13900139000"), ("韩梅梅", "13900139001"), ("李静", "13900139002")]
    refusal = li.book(slot_id, people, expect=409)
    if refusal["code"] != "slot_full" or refusal["params"]["left"] != 2:
        raise StoryBroken(f"Li should have been told that 2 are left, and was told {refusal}")
    say(f"09:05  Li wants three of the last places and is told: “{refusal['detail']}”")


def _one_stays_at_home(
    wang: Person,
    http: httpx2.Client,
    item_id: str,
    slot_id: str,
    joins: list[dict[str, Any]],
    say: Callable[[str], None],
) -> None:
    cancelled = wang.ask("POST", f"booking/joins/{joins[2]['id']}/cancel")
    _until("remaining rising to 3", lambda: _remaining(http, item_id, slot_id) == 3)
    say(f"09:10  {cancelled['answers']['name']} stays at home; Wang cancels that one place. 3 places are free again.")


def _both_book_tomorrow(
    wang: Person, li: Person, http: httpx2.Client, item_id: str, slot_id: str, say: Callable[[str], None]
) -> None:
    wang.book(slot_id, [("王小明", "13800138000")])
    li.book(slot_id, [("李雷", "13900139000")])
    _until("remaining falling to 8", lambda: _remaining(http, item_id, slot_id) == 8)
    say("09:15  Both book a place for tomorrow as well.")


def _at_the_door(staff: Person, join: dict[str, Any], say: Callable[[str], None]) -> None:
    arrived = staff.ask("POST", "booking/staff/check-ins", json={"code": join["code"]})["joins"][0]
    say(f"10:00  At the door the code is scanned: {arrived['answers']['name']} is in.")
    refusal = staff.ask("POST", "booking/staff/check-ins", json={"code": join["code"]}, expect=409)
    if refusal["code"] != "already_checked_in":
        raise StoryBroken(f"a second check-in was refused as {refusal['code']}")
    say(f"       Somebody tries the same code again: “{refusal['detail']}”")


def _tomorrow_is_called_off(staff: Person, wang: Person, li: Person, slot_id: str, say: Callable[[str], None]) -> None:
    body = {"reason": "系统维护，请改约其他日期"}
    done = staff.ask("POST", f"booking/staff/slots/{slot_id}/revoke", json=body)
    if done["revoked"] != 2:
        raise StoryBroken(f"two joins should have been revoked, not {done['revoked']}")
    say("11:00  Tomorrow's slot has to be called off; the manager revokes it with a reason. Both are told:")
    for person in (wang, li):
        notice = _until(
            f"the notice of {person.name}",
            partial(_first, person, "revoked"),
        )
        say(f"       {person.name}: “{notice['body']}”")
        if body["reason"] not in notice["body"]:
            raise StoryBroken("the notice does not name the reason")


def _numbers(staff: Person, slot_id: str, say: Callable[[str], None]) -> None:
    def stats() -> Any:
        found = staff.ask("GET", f"booking/staff/slots/{slot_id}")
        return found if found["taken"] == 2 else None

    found = _until("the inventory", stats)
    say(f"12:00  Today's slot: {found['taken']} of {found['capacity']} places taken, {found['remaining']} free.")


def _password() -> str:
    if given := os.environ.get("HALLPASS_DEMO_PASSWORD"):
        return given
    kept = Path(os.environ.get("HALLPASS_DATA", "var/data")) / "first-password"
    try:
        return kept.read_text().strip()
    except OSError:
        _stop(f"No staff password: set HALLPASS_DEMO_PASSWORD, or run `make run` here first ({kept} is not readable).")


def _stop(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy demo", description=__doc__)
    default = f"http://127.0.0.1:{os.environ.get('HALLPASS_PORT', '8000')}"
    parser.add_argument("--url", default=default, help=f"the gateway's address (default {default})")
    parser.add_argument("--username", default="admin")
    arguments = parser.parse_args()
    try:
        play(arguments.url, username=arguments.username, password=_password())
    except httpx2.TransportError as error:
        _stop(f"Nothing answers at {arguments.url} ({error}). Start it with `make run`.")
    except StoryBroken as error:
        _stop(f"The story breaks here: {error}")


if __name__ == "__main__":
    main()
