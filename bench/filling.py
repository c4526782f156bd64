"""How long staff wait for a year: 365 days of 20 slots, filled by one request, given another capacity, and closed."""

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2

from bench.ground import HERE, Ground
from bench.report import Row
from bench.scene import Scene
from libs.common.ids import new_id
from libs.common.tokens import TokenKeys
from libs.contracts.principals import Role, Staff, issue_staff_token

DAYS, SLOTS = 365, 20
ROUNDS = 5
ASKED_S = 3.0
YEAR = {"from": "2027-01-01", "to": "2027-12-31"}
PERIODS = [
    {"start": f"{8 + n // 2:02}:{n % 2 * 30:02}", "end": f"{8 + n // 2:02}:{n % 2 * 30 + 29:02}", "capacity": 30}
    for n in range(SLOTS)
]


def measure(scene: Scene) -> Iterator[Row]:
    """Seconds until the answer, through HTTP and a database that syncs."""
    filled, changed, closed = [], [], []
    with _staff_of(scene.ground) as staff:
        hall_id = _sent(staff, "POST", "halls", {"name": "市民之窗"})["id"]
        for _ in range(ROUNDS):
            item_id = _sent(staff, "POST", "items", {"hall_id": hall_id, "title": "护照办理"})["id"]
            started = time.perf_counter()
            body = {"periods": PERIODS, "holidays": "ignore"} | YEAR
            made = _sent(staff, "POST", f"items/{item_id}/days/fill", body)
            filled.append(time.perf_counter() - started)
            started = time.perf_counter()
            told = _sent(staff, "POST", "slots/capacity", {"item_ids": [item_id], "capacity": 20} | YEAR)
            changed.append(time.perf_counter() - started)
            started = time.perf_counter()
            _sent(staff, "POST", "closures", {"item_id": item_id, "reason": "消防检修"} | YEAR)
            closed.append(time.perf_counter() - started)
            if (len(made["created"]), made["slots"], told["slots"]) != (DAYS, DAYS * SLOTS, DAYS * SLOTS):
                raise RuntimeError(f"{DAYS} days of {SLOTS} slots were asked for: {made['slots']}, {told['slots']}")
    for name, took in (("filled", filled), ("given another capacity", changed), ("closed", closed)):
        what = f"a year of {DAYS * SLOTS:,} slots {name}"
        yield Row(what, statistics.median(took), "s", "s asked", ASKED_S, ROUNDS, "< 1")


def _staff_of(ground: Ground) -> httpx2.Client:
    keys = TokenKeys(ground.keys.staff_token_keys, algorithm="Ed25519", audience="staff")
    staff = Staff(id=new_id(), name="bench", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
    token = issue_staff_token(keys, staff, now=datetime.now(UTC))
    base_url = f"http://{HERE}:{ground.catalog.port}/api/catalog/staff/"
    return httpx2.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=20)


def _sent(staff: httpx2.Client, method: str, path: str, body: dict[str, Any]) -> Any:
    answer = staff.request(method, path, json=body)
    if not answer.is_success:
        raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
