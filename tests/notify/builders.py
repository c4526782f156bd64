"""Facts as booking would publish them, handed to notify's consumer, and what notify made of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.common.outbox import OutboxRow
from libs.contracts.booking import (
    JoinBooked,
    JoinCancelled,
    JoinCheckedIn,
    JoinCheckInUndone,
    JoinMissed,
    JoinMoved,
    JoinRevoked,
    JoinStatus,
    SlotTaken,
)
from libs.contracts.catalog import (
    HallChanged,
    HallStatus,
    ItemChanged,
    ItemStatus,
    Rules,
    SlotChanged,
    SlotStatus,
)
from libs.contracts.envelope import Event
from libs.contracts.principals import issue_user_token
from services.notify.models import DayStat, HourStat, JoinRecord, Notice, SlotStat
from tests.world import World, bearer

MORNING = datetime(2026, 11, 3, 1, tzinfo=UTC)  # 09:00 of a Tuesday in Shanghai
COUNTS = ("booked", "cancelled", "revoked", "checked_in", "missed")


@dataclass
class Slot:
    """A slot and its inventory, which changes as joins are told."""

    capacity: int | None = 10
    starts_at: datetime = MORNING
    hall_id: str = field(default_factory=new_id)
    item_id: str = field(default_factory=new_id)
    id: str = field(default_factory=new_id)
    taken: int = 0
    version: int = 0
    timezone: str = "Asia/Shanghai"
    definition: int = 0  # the version of it that booking has heard of

    def now_taken(self, change: int) -> SlotTaken:
        """Take or free places, as booking's guarded update does."""
        self.taken += change
        self.version += 1
        return self.inventory()

    def inventory(self) -> SlotTaken:
        return SlotTaken(slot_id=self.id, taken=self.taken, capacity=self.capacity, version=self.version)

    def defined(
        self,
        *,
        version: int,
        capacity: int | None = 10,
        starts_at: datetime | None = None,
        lasts: timedelta = timedelta(hours=1),
        status: SlotStatus = SlotStatus.OPEN,
        deleted: bool = False,
    ) -> SlotChanged:
        """Say what catalog says of the slot, which is now like this; booking is not to hear of it."""
        starts_at = starts_at or self.starts_at
        local = starts_at.astimezone(ZoneInfo(self.timezone))
        return SlotChanged(
            version=version,
            slot_id=self.id,
            item_id=self.item_id,
            hall_id=self.hall_id,
            date=local.date(),
            start=local.time(),
            end=(local + lasts).time(),
            starts_at=starts_at,
            ends_at=starts_at + lasts,
            status=status,
            capacity=capacity,
            deleted=deleted,
        )

    def hall(
        self, *, version: int = 1, name: str = "天河政务中心", status: HallStatus = HallStatus.OPEN, **more: Any
    ) -> HallChanged:
        """Say what catalog says of the slot's hall."""
        return HallChanged(
            version=version,
            hall_id=self.hall_id,
            name=name,
            address="",
            timezone=self.timezone,
            status=status,
            **more,
        )

    def item(self, *, version: int = 1, status: ItemStatus = ItemStatus.OPEN, **more: Any) -> ItemChanged:
        """Say what catalog says of the slot's item."""
        return ItemChanged(
            version=version,
            item_id=self.item_id,
            hall_id=self.hall_id,
            title="护照办理",
            cover="",
            status=status,
            form=[],
            form_version=1,
            rules=Rules(),
            **more,
        )


def a_slot(**differing: Any) -> Slot:
    return Slot(**differing)


def a_hall_known_to(world: World) -> str:
    """Return the id of a hall that notify has heard of."""
    slot = a_slot()
    hear(world, slot.hall())
    return slot.hall_id


