"""What booking publishes: what became of joins."""

from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from libs.contracts.catalog import HourMinute
from libs.contracts.envelope import Event


class JoinStatus(StrEnum):
    BOOKED = "booked"
    CANCELLED = "cancelled"
    REVOKED = "revoked"


def spoken_for(*, taken: int, held: int, waiting: int, capacity: int | None) -> int:
    """Return how many places nobody can have who comes now: while people wait, whatever is free is theirs."""
    return taken + held if capacity is None or not waiting else max(capacity, taken + held)


class SlotTaken(BaseModel):
    """The inventory of a slot as it was at commit. `version` grows with every change of any of it.

    `held` places are offered to people who waited; `waiting` people wait for one. Both are left out where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    slot_id: str
    taken: int
    capacity: int | None
    version: int
    held: int = Field(default=0, exclude_if=lambda value: value == 0)
    waiting: int = Field(default=0, exclude_if=lambda value: value == 0)

    @property
    def spoken_for(self) -> int:
        return spoken_for(taken=self.taken, held=self.held, waiting=self.waiting, capacity=self.capacity)


class PlaceEvent(Event):
    """What became of places in a slot that a user has or waits for. Instants are UTC; `date`, `start`, `end` are in `timezone`."""

    user_id: str
    people: int
    hall_id: str
    hall_name: str
    item_id: str
    item_title: str
    slot_id: str
    date: date
    start: HourMinute
    end: HourMinute
    starts_at: datetime
    ends_at: datetime
    timezone: str
    reason: str = ""


class JoinEvent(PlaceEvent):
    """A join as it is after the change; what changed is said by the type.

    One action on several joins (a party booked, a slot revoked) makes one event each, which share `action_id`;
    `people` is how many joins of this user the action touched. `definition_version` is the version of catalog's `slot.changed`
    that date and times are from (0: an earlier release did not say).
    """

    join_id: str
    party_id: str
    action_id: str
    definition_version: int = 0
    status: JoinStatus
    checked_in_at: datetime | None = None
    missed_at: datetime | None = None
    booked_at: datetime
    slot: SlotTaken

    @property
    def subject(self) -> str:
        return self.join_id


class JoinBooked(JoinEvent):
    """A place was taken, or (`restored`) given back by staff after a revocation."""

    type: ClassVar[str] = "join.booked"
    restored: bool = False


class JoinCancelled(JoinEvent):
    """The user gave the place back."""

    type: ClassVar[str] = "join.cancelled"


class JoinRevoked(JoinEvent):
    """Staff took the place back, with a reason for the user."""

    type: ClassVar[str] = "join.revoked"


class JoinMoved(JoinEvent):
    """The join has another slot now; `left` is the inventory of the slot it left, `left_starts_at` when that was to start."""

    type: ClassVar[str] = "join.moved"
    left: SlotTaken
    left_starts_at: datetime


class JoinCheckedIn(JoinEvent):
    """The attendee arrived; `checked_in_at` says when."""

    type: ClassVar[str] = "join.checked_in"


class JoinCheckInUndone(JoinEvent):
    """Staff took a check-in back; `checked_in_at` is null again."""

    type: ClassVar[str] = "join.check_in_undone"


class JoinMissed(JoinEvent):
    """The slot ended and the attendee had not come; `missed_at` says when that was noted.

    `cooling_off_until`: the instant from which the user may book in the hall again, where what they missed has led to that.
    """

    type: ClassVar[str] = "join.missed"
    cooling_off_until: datetime | None = None


class JoinExpected(JoinEvent):
    """The slot's end moved ahead again after the attendee was noted as missed; `missed_at` is null again."""

    type: ClassVar[str] = "join.expected"


class WaitOutcome(StrEnum):
    """How a wait ended."""

    BOOKED = "booked"
    LEFT = "left"  # by the user
    EXPIRED = "expired"  # offered, and not accepted in time
    REFUSED = "refused"  # a place was there, and a rule forbade it (`code`)
    CLOSED = "closed"  # the slot can't be waited for any more
    REMOVED = "removed"  # by staff, with a reason
    DISABLED = "disabled"  # the user was
    ERASED = "erased"  # the user was


class WaitEvent(PlaceEvent):
    """What became of a party of so many `people` that waits for a full slot."""

    wait_id: str

    @property
    def subject(self) -> str:
        return self.wait_id


class WaitOffered(WaitEvent):
    """Places are held for the party until then; the user has to accept them."""

    type: ClassVar[str] = "wait.offered"

    offered_until: datetime


class WaitEnded(WaitEvent):
    """The party waits no more. `code` is the rule that refused it, `party_id` what it booked."""

    type: ClassVar[str] = "wait.ended"

    outcome: WaitOutcome
    code: str = ""
    party_id: str | None = None


class LineChanged(Event):
    """Who waits for a slot, or what is held for them, has changed, or its capacity while people wait."""

    type: ClassVar[str] = "line.changed"

    slot_id: str
    item_id: str
    hall_id: str
    date: date
    start: HourMinute
    slot: SlotTaken

    @property
    def subject(self) -> str:
        return self.slot_id


class UserErased(Event):
    """A user is gone: whatever tells who they were, of them, their joins or waits, is to be gone everywhere. Counts stay."""

    type: ClassVar[str] = "user.erased"

    user_id: str
    join_ids: list[str]
    wait_ids: list[str] = []

    @property
    def subject(self) -> str:
        return self.user_id


EVENTS: tuple[type[Event], ...] = (
    JoinBooked,
    JoinCancelled,
    JoinRevoked,
    JoinMoved,
    JoinCheckedIn,
    JoinCheckInUndone,
    JoinMissed,
    JoinExpected,
    WaitOffered,
    WaitEnded,
    LineChanged,
    UserErased,
)
