"""Halls, items and slots as booking hears of them from catalog; each builder shows only what matters."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
from sqlalchemy import select

from libs.common.ids import new_id
from libs.common.messages import Message
from libs.common.outbox import OutboxRow
from libs.common.tasks import perform
from libs.contracts.catalog import (
    FieldType,
    FormField,
    HallChanged,
    HallStatus,
    ItemChanged,
    ItemStatus,
    Rules,
    SlotChanged,
    SlotStatus,
)
from libs.contracts.envelope import Event
from tests.world import World

Headers = dict[str, str]
ZONE = "Asia/Shanghai"
IN_CHINESE = {"Accept-Language": "zh-CN"}
NAME = FormField(key="name", type=FieldType.TEXT, label="姓名", min=2, max=30)


class Place:
    """A hall with one item and one slot, kept so that a test can change each of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hall = HallChanged(
            version=1, hall_id=new_id(), name="市民之窗", address="天河路1号", timezone=ZONE, status=HallStatus.OPEN
        )
        self.item = ItemChanged(
            version=1,
            item_id=new_id(),
            hall_id=self.hall.hall_id,
            title="护照办理",
            cover="",
            status=ItemStatus.OPEN,
            form=[NAME],
            form_version=1,
            rules=Rules(),
        )
        self.slot = _slot(self.item, starts_in=timedelta(days=1))

    @property
    def slot_id(self) -> str:
        return self.slot.slot_id

    @property
    def hall_id(self) -> str:
        return self.hall.hall_id

    def publish(self) -> "Place":
        """Let booking hear of hall, item and slot as they are now."""
        for fact in (self.hall, self.item, self.slot):
            tell(self.world, fact)
        return self

    def change_hall(self, **changes: Any) -> None:
        self.hall = self.hall.model_copy(update=changes | {"version": self.hall.version + 1})
        tell(self.world, self.hall)

    def change_item(self, **changes: Any) -> None:
        self.item = self.item.model_copy(update=changes | {"version": self.item.version + 1})
        tell(self.world, self.item)

    def change_slot(self, **changes: Any) -> None:
        self.slot = self.slot.model_copy(update=changes | {"version": self.slot.version + 1})
        tell(self.world, self.slot)

    def another_slot(self, *, starts_in: timedelta = timedelta(days=2), **changes: Any) -> SlotChanged:
        """Add a slot to the same item."""
        slot = _slot(self.item, starts_in=starts_in).model_copy(update=changes)
        tell(self.world, slot)
        return slot


def a_slot(
    world: World,
    *,
    capacity: int | None = None,
    form: list[FormField] | None = None,
    starts_in: timedelta = timedelta(days=1),
    lasts: timedelta = timedelta(hours=1),
    item_status: ItemStatus = ItemStatus.OPEN,
    hall_status: HallStatus = HallStatus.OPEN,
    slot_status: SlotStatus = SlotStatus.OPEN,
    **rules: Any,
) -> Place:
    """Publish a slot that can be booked unless the arguments say otherwise."""
    place = Place(world)
    place.hall = place.hall.model_copy(update={"status": hall_status})
    place.item = place.item.model_copy(
        update={"status": item_status, "rules": Rules(**rules), "form": [NAME] if form is None else form}
    )
    moved = _slot(place.item, starts_in=starts_in, lasts=lasts)
    place.slot = moved.model_copy(update={"capacity": capacity, "status": slot_status})
    return place.publish()


def _slot(item: ItemChanged, *, starts_in: timedelta, lasts: timedelta = timedelta(hours=1)) -> SlotChanged:
    starts_at = (datetime.now(UTC) + starts_in).replace(microsecond=0)
    ends_at = starts_at + lasts
    local = starts_at.astimezone(ZoneInfo(ZONE))
    return SlotChanged(
        version=1,
        slot_id=new_id(),
        item_id=item.item_id,
        hall_id=item.hall_id,
        date=local.date(),
        start=local.time().replace(second=0),
        end=ends_at.astimezone(ZoneInfo(ZONE)).time().replace(second=0),
        starts_at=starts_at,
        ends_at=ends_at,
        status=SlotStatus.OPEN,
        capacity=None,
    )


def tell(world: World, *facts: Event, event_id: str | None = None) -> None:
    """Deliver facts to booking's consumer as the bus would, several in one transaction."""
    messages = [
        Message(
            id=event_id or new_id(),
            type=fact.type,
            source="catalog",
            subject=fact.subject,
            time=datetime.now(UTC),
            version=fact.version,
            data=fact.model_dump(mode="json"),
        )
        for fact in facts
    ]
    runtime = world.runtimes["booking"]
    runtime.service.consumers[0].receive(runtime.db, *messages)