@dataclass
class Join:
    """A join whose life is told as facts: each method is one change, and returns what booking says about it."""

    slot: Slot
    user_id: str = field(default_factory=new_id)
    party_id: str = field(default_factory=new_id)
    people: int = 1
    hall_name: str = "天河政务中心"
    item_title: str = "护照办理"
    id: str = field(default_factory=new_id)
    status: JoinStatus = JoinStatus.BOOKED
    checked_in_at: datetime | None = None
    missed_at: datetime | None = None
    reason: str = ""
    booked_at: datetime = MORNING - timedelta(days=1)
    version: int = 0

    def booked(self, *, action: str | None = None) -> JoinBooked:
        self.status, inventory = JoinStatus.BOOKED, self.slot.now_taken(+1)
        return JoinBooked(**self._state(action), slot=inventory)

    def restored(self) -> JoinBooked:
        self.status, self.reason, inventory = JoinStatus.BOOKED, "", self.slot.now_taken(+1)
        return JoinBooked(**self._state(None), slot=inventory, restored=True)

    def cancelled(self) -> JoinCancelled:
        self.status, inventory = JoinStatus.CANCELLED, self.slot.now_taken(-1)
        return JoinCancelled(**self._state(None), slot=inventory)

    def revoked(self, *, reason: str = "系统维护", action: str | None = None) -> JoinRevoked:
        self.status, self.reason, inventory = JoinStatus.REVOKED, reason, self.slot.now_taken(-1)
        return JoinRevoked(**self._state(action), slot=inventory)

    def moved(self, to: Slot) -> JoinMoved:
        left, self.slot = self.slot, to
        gone, inventory = left.now_taken(-1), to.now_taken(+1)
        return JoinMoved(**self._state(None), slot=inventory, left=gone, left_starts_at=left.starts_at)

    def checked_in(self, *, action: str | None = None) -> JoinCheckedIn:
        self.checked_in_at, self.missed_at = self.slot.starts_at, None
        return JoinCheckedIn(**self._state(action), slot=self.slot.inventory())

    def check_in_undone(self) -> JoinCheckInUndone:
        self.checked_in_at = None
        return JoinCheckInUndone(**self._state(None), slot=self.slot.inventory())

    def missed(self, *, cooling_off_until: datetime | None = None) -> JoinMissed:
        self.missed_at = self.slot.starts_at + timedelta(hours=1)
        more = {"cooling_off_until": cooling_off_until}
        return JoinMissed(**self._state(None), **more, slot=self.slot.inventory())

    def _state(self, action: str | None) -> dict[str, Any]:
        self.version += 1
        local = self.slot.starts_at.astimezone(ZoneInfo(self.slot.timezone))
        return {
            "version": self.version,
            "join_id": self.id,
            "party_id": self.party_id,
            "user_id": self.user_id,
            "action_id": action or new_id(),
            "people": self.people,
            "hall_id": self.slot.hall_id,
            "hall_name": self.hall_name,
            "item_id": self.slot.item_id,
            "item_title": self.item_title,
            "slot_id": self.slot.id,
            "date": local.date(),
            "start": local.time(),
            "end": (local + timedelta(hours=1)).time(),
            "starts_at": self.slot.starts_at,
            "ends_at": self.slot.starts_at + timedelta(hours=1),
            "timezone": self.slot.timezone,
            "definition_version": self.slot.definition,
            "status": self.status,
            "reason": self.reason,
            "checked_in_at": self.checked_in_at,
            "missed_at": self.missed_at,
            "booked_at": self.booked_at,
        }


def a_join(slot: Slot | None = None, **differing: Any) -> Join:
    return Join(slot or a_slot(), **differing)


def a_party(people: int, slot: Slot, **differing: Any) -> list[Join]:
    first = Join(slot, people=people, **differing)
    return [first, *(replace(first, id=new_id()) for _ in range(people - 1))]


def message(fact: Event, *, replayed: bool = False, time: datetime | None = None) -> Message:
    """Put a fact into the envelope in which the bus delivers it."""
    return Message(
        id=new_id(),
        type=fact.type,
        source="test",
        subject=fact.subject,
        time=time or utcnow(),
        version=fact.version,
        replayed=replayed,
        data=fact.model_dump(mode="json"),
    )


def deliver(world: World, *messages: Message, at_once: int = 1) -> None:
    """Hand messages to notify's consumers, in this order, so many in one transaction."""
    runtime = world.runtimes["notify"]
    for start in range(0, len(messages), at_once):
        for consumer in runtime.service.consumers:
            consumer.receive(runtime.db, *messages[start : start + at_once])


