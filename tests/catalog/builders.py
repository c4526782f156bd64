"""Halls, items and days as staff make them through HTTP; each builder shows only what matters."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
from sqlalchemy import event, select

from libs.common.ids import new_id
from libs.common.messages import Message
from libs.common.outbox import OutboxRow
from libs.contracts.notify import SlotStatChanged
from services.catalog.handlers import consumer
from tests.world import NOON, World

API = "/api/catalog"
STAFF = f"{API}/staff"
MORNING = {"start": "09:00", "end": "12:00", "capacity": 30}
AFTERNOON = {"start": "14:00", "end": "17:30", "capacity": 30}


def a_hall(world: World, **fields: Any) -> Any:
    """Return a hall that a super admin has just made."""
    return made(world.client.post(f"{STAFF}/halls", json={"name": "市民之窗"} | fields, headers=world.staff()))


def a_category(world: World, name: str = "证件", **fields: Any) -> Any:
    return made(world.client.post(f"{STAFF}/categories", json={"name": name} | fields, headers=world.staff()))


def an_item(world: World, hall: Any, **fields: Any) -> Any:
    """Return an open item of a hall."""
    body = {"hall_id": hall["id"], "title": "护照办理", "status": "open"} | fields
    return made(world.client.post(f"{STAFF}/items", json=body, headers=world.staff()))


def a_day(world: World, item: Any, on: date, *slots: dict[str, Any], note: str = "") -> Any:
    """Return a new day of an item, by default with one slot in the morning."""
    answer = world.client.put(
        day_url(item, on),
        json={"note": note, "slots": list(slots) or [MORNING]},
        headers=world.staff() | {"If-None-Match": "*"},
    )
    return made(answer)


def fill(world: World, item: Any, **body: Any) -> httpx2.Response:
    """Ask for days of an item to be filled."""
    return world.client.post(f"{STAFF}/items/{item['id']}/days/fill", json=body, headers=world.staff())


def day_url(item: Any, on: date) -> str:
    return f"{STAFF}/items/{item['id']}/days/{on.isoformat()}"


def made(answer: httpx2.Response) -> Any:
    assert answer.status_code == 201, answer.text
    return answer.json()


def shown(answer: httpx2.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx2.Response, status: int, code: str) -> Any:
    """Assert a refusal and return its params."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return answer.json()["params"]


def titles(page: Any) -> list[str]:
    return [item["title"] for item in page["items"]]


def names(page: Any) -> list[str]:
    return [hall["name"] for hall in page["items"]]


def in_days(days: int, zone: str = "Asia/Shanghai") -> date:
    """Return the date at a hall, some days from now."""
    return datetime.now(ZoneInfo(zone)).date() + timedelta(days=days)


TOMORROW = NOON.date() + timedelta(days=1)  # of tests that begin at noon


def save(world: World, item: Any, day: Any, *slots: Any, note: str = "", on: date = TOMORROW) -> Any:
    """Send a day's slots from the version that `day` is."""
    headers = world.staff() | {"If-Match": day["etag"]}
    return world.client.put(day_url(item, on), json={"note": note, "slots": list(slots)}, headers=headers)


def sent(slot: Any, **changes: Any) -> Any:
    """Return what an editor sends back of a slot that was loaded."""
    return {name: slot[name] for name in ("id", "start", "end", "capacity", "status")} | changes


def stat(world: World, slot: Any, item: Any, *, version: int = 1, slot_version: int = 1, **counts: int) -> None:
    """Hand catalog the fact that a slot's stat is now this."""
    zeros = {"booked": 0, "cancelled": 0, "revoked": 0, "checked_in": 0, "missed": 0, "taken": 0}
    fact = SlotStatChanged(
        version=version,
        slot_version=slot_version,
        slot_id=slot["id"],
        item_id=item["id"],
        hall_id=item["hall"]["id"],
        capacity=slot["capacity"],
        **(zeros | counts),
    )
    message = Message(
        id=new_id(),
        type=fact.type,
        source="notify",
        subject=fact.subject,
        time=datetime.now(UTC),
        version=version,
        data=fact.model_dump(mode="json"),
    )
    consumer.receive(world.runtimes["catalog"].db, message)


def published(world: World, type: str, subject: str | None = None) -> list[Any]:
    """Return what catalog has told the others, oldest first."""
    query = select(OutboxRow).where(OutboxRow.type == type).order_by(OutboxRow.position)
    if subject is not None:
        query = query.where(OutboxRow.subject == subject)
    with world.runtimes["catalog"].db.transaction() as session:
        return [row.data for row in session.scalars(query)]


def facts_of(world: World, slot: Any) -> list[Any]:
    return published(world, "slot.changed", slot["id"])


def queries_of(world: World, call: Callable[[], object], *, service: str = "catalog") -> int:
    """Return how many statements a service sent to PostgreSQL during a call."""
    statements: list[str] = []

    def count(*args: Any) -> None:
        statements.append(args[2])

    engine = world.runtimes[service].db.engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        call()
    finally:
        event.remove(engine, "before_cursor_execute", count)
    return len(statements)
