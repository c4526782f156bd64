"""What a process last saw of slots, their items and halls: good for making things ready, never for deciding."""

import time
from collections.abc import Mapping

from services.booking.asks import Booking
from services.booking.offers import Offered

MOST = 10_000
ROOMY = 4096  # places: more than may wait in a process at once
FRESH_S = 1.0  # how long what was seen of item and hall may stand beside what a counter says of the slot


class Seen:
    def __init__(self) -> None:
        self._offered: dict[str, Offered] = {}
        self._at: dict[str, float] = {}

    def get(self, slot_id: str) -> Offered | None:
        return self._offered.get(slot_id)

    def note(self, offered: Mapping[str, Offered]) -> None:
        """Remember these as they are now."""
        if len(self._offered) > MOST:
            self._offered, self._at = {}, {}
        self._at |= dict.fromkeys(offered, time.monotonic())
        self._offered |= offered

    def is_fresh(self, slot_id: str) -> bool:
        """Tell whether the slot was seen a moment ago."""
        return time.monotonic() - self._at.get(slot_id, -FRESH_S) <= FRESH_S

    def is_roomy(self, slot_id: str) -> bool:
        """Tell whether the slot had places for many times a crowd, or no limit, when it was last seen."""
        offered = self._offered.get(slot_id)
        return offered is not None and (offered.left is None or offered.left >= ROOMY)

    def looks_full(self, asked: Booking) -> bool:
        """Tell whether there was no place for this party when the slot was last seen."""
        offered = self._offered.get(asked.slot_id)
        return offered is not None and offered.left is not None and len(asked.attendees) > offered.left
