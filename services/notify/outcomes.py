"""How an attempt to deliver ended, and what becomes of the delivery: pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# Waits before a delivery is tried again; then it is given up, two and a half hours after it was due.
DELAYS_S = (2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
LONGEST_DELAY_S = 4 * 3600.0  # a provider may ask for more patience than ours, but not for any


class DeliveryState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True)
class Sent:
    """The provider has taken the message, and knows it by this id, where it gives any."""

    provider_id: str = ""


@dataclass(frozen=True)
class Refused:
    """It was surely not sent, and will not be however often it is tried. `answer` is shown to staff: no addresses, no secrets."""

    answer: str


@dataclass(frozen=True)
class Overtaken(Refused):
    """What it tells has become untrue or unwanted while it waited; no provider was asked. No failure of anybody's."""


@dataclass(frozen=True)
class Later:
    """It was surely not sent, and may be tried again; `after_s` is what the provider asks for."""

    answer: str
    after_s: float | None = None


@dataclass(frozen=True)
class Unknown:
    """The message was handed over, or may have been, and the provider's answer is lost."""

    answer: str


@dataclass(frozen=True)
class Nothing:
    """There is nothing to send by this channel after all, and nothing about which anybody need be told."""


Outcome = Sent | Refused | Later | Unknown


@dataclass(frozen=True)
class Step:
    """What a delivery is now; `due_at` is when it is taken up again, if it is."""

    state: DeliveryState
    possibly_twice: bool
    due_at: datetime | None = None


def after(
    outcome: Outcome,
    *,
    attempt: int,
    possibly_twice: bool,
    good_until: datetime | None,
    now: datetime,
    delays_s: tuple[float, ...] = DELAYS_S,
) -> Step:
    """Decide what becomes of a delivery after its attempt of this number, which counts from 1.

    A message whose answer is lost goes out once more, and from then on counts as possibly sent twice. When the answer is
    lost again it is left at that: a provider that takes messages and never says so must not make us repeat them all day.
    """
    if isinstance(outcome, Sent):
        return Step(DeliveryState.SENT, possibly_twice)
    was_repeated, possibly_twice = possibly_twice, possibly_twice or isinstance(outcome, Unknown)
    given_up = (
        isinstance(outcome, Refused) or attempt > len(delays_s) or (isinstance(outcome, Unknown) and was_repeated)
    )
    if given_up:
        return Step(DeliveryState.FAILED, possibly_twice)
    asked = (isinstance(outcome, Later) and outcome.after_s) or 0.0
    due_at = now + timedelta(seconds=max(delays_s[attempt - 1], min(asked, LONGEST_DELAY_S)))
    if is_over(good_until, due_at):
        return Step(DeliveryState.FAILED, possibly_twice)
    return Step(DeliveryState.QUEUED, possibly_twice, due_at)


def is_over(good_until: datetime | None, now: datetime) -> bool:
    """Whether a message has become useless by then."""
    return good_until is not None and now >= good_until