def hear(world: World, *facts: Event, at_once: int = 1) -> None:
    """Let notify hear facts, each once, in this order."""
    deliver(world, *(message(fact) for fact in facts), at_once=at_once)


# --- who asks ---


def user_headers(world: World, user_id: str, language: str = "en") -> dict[str, str]:
    token = issue_user_token(world.runtimes["booking"].user_keys, user_id, now=utcnow())
    return bearer(token) | {"Accept-Language": language}


def notices_of(world: World, user_id: str, language: str = "en", **query: Any) -> dict[str, Any]:
    answer = world.client.get("/api/notify/notices", params=query, headers=user_headers(world, user_id, language))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stats_of(world: World, headers: dict[str, str] | None = None, **query: Any) -> dict[str, Any]:
    answer = world.client.get("/api/notify/staff/stats", params=query, headers=headers or world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# --- what notify holds and says ---


def rows(world: World, model: type[DeclarativeBase], **where: Any) -> list[dict[str, Any]]:
    """Return the rows of a table of notify as plain values."""
    columns = model.__table__.columns
    with world.runtimes["notify"].db.transaction() as session:
        found = session.execute(select(*columns).filter_by(**where).select_from(model)).all()
    return [dict(row._mapping) for row in found]


def record_of(world: World, join: Join) -> dict[str, Any]:
    return rows(world, JoinRecord, join_id=join.id)[0]


def stat_of(world: World, slot: Slot) -> dict[str, Any]:
    return rows(world, SlotStat, slot_id=slot.id)[0]


def counts_of(world: World, slot: Slot) -> dict[str, int]:
    """Return the counts of a slot that are not 0."""
    stat = stat_of(world, slot)
    return {name: stat[name] for name in COUNTS if stat[name]}


def totals_of(world: World) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the totals by day and by hour that are not nothing, by their keys."""
    found = []
    for table, keys in ((DayStat, ("day", "hall_id", "item_id")), (HourStat, ("day", "hall_id", "item_id", "hour"))):
        by_key = {tuple(row.pop(name) for name in keys): row for row in rows(world, table)}
        found.append({key: row for key, row in by_key.items() if any(row.values())})
    return found[0], found[1]


def totals_counted(world: World, joins: Iterable[Join], slots: Iterable[Slot]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Count the totals from how joins have ended, for comparison with `totals_of`; notify is asked for capacities alone."""
    bounds = {"lead_hour": 60, "lead_day": 1440, "lead_three_days": 4320, "lead_week": 10080, "lead_fortnight": 20160}
    days: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    hours: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    joins = list(joins)
    for slot in slots:
        if (stat := stat_of(world, slot))["item_id"] is None:
            continue
        local = slot.starts_at + timedelta(hours=8)
        sums = Counter(slots=1, capacity=stat["capacity"] or 0)
        leads: Counter[str] = Counter()
        for join in joins:
            if join.slot is not slot:
                continue
            sums[join.status.value] += 1
            if join.status != JoinStatus.BOOKED:
                continue
            sums.update(
                checked_in=join.checked_in_at is not None,
                missed=join.missed_at is not None,
                limited=stat["capacity"] is not None,
            )
            minutes = max(0, (slot.starts_at - join.booked_at) // timedelta(minutes=1))
            leads["lead_minutes"] += minutes
            if name := next((name for name, bound in bounds.items() if minutes < bound), None):
                leads[name] += 1
        key = (local.date(), slot.hall_id, slot.item_id)
        days[key].update(sums + leads)
        hours[*key, local.hour].update(sums)
    names = ("slots", *COUNTS, "limited", "capacity")
    return (
        {key: {name: found[name] for name in (*names, "lead_minutes", *bounds)} for key, found in days.items()},
        {key: {name: found[name] for name in names} for key, found in hours.items()},
    )


def kinds_told(world: World, user_id: str) -> list[str]:
    """Return the kinds of a user's notices, sorted."""
    return sorted(row["kind"] for row in rows(world, Notice, user_id=user_id))


def published_stats(world: World, slot: Slot) -> list[dict[str, Any]]:
    """Return what notify published about a slot, in order of version."""
    found = rows(world, OutboxRow, type="slot.stat_changed", subject=slot.id)
    return [row["data"] for row in sorted(found, key=lambda row: row["version"])]
