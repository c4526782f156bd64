"""How long it takes from a booking's commit until catalog shows one place less: the whole ring, through the gateway."""

import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2

from libs.common.ids import new_id

GIVE_UP_S = 20
LOOK_EVERY_S = 0.01  # less would measure the looking, and pass the gateway's rate


@dataclass(frozen=True)
class Spread:
    """Milliseconds, over all rounds."""

    median: float
    p95: float
    worst: float
    rounds: int


def measure(address: str, *, username: str, password: str, rounds: int = 100) -> Spread:
    """Book `rounds` single places one after another and time each until `remaining` has fallen.

    The clock starts when the answer to the booking has arrived (the commit lies before it) and stops with the answer
    that shows the new number, so that the time to ask catalog once is part of the figure.
    """
    with httpx2.Client(base_url=f"{address}/api", timeout=20) as http:
        staff = _token(http, "admin/sessions", {"username": username, "password": password})
        item_id, slot_id = _publish(http, staff, places=rounds + 1)
        users = [
            _token(http, "booking/sessions", {"provider": "dev", "code": f"bench {new_id()}"}) for _ in range(rounds)
        ]
        _until(lambda: http.get(f"booking/slots/{slot_id}/form", headers=users[0]).status_code == 200)
        taken = [_one(http, users[number], item_id, slot_id, expect=rounds - number) for number in range(rounds)]
        http.patch(
            f"catalog/staff/items/{item_id}", headers=staff, json={"status": "closed", "accept_joins_ahead": True}
        )
    in_ms = sorted(seconds * 1000 for seconds in taken)
    return Spread(statistics.median(in_ms), in_ms[int(len(in_ms) * 0.95)], in_ms[-1], rounds)


def _one(http: httpx2.Client, user: dict[str, str], item_id: str, slot_id: str, *, expect: int) -> float:
    body = {"slot_id": slot_id, "attendees": [{"answers": {}}]}
    booked = http.post("booking/joins", headers=user | {"Idempotency-Key": new_id()}, json=body)
    if booked.status_code != 201:
        raise RuntimeError(f"a booking was refused: {booked.text}")
    started = time.perf_counter()
    _until(lambda: _remaining(http, item_id) == expect)
    return time.perf_counter() - started


def _remaining(http: httpx2.Client, item_id: str) -> int:
    answer = http.get(f"catalog/items/{item_id}")
    answer.raise_for_status()
    remaining: int = answer.json()["days"][0]["slots"][0]["remaining"]
    return remaining


def _until(probe: Any) -> None:
    deadline = time.perf_counter() + GIVE_UP_S
    while not probe():
        if time.perf_counter() > deadline:
            raise RuntimeError(f"nothing changed within {GIVE_UP_S} s")
        time.sleep(LOOK_EVERY_S)


def _token(http: httpx2.Client, path: str, body: dict[str, str]) -> dict[str, str]:
    answer = http.post(path, json=body)
    answer.raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['token']}", "Accept-Language": "en"}


def _publish(http: httpx2.Client, staff: dict[str, str], *, places: int) -> tuple[str, str]:
    def make(method: str, path: str, body: dict[str, Any], **headers: str) -> Any:
        answer = http.request(method, path, headers=staff | headers, json=body)
        answer.raise_for_status()
        return answer.json()

    hall = make("POST", "catalog/staff/halls", {"name": f"bench {new_id()[-6:]}"})["id"]
    item = make("POST", "catalog/staff/items", {"hall_id": hall, "title": "bench", "status": "open"})["id"]
    tomorrow = (datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")) + timedelta(days=1)).date().isoformat()
    day = {"slots": [{"start": "09:00", "end": "17:00", "capacity": places}]}
    saved = make("PUT", f"catalog/staff/items/{item}/days/{tomorrow}", day, **{"If-None-Match": "*"})
    return item, saved["slots"][0]["id"]
