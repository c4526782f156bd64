"""What notify publishes: how many joins of a slot are in which state, counted from its own record."""

from typing import ClassVar

from libs.contracts.envelope import Event


class SlotStatChanged(Event):
    """The stat of one slot. `taken` and `slot_version` are the newest inventory that notify has heard of.

    `capacity` is the one in force: what catalog's newest definition asks, but never below `taken`.
    """

    type: ClassVar[str] = "slot.stat_changed"

    slot_id: str
    item_id: str
    hall_id: str
    booked: int
    cancelled: int
    revoked: int
    checked_in: int
    missed: int
    taken: int
    capacity: int | None
    slot_version: int

    @property
    def subject(self) -> str:
        return self.slot_id


EVENTS: tuple[type[Event], ...] = (SlotStatChanged,)
