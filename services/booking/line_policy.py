"""The line before a full slot, as pure decisions: who of it is served next, and whose wait is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.contracts.booking import WaitOutcome
from libs.contracts.catalog import HallStatus, ItemStatus, SlotStatus
from services.booking import errors
from services.booking.policy import Offer, local

MOST_PASSED = 3  # smaller parties that are served before a larger one that came first
LAST_CALL = timedelta(hours=1)  # before the line closes: what is free then is not kept for anybody any more


@dataclass(frozen=True)
class Waiting:
    """A party in the line; `passed` counts those behind it that were served before it."""

    id: str
    people: int
    passed: int


def next_served(line: Sequence[Waiting], *, free: int | None, asked: int | None, is_last_call: bool) -> Waiting | None:
    """Return who of the line, first come first, gets places now; None where what is free is for nobody yet.

    A party that is larger than what is `free` (None: no limit) may be passed by smaller ones behind it, MOST_PASSED times;
    then what is free is kept until it suffices, or until the last call. A party that is larger than the slot, as it was
    `asked` for, is not waited for.
    """
    for party in line:
        if free is None or party.people <= free:
            return party
        can_ever_fit = asked is None or party.people <= asked
        if can_ever_fit and party.passed >= MOST_PASSED and not is_last_call:
            return None
    return None


def is_in_the_way(line: Sequence[Waiting], *, free: int | None, asked: int | None, is_last_call: bool) -> bool:
    """Whether places are free that nobody of the line can use: they are for who comes now.

    At the last call because they are too few for each party; before, because each is larger than the slot, as it was `asked`
    for.
    """
    waits_for_more = not is_last_call and any(asked is None or party.people <= asked for party in line)
    return (
        bool(line)
        and bool(free)
        and not waits_for_more
        and next_served(line, free=free, asked=asked, is_last_call=True) is None
    )


def is_last_call(offer: Offer, *, now: datetime) -> bool:
    """Whether the line closes so soon that a place which is kept would stay empty."""
    return now >= offer.line_closes - LAST_CALL


def held_until(offer: Offer, *, now: datetime) -> datetime:
    """Return until when places that are offered now are held."""
    return min(now + timedelta(minutes=offer.rules.offer_minutes), offer.closes)


def offered_already(offer: Offer, wait_id: str, offered_until: datetime) -> errors.OfferedAlready:
    """Return what who asks for places in a full slot is told while some are held for them."""
    return errors.OfferedAlready(wait_id=wait_id, until=local(offered_until, offer.timezone))


def over(
    offer: Offer, *, is_deleted: bool, is_disabled: bool, offered_until: datetime | None, now: datetime
) -> WaitOutcome | None:
    """Return how a wait has ended by now without anybody's doing, None while it goes on."""
    if is_disabled:
        return WaitOutcome.DISABLED
    is_open = (
        not is_deleted
        and offer.item_status == ItemStatus.OPEN
        and offer.hall_status == HallStatus.OPEN
        and offer.slot_status == SlotStatus.OPEN
    )
    if not is_open or now >= offer.closes:
        return WaitOutcome.CLOSED
    if offered_until is not None:
        return WaitOutcome.EXPIRED if now >= offered_until else None
    return None if offer.lets_wait(now=now) else WaitOutcome.CLOSED
