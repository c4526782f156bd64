"""A slot together with its item and hall: what is on offer, loaded in one query."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from libs.common.ids import parse_id
from libs.contracts.booking import spoken_for
from libs.contracts.catalog import FormField, HallStatus, ItemStatus, Rules, SlotStatus
from services.booking.errors import SlotNotFound
from services.booking.models import Hall, Item, Slot
from services.booking.policy import Offer
from services.booking.rows import HallRow, ItemRow, SlotRow


@dataclass(frozen=True)
class Offered:
    """The three rows, and how the rules see them. `kept` is what others have made of the rows and may use again."""

    slot: Slot | SlotRow
    item: Item | ItemRow
    hall: Hall | HallRow
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def basis(self) -> tuple[Any, ...]:
        """What `kept` was made of: it holds for every Offered with an equal one."""
        return self.slot.id, self.slot.definition_version, self.item.version, self.hall.version

    @property
    def offer(self) -> Offer:
        found: Offer | None = self.kept.get("offer")
        if found is None:
            found = self.kept["offer"] = Offer(
                slot_status=SlotStatus(self.slot.status),
                day=self.slot.date,
                starts_at=self.slot.starts_at,
                ends_at=self.slot.ends_at,
                item_status=ItemStatus(self.item.status),
                rules=self.rules,
                hall_status=HallStatus(self.hall.status),
                timezone=self.hall.timezone,
            )
        return found

    @property
    def free(self) -> int | None:
        """How many places are neither taken nor held, whoever they are for; None where there is no limit."""
        slot = self.slot
        return None if slot.capacity is None else slot.capacity - slot.taken - slot.held

    @property
    def left(self) -> int | None:
        """How many places are free for who comes now: none while people wait; None where there is no limit."""
        slot = self.slot
        if slot.capacity is None:
            return None
        taken = spoken_for(taken=slot.taken, held=slot.held, waiting=slot.waiting, capacity=slot.capacity)
        return max(0, slot.capacity - taken)

    @property
    def rules(self) -> Rules:
        return self.item.rules if isinstance(self.item, ItemRow) else Rules.model_validate(self.item.rules)

    @property
    def form(self) -> list[FormField]:
        if isinstance(self.item, ItemRow):
            return self.item.form
        return [FormField.model_validate(field) for field in self.item.form]


def rows() -> Select[Slot, Item, Hall]:
    """Select slots with item and hall."""
    return select(Slot, Item, Hall).join(Item, Item.id == Slot.item_id).join(Hall, Hall.id == Slot.hall_id)


def find(session: Session, slot_id: str) -> Offered:
    """Load what is on offer under this id, or raise SlotNotFound; text that is no id names nothing."""
    known = parse_id(slot_id)
    row = session.execute(rows().where(Slot.id == known, Slot.deleted.is_(False))).first() if known else None
    if row is None:
        raise SlotNotFound
    return Offered(*row)


def of_joins(session: Session, slot_ids: set[str]) -> dict[str, Offered]:
    """Load what joins are for, by slot id (also slots that are closed or gone from catalog)."""
    found = session.execute(rows().where(Slot.id.in_(slot_ids)).execution_options(populate_existing=True))
    return {row[0].id: Offered(*row) for row in found}
