"""A town that asks for the same few places at once, through real servers, and remembers what it was told."""

from collections.abc import Iterator
from typing import Any

import httpx2
from sqlalchemy import select

from libs.common.ids import new_id
from libs.common.messages import Message
from libs.common.outbox import OutboxRow
from libs.contracts.catalog import SlotChanged
from services.booking import counter_truth
from services.booking.models import Slot
from tests.booking.builders import a_slot
from tests.concurrency.history import Effect, Fault, History, State, check, timed
from tests.world import World


class Town:
    """The slots of one item, for which people ask at once, and the history of what they were told."""

    def __init__(self, world: World, *capacities: int) -> None:
        self.world = world
        self.history = History()
        first, *more = capacities
        place = a_slot(world, capacity=first, cancel="anytime", party_max=2, max_per_slot=50)
        others = [place.another_slot(capacity=capacity) for capacity in more]
        self._facts = {fact.slot_id: fact for fact in (place.slot, *others)}
        self.slots = list(self._facts)
        with world.runtimes["booking"].db.transaction() as session:
            rows = session.scalars(select(Slot).where(Slot.id.in_(self.slots))).all()
            self.initial = {row.id: State(row.version, row.taken, row.capacity, row.asked) for row in rows}

    def join(self, address: str, user: dict[str, str]) -> httpx2.Response:
        """Ask for a place in the first slot at a desk, and note what is said."""
        [slot_id, *_] = self.slots
        body = {"slot_id": slot_id, "attendees": [{"answers": {"name": "张三"}}]}
        headers = user | {"Idempotency-Key": new_id()}
        url = f"{address}/api/booking/joins"
        plain: dict[str, Any] = {"timeout": 60, "trust_env": False, "verify": False}  # else it reads certificates first
        answer, span = timed(lambda: httpx2.post(url, json=body, headers=headers, **plain))
        if answer.status_code == 201:
            self.history.told("join.booked", answer.json()["joins"][0]["id"], span=span)
        elif answer.json()["code"] == "slot_full":
            self.history.refused(slot_id, 1, span)
        return answer

    def change(self, slot_id: str, capacity: int | None) -> None:
        """Have catalog say a new capacity, and note what became of the slot in that transaction."""
        old = self._facts[slot_id]
        fact = old.model_copy(update={"capacity": capacity, "version": old.version + 1})
        self._facts[slot_id] = fact
        (version, taken, in_force), span = timed(lambda: self._deliver(fact))
        effect = Effect(slot_id, span, version, taken, in_force, defined=True, asked=capacity, what="defined")
        self.history.defined(effect)

    def _deliver(self, fact: SlotChanged) -> tuple[int, int, int | None]:
        booking = self.world.runtimes["booking"]
        message = Message(
            id=new_id(),
            type=fact.type,
            source="catalog",
            subject=fact.subject,
            time=fact.starts_at,
            version=fact.version,
            data=fact.model_dump(mode="json"),
        )
        with booking.db.transaction() as session:
            booking.service.consumers[0].handle(session, [message])
            row = session.execute(select(Slot.version, Slot.taken, Slot.capacity).where(Slot.id == fact.slot_id)).one()
        return row.version, row.taken, row.capacity

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with self.world.runtimes["booking"].db.transaction() as session:
            rows = session.scalars(select(OutboxRow).where(OutboxRow.type.startswith("join."))).all()
        for row in rows:
            yield row.type, row.data

    def faults(self) -> list[Fault]:
        return check(self.initial, self.history.effects(self.events()), self.history.refusals)

    def counters_are_silent_or_right(self) -> bool:
        """Whether Redis knows nothing of a slot, or what PostgreSQL does."""
        booking = self.world.runtimes["booking"]
        counts = counter_truth.read(booking.db, self.slots).counts
        records = booking.resources.counters.applier.records(self.slots)
        return all(record.agrees_with(counts[slot_id]) for slot_id, record in records.items())