def book(
    world: World, user: dict[str, str], slot_id: str, *names: str, key: str | None = None, **first_answers: Any
) -> httpx2.Response:
    """Ask for a place for each name (one by default); further answers go to the first attendee."""
    attendees: list[dict[str, Any]] = [{"answers": {"name": name}} for name in names or ("张三",)]
    attendees[0]["answers"] |= first_answers
    return world.client.post(
        "/api/booking/joins",
        headers=user | {"Idempotency-Key": key or new_id()},
        json={"slot_id": slot_id, "attendees": attendees},
    )


def booked(world: World, user: dict[str, str], slot_id: str, *names: str, **first_answers: Any) -> list[dict[str, Any]]:
    """Book and return the joins; fail where it is refused."""
    answer = book(world, user, slot_id, *names, **first_answers)
    assert answer.status_code == 201, answer.text
    joins: list[dict[str, Any]] = answer.json()["joins"]
    return joins


def stock(world: World, slot_id: str) -> dict[str, Any]:
    """Return the inventory of a slot as staff see it."""
    answer = world.client.get(f"/api/booking/staff/slots/{slot_id}", headers=world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def people_booked(world: World, slot_id: str) -> int:
    """Count the booked joins of a slot through the staff's list."""
    count = 0
    query: dict[str, str] = {"slot_id": slot_id, "status": "booked", "limit": "100"}
    while True:
        page = world.client.get("/api/booking/staff/joins", params=query, headers=world.staff()).json()
        count += len(page["items"])
        if page["next_cursor"] is None:
            return count
        query["cursor"] = page["next_cursor"]


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    """Return status and problem code of a refusal."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


@dataclass(frozen=True)
class Refusal:
    """A refusal as clients read it, with its sentence in both languages."""

    status: int
    code: str
    params: dict[str, Any]
    english: str
    chinese: str

    @property
    def kind(self) -> tuple[int, str]:
        return self.status, self.code


def refused(ask: Callable[[Headers], httpx2.Response], who: Headers) -> Refusal:
    """Ask in English and in Chinese; both must be refused in the same way."""
    english, chinese = ask(who), ask(who | IN_CHINESE)
    assert code_of(english) == code_of(chinese)
    body = english.json()
    return Refusal(body["status"], body["code"], body["params"], body["detail"], chinese.json()["detail"])


def cancel(world: World, user: Headers, join_id: str) -> httpx2.Response:
    return world.client.post(f"/api/booking/joins/{join_id}/cancel", headers=user)


def move(world: World, user: Headers, join_id: str, slot_id: str) -> httpx2.Response:
    return world.client.post(f"/api/booking/joins/{join_id}/move", json={"slot_id": slot_id}, headers=user)


def check_in(world: World, staff: Headers, **body: Any) -> httpx2.Response:
    return world.client.post("/api/booking/staff/check-ins", json=body, headers=staff)


def checked_in(world: World, join_id: str) -> None:
    """Check a join in, whatever the time."""
    answer = check_in(world, world.staff(), join_id=join_id, override=True, reason="提前到场")
    assert answer.status_code == 200, answer.text


def revoke(world: World, join_id: str, *, reason: str = "设备检修", staff: Headers | None = None) -> httpx2.Response:
    return world.client.post(
        f"/api/booking/staff/joins/{join_id}/revoke", json={"reason": reason}, headers=staff or world.staff()
    )


def revoke_slot(world: World, slot_id: str, staff: Headers | None = None, reason: str = "设备检修") -> httpx2.Response:
    return world.client.post(
        f"/api/booking/staff/slots/{slot_id}/revoke", json={"reason": reason}, headers=staff or world.staff()
    )


def restore(world: World, join_id: str, staff: Headers | None = None) -> httpx2.Response:
    return world.client.post(f"/api/booking/staff/joins/{join_id}/restore", headers=staff or world.staff())


def set_user(world: World, user: str, staff: Headers | None = None, **body: Any) -> httpx2.Response:
    return world.client.patch(f"/api/booking/staff/users/{user}", json=body, headers=staff or world.staff())


def my_join(world: World, user: Headers, join_id: str) -> dict[str, Any]:
    """Return a join as its user sees it."""
    answer = world.client.get(f"/api/booking/joins/{join_id}", headers=user)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def my_joins(world: World, user: Headers, **query: Any) -> dict[str, Any]:
    """Return a page of the user's joins."""
    answer = world.client.get("/api/booking/joins", params=query, headers=user)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def user_id(world: World, user: Headers) -> str:
    found: str = world.client.get("/api/booking/me", headers=user).json()["id"]
    return found


def recorded(world: World, kind: str) -> list[OutboxRow]:
    """Return the events of a type that booking has recorded, in the order in which it did."""
    with world.runtimes["booking"].db.transaction() as session:
        return list(session.scalars(select(OutboxRow).where(OutboxRow.type == kind).order_by(OutboxRow.position)))


def do(world: World, task: str) -> Any:
    """Do a background task of booking here and now, `find` as well as any other."""
    runtime = world.runtimes["booking"]
    return perform(runtime, next(one for one in runtime.service.tasks if one.name == f"booking.{task}"))
