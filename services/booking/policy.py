"""The booking rules, as pure decisions: who may take, give back, or use a place, and when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import HallStatus, ItemStatus, MissedPolicy, Rules, SlotStatus
from services.booking import errors


@dataclass(frozen=True)
class Offer:
    """A slot as it is defined, with what its item and hall say about it. Instants are UTC."""

    slot_status: SlotStatus
    day: date
    starts_at: datetime
    ends_at: datetime
    item_status: ItemStatus
    rules: Rules
    hall_status: HallStatus
    timezone: str

    @cached_property
    def opens(self) -> datetime | None:
        """The instant from which it can be booked, None where it always could."""
        return self.rules.window_opens(self.day, self.timezone)

    @cached_property
    def closes(self) -> datetime:
        """The first instant at which it can no longer be booked."""
        return self.rules.window_closes(self.starts_at, self.ends_at)

    @property
    def cancel_ends(self) -> datetime | None:
        """The first instant at which users can no longer give a place back, None where they never can."""
        return self.rules.cancel_ends(self.starts_at, self.ends_at)

    @property
    def line_closes(self) -> datetime:
        """The first instant at which nobody waits for it any more."""
        return self.rules.line_closes(self.starts_at, self.ends_at)

    def lets_wait(self, *, now: datetime) -> bool:
        """Whether people can wait for it while it is full, as far as the item's rules go."""
        return self.rules.lets_wait(self.starts_at, self.ends_at, now=now)


@dataclass(frozen=True)
class Held:
    """How many booked people the user has already: in the slot, on its day, and in slots not over yet (same item)."""

    in_slot: int = 0
    on_day: int = 0
    ahead: int = 0

    def __add__(self, more: "Held") -> "Held":
        return Held(self.in_slot + more.in_slot, self.on_day + more.on_day, self.ahead + more.ahead)


@dataclass(frozen=True)
class Place:
    """One join as the rules see it."""

    status: JoinStatus
    checked_in_at: datetime | None


@dataclass(frozen=True)
class Standing:
    """What the visits that a user missed at a hall come to: how many count now, and how many more begin a pause.

    During a pause none are left, and `cooling_off_until` is the instant from which they may book there again.
    """

    missed: int
    left: int
    cooling_off_until: datetime | None


def local(instant: datetime, timezone: str) -> str:
    """Return an instant as people at the hall read it."""
    return instant.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M")


def may_see(offer: Offer) -> None:
    """Raise SlotNotFound where the item is not, or no longer, shown to users."""
    if offer.item_status in (ItemStatus.DRAFT, ItemStatus.CLOSED):
        raise errors.SlotNotFound


def may_book(
    offer: Offer,
    held: Held,
    *,
    people: int,
    left: int | None,
    user_is_disabled: bool,
    now: datetime,
    standing: Standing | None = None,
    at_the_desk: bool = False,
) -> None:
    """Raise the first broken rule of booking, in the order that users are promised (all but the form's).

    `left` is how many places are free, None where there is no limit. `standing` is the user's at the hall, None where
    missed visits have no consequence. At the desk the item's booking window is left out of it: a slot takes people until
    its end.
    """
    may_see(offer)
    if user_is_disabled:
        raise errors.UserDisabled
    if standing is not None:
        _not_cooling_off(standing, offer.timezone)
    if offer.item_status != ItemStatus.OPEN or offer.hall_status != HallStatus.OPEN:
        raise errors.ItemNotOpen
    if offer.slot_status != SlotStatus.OPEN:
        raise errors.SlotClosed
    if at_the_desk:
        _not_over(offer, now)
    else:
        _within_window(offer, now)
    _within_limits(offer.rules, held, people)
    if left is not None and people > left:
        raise errors.SlotFull(left=left, people=people)


def standing(missed: Iterable[date], policy: MissedPolicy, timezone: str, *, now: datetime) -> Standing:
    """Weigh missed visits, given by their dates at the hall, as the hall's policy has it.

    Who missed `policy.missed` visits within `policy.within_days` dates books again on the date after `policy.pause_days`
    whole dates from that of the last one: what is missed during a pause can prolong it.
    """
    zone = ZoneInfo(timezone)
    days = sorted(missed)
    today = now.astimezone(zone).date()
    count = sum(today - day < timedelta(days=policy.within_days) for day in days)
    until = _pause_ends(days, policy, zone)
    if until is not None and now < until:
        return Standing(missed=count, left=0, cooling_off_until=until)
    return Standing(missed=count, left=max(1, policy.missed - count), cooling_off_until=None)


