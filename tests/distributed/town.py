"""Visitors and staff of a distributed installation, who know nothing but the gateway's address."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2

from libs.common.ids import new_id
from tests.world import bearer, eventually

Headers = dict[str, str]
BUSY = (502, 503, 504)


@dataclass(frozen=True)
class Slot:
    """A slot of tomorrow that asks for nothing."""

    item_id: str
    id: str
    capacity: int


def patiently(ask: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Return the answer of whoever has the time to give one: a busy machine asks people to come back."""
    answer: httpx2.Response = eventually(
        lambda: found if (found := ask()).status_code not in BUSY else None, timeout_s=120
    )
    return answer


class Town:
    """Everybody who asks something of an installation."""

    def __init__(self, address: str, password: str) -> None:
        self.http = httpx2.Client(base_url=address, timeout=60, trust_env=False)
        body = {"username": "admin", "password": password}
        signed_in = patiently(lambda: self.post("admin/sessions", {}, body))
        assert signed_in.status_code == 201, signed_in.text
        self.staff = bearer(signed_in.json()["token"])

    def get(self, path: str, headers: Headers | None = None, **params: Any) -> httpx2.Response:
        return self.http.get(f"/api/{path}", headers=headers, params=params)

    def post(self, path: str, headers: Headers, body: Any = None) -> httpx2.Response:
        return self.http.post(f"/api/{path}", headers=headers, json=body)

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/healthz").json()
        return found

    def is_well(self) -> bool:
        try:
            return bool(self.health()["status"] == "ok")
        except (httpx2.TransportError, ValueError, KeyError):
            return False

    # --- what is there ---

    def slot(self, *, capacity: int = 10) -> Slot:
        """Publish a slot, and return it when booking has heard of it."""
        hall = self._made("POST", "catalog/staff/halls", {"name": f"分布式服务厅 {new_id()[-6:]}"})
        item = self._made("POST", "catalog/staff/items", {"hall_id": hall["id"], "title": "办证", "status": "open"})
        tomorrow = (datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")) + timedelta(days=1)).date()
        day = {"slots": [{"start": "09:00", "end": "17:00", "capacity": capacity}]}
        path = f"catalog/staff/items/{item['id']}/days/{tomorrow}"
        slot_id = self._made("PUT", path, day, {"If-None-Match": "*"})["slots"][0]["id"]
        somebody = self.user()
        eventually(lambda: self.get(f"booking/slots/{slot_id}/form", somebody).status_code == 200)
        return Slot(item_id=item["id"], id=slot_id, capacity=capacity)

    def remaining(self, slot: Slot) -> int | None:
        days = self.found(f"catalog/items/{slot.item_id}")["days"]
        left: dict[str, int | None] = {found["id"]: found["remaining"] for day in days for found in day["slots"]}
        return left[slot.id]

    def booked_by_stats(self, slot: Slot) -> int:
        """How many people are booked, as notify has counted them."""
        lines = self.found("notify/staff/stats", self.staff, item_id=slot.item_id, limit=100)["items"]
        return sum(line["booked"] for line in lines)

    def found(self, path: str, who: Headers | None = None, **query: Any) -> Any:
        """Return what is there."""
        answer = patiently(lambda: self.get(path, who, **query))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _made(self, method: str, path: str, body: Any, headers: Headers | None = None) -> Any:
        who = self.staff | (headers or {})
        answer = patiently(lambda: self.http.request(method, f"/api/{path}", headers=who, json=body))
        assert answer.is_success, answer.text
        return answer.json()

    # --- visitors ---

    def user(self) -> Headers:
        body = {"provider": "dev", "code": f"visitor {new_id()}"}
        answer = patiently(lambda: self.post("booking/sessions", {}, body))
        assert answer.status_code == 201, answer.text
        return bearer(answer.json()["token"])

    def users(self, count: int) -> list[Headers]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: self.user(), range(count)))

    def ask_for_a_place(self, user: Headers, slot: Slot, key: str | None = None) -> httpx2.Response:
        body = {"slot_id": slot.id, "attendees": [{"answers": {}}]}
        return self.post("booking/joins", user | {"Idempotency-Key": key or new_id()}, body)

    def book(self, user: Headers, slot: Slot, request_id: str = "") -> str:
        """Take a place; return the join's id."""
        who, key = user | ({"X-Request-ID": request_id} if request_id else {}), new_id()
        answer = patiently(lambda: self.ask_for_a_place(who, slot, key))
        assert answer.status_code == 201, answer.text
        join_id: str = answer.json()["joins"][0]["id"]
        return join_id

    def told(self, user: Headers) -> list[tuple[str, str]]:
        """Return kind and join of every notice of the user."""
        notices = self.found("notify/notices", user, limit=100)["items"]
        return [(notice["kind"], notice["join_id"]) for notice in notices]


class Traffic:
    """Users who book a place in a slot, one after another, on a thread of their own."""

    def __init__(self, town: Town, slot: Slot, users: list[Headers]) -> None:
        self._town = town
        self._slot = slot
        self._users = users
        self.joins: list[str] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for user in self._users:
                self.joins.append(self._town.book(user, self._slot))
        except BaseException as failure:  # noqa: BLE001  # told by `end`, on the test's thread
            self._failure = failure

    def reach(self, count: int) -> None:
        """Return when so many have booked."""
        eventually(lambda: len(self.joins) >= count or self._failure)

    def end(self) -> list[str]:
        """Return the joins of all users, in their order."""
        self._thread.join(180)
        if self._failure is not None:
            raise self._failure
        assert len(self.joins) == len(self._users)
        return self.joins


def at_once(calls: list[Callable[[], Any]], *, threads: int = 8) -> list[Any]:
    """Make all calls, some at a time; return what they return, in order."""
    with ThreadPoolExecutor(threads) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]
