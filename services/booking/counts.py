"""What the atomic counters are asked, what they are told, and in which history of the database it was true."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from libs.contracts.booking import spoken_for


class Ask(NamedTuple):
    """One request for places, at the counter."""

    slot_id: str
    user_id: str
    people: int


@dataclass(frozen=True)
class Full:
    """The slot has too few places for the request, by what PostgreSQL last committed (`version`)."""

    left: int
    version: int


@dataclass(frozen=True)
class Count:
    """A slot's inventory as a commit left it, or as a reading found it.

    `holders` are the ids of all users who got a place, or the offer of one, in the versions after `before` up to `version`. So one commit
    tells of (version - 1, version], a reading of every holder of (0, version], a reading of the row alone of none.

    Make it after the guarded UPDATE and before the commit (or before the reading): what it says was then still true
    at `seen_at` (of time.monotonic) or became so later, and an apply that is late refreshes nothing.
    """

    slot_id: str
    before: int
    version: int
    taken: int
    capacity: int | None
    is_open: bool
    holders: frozenset[str] = frozenset()
    held: int = 0
    waiting: int = 0
    seen_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def spoken_for(self) -> int:
        """How many places nobody can have who comes now: what the counter calls taken."""
        return spoken_for(taken=self.taken, held=self.held, waiting=self.waiting, capacity=self.capacity)

    def then(self, later: "Count") -> "Count":
        """Return both changes, of one transaction, as one."""
        return Count(
            slot_id=self.slot_id,
            before=self.before,
            version=later.version,
            taken=later.taken,
            capacity=later.capacity,
            is_open=later.is_open,
            holders=self.holders | later.holders,
            held=later.held,
            waiting=later.waiting,
            seen_at=later.seen_at,
        )


@dataclass(frozen=True, order=True)
class Epoch:
    """A history of versions. Within one `system`, a higher timeline (a failover, a restore) or a later start wins.

    The start counts because a server brought back from a copy of its disk repeats versions on the same timeline.
    """

    system: str
    timeline: int
    started_us: int


@dataclass(frozen=True)
class Record:
    """What the counter of a slot holds. `known` are the stretches of versions of which it knows every holder."""

    epoch: Epoch
    known: str
    version: int
    taken: int
    capacity: int | None
    is_open: bool
    holders: int

    @property
    def is_complete(self) -> bool:
        """Tell whether it knows every holder."""
        return self.known == f"0-{self.version}"

    def agrees_with(self, count: Count) -> bool:
        """Tell whether the numbers are those of the count, at the same version."""
        return (self.version, self.taken, self.capacity, self.is_open) == (
            count.version,
            count.spoken_for,
            count.capacity,
            count.is_open,
        )