def _pause_ends(days: list[date], policy: MissedPolicy, zone: ZoneInfo) -> datetime | None:
    runs = zip(days, days[policy.missed - 1 :], strict=False)
    lasts = [last for first, last in runs if last - first < timedelta(days=policy.within_days)]
    if not lasts:
        return None
    again = lasts[-1] + timedelta(days=policy.pause_days + 1)
    return datetime.combine(again, time(0), zone).astimezone(
        UTC
    )  # its first instant, also where clocks are changed then


def _not_cooling_off(standing: Standing, timezone: str) -> None:
    until = standing.cooling_off_until
    if until is not None:
        day = until.astimezone(ZoneInfo(timezone)).date()
        raise errors.CoolingOff(until=until.isoformat(), date=day.isoformat())


def _within_window(offer: Offer, now: datetime) -> None:
    if offer.opens is not None and now < offer.opens:
        raise errors.TooEarly(opens_at=local(offer.opens, offer.timezone), opens=offer.opens.isoformat())
    if now >= offer.closes:
        raise errors.SlotEnded


def _not_over(offer: Offer, now: datetime) -> None:
    if now >= offer.ends_at:
        raise errors.SlotEnded


def _within_limits(rules: Rules, held: Held, people: int) -> None:
    if not 1 <= people <= rules.party_max:
        raise errors.PartyTooLarge(party_max=rules.party_max, people=people)
    limits = (
        ("max_per_slot", rules.per_slot, held.in_slot),
        ("max_per_day", rules.max_per_day, held.on_day),
        ("max_ahead", rules.max_ahead, held.ahead),
    )
    for name, allowed, has in limits:
        if allowed is not None and has + people > allowed:
            raise errors.AlreadyJoined(limit=name, held=has, allowed=allowed)


def may_give_back(place: Place, offer: Offer, *, now: datetime) -> None:
    """Raise where the user can't cancel (or move away) this join now."""
    if place.status != JoinStatus.BOOKED:
        raise errors.JoinNotBooked(status=place.status)
    _not_checked_in(place, offer)
    until = offer.cancel_ends
    if until is None:
        raise errors.CancelNever
    if now >= until:
        raise errors.CancelTooLate(until=local(until, offer.timezone))


def may_revoke(place: Place, offer: Offer) -> None:
    """Raise where staff can't take this place back."""
    if place.status != JoinStatus.BOOKED:
        raise errors.JoinNotBooked(status=place.status)
    _not_checked_in(place, offer)


def may_restore(place: Place, offer: Offer, held: Held, *, now: datetime) -> None:
    """Raise where a revoked join can't be given its place again; whether there is one is decided by the claim."""
    if place.status != JoinStatus.REVOKED:
        raise errors.NotRevoked
    _not_over(offer, now)
    _within_limits(offer.rules, held, people=1)


def check_in_window(offer: Offer) -> tuple[datetime, datetime]:
    """Return from when until when attendees are checked in: on the slot's day, until the slot's end."""
    midnight = datetime.combine(offer.day, datetime.min.time(), ZoneInfo(offer.timezone))
    opens = max(midnight, offer.starts_at - timedelta(minutes=offer.rules.checkin_opens_minutes))
    return opens, offer.ends_at


def may_check_in(place: Place, offer: Offer, *, now: datetime, override: bool = False) -> None:
    """Raise where this attendee can't be checked in now. `override` leaves the time out of it."""
    if place.status != JoinStatus.BOOKED:
        raise errors.JoinNotBooked(status=place.status)
    _not_checked_in(place, offer)
    opens, closes = check_in_window(offer)
    if not override and not opens <= now < closes:
        raise errors.NotCheckInTime(opens_at=local(opens, offer.timezone), closes_at=local(closes, offer.timezone))


def _not_checked_in(place: Place, offer: Offer) -> None:
    if place.checked_in_at is not None:
        raise errors.CheckedInAlready(checked_in_at=local(place.checked_in_at, offer.timezone))
