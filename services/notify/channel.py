"""What a channel is: a way to reach a user, with a provider behind it that may be slow, down or forgetful."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from sqlalchemy.orm import Session

from services.notify.models import Delivery
from services.notify.outcomes import Nothing, Outcome, Refused

Letter = TypeVar("Letter")


@dataclass(frozen=True)
class Told:
    """The notice that a delivery carries, as plain values."""

    id: str
    user_id: str
    kind: str
    hall_id: str | None
    action_id: str
    join_id: str | None
    party_id: str | None
    people: int
    params: dict[str, Any]
    happened_at: datetime


@dataclass(frozen=True)
class Announced:
    """The event that a delivery tells a webhook of."""

    webhook_id: str
    event_id: str


@dataclass(frozen=True)
class Delivering:
    """One attempt at a delivery. `target` tells several addressees of one channel apart, and is empty where there is one.

    `possibly_twice`: the answer to an attempt before this one was lost, so that this one may be the second to arrive.
    Attempts count from 1.
    """

    id: str
    channel: str
    target: str
    attempt: int
    possibly_twice: bool
    request_id: str
    matter: Told | Announced

    @property
    def told(self) -> Told:
        """The notice that is delivered, by a channel for notices."""
        if not isinstance(self.matter, Told):
            raise TypeError(f"{self.channel} delivers events, not notices")
        return self.matter

    @property
    def announced(self) -> Announced:
        """The event that is delivered, by a channel for events."""
        if not isinstance(self.matter, Announced):
            raise TypeError(f"{self.channel} delivers notices, not events")
        return self.matter


@dataclass(frozen=True)
class Wanted:
    """That a notice is to go out by a channel, at `due_at` (now) and, where it becomes useless, not from `good_until` on."""

    told: Told
    channel: str
    target: str = ""
    due_at: datetime | None = None
    good_until: datetime | None = None


class Channel(Protocol[Letter]):
    """One way to reach people. `prepare` and `settle` work within our transactions, `send` is called outside any.

    `at_once`: how many messages a process has on their way at a time. `longest_s`: what one `send` takes at most; a
    message that is silent for longer counts as lost with its process.
    """

    name: str
    at_once: int
    longest_s: float

    def prepare(self, session: Session, delivering: Delivering) -> Letter | Refused | Nothing:
        """Return all that `send` needs, and take what a message uses up; or say why there will be none."""
        ...

    def send(self, letter: Letter) -> Outcome:
        """Hand the message to the provider; whatever goes wrong there is an Outcome and raises nothing."""
        ...

    def settle(self, session: Session, delivering: Delivering, letter: Letter, outcome: Outcome) -> None:
        """Note what the outcome means for the channel, in the transaction that records it."""
        ...


@runtime_checkable
class ByTurns(Protocol):
    """What a channel has besides whose addressees each have deliveries in numbers, tell repetitions, and must not delay each other.

    It says itself whose turn it is, and waits its own `delays_s` before it tries again. There a lost answer is no
    reason to give up.
    """

    delays_s: tuple[float, ...]

    def next_due(self, session: Session, *, now: datetime) -> Delivery | None:
        """Lock the delivery whose turn it is, and that nobody else is just taking."""
        ...


class Off:
    """In the place of a channel that has no settings: what still waits for it is over."""

    at_once = 1
    longest_s = 0.0

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, session: Session, delivering: Delivering) -> Refused | None:
        return Refused("the channel is switched off")

    def send(self, letter: None) -> Outcome:
        return Refused("the channel is switched off")

    def settle(self, session: Session, delivering: Delivering, letter: None, outcome: Outcome) -> None:
        """There is nothing to note."""
