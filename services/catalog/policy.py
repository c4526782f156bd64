"""The decisions of catalog, pure: what is shown, what state a slot is in, and which forms, rules and periods are fit."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

import re2

from libs.common.inputs import is_one_line, seen
from libs.contracts import answers
from libs.contracts.catalog import (
    LARGEST_UPLOAD_MB,
    LONGEST_ANSWER,
    MEGABYTE,
    NUMBERS_BELOW,
    UPLOADS,
    FieldType,
    FormField,
    HallStatus,
    ItemStatus,
    Rules,
)
from services.catalog import errors
from services.catalog.workdays import Special, SpecialKind

SlotState = Literal["bookable", "not_yet", "full", "ended", "closed"]

VISIBLE_ITEM = (ItemStatus.OPEN, ItemStatus.STOPPED)
MOST_SLOTS = 48
MOST_FIELDS = 50
MOST_CHANGES = 10_000  # slots that one request changes: so many are done well before nobody waits any more
FRIDAY = 5
EVERY_DAY = frozenset(range(1, 8))

# --- what is shown --------------------------------------------------------------------------------------------------


def remaining(capacity: int | None, taken: int) -> int | None:
    """Return how many places are left; None where there is no limit."""
    return None if capacity is None else max(0, capacity - taken)


def takes_bookings(item_status: str, hall_status: str) -> bool:
    """Whether the open slots of an item can be booked as far as item and hall are concerned."""
    return item_status == ItemStatus.OPEN and hall_status == HallStatus.OPEN


def slot_state(
    rules: Rules,
    *,
    is_open: bool,
    starts_at: datetime,
    ends_at: datetime,
    opens_at: datetime | None,
    left: int | None,
    now: datetime,
) -> SlotState:
    """Return what is told about a slot, by the first of booking's rules that it breaks; `is_open`: with item and hall."""
    if not is_open:
        return "closed"
    if now >= rules.window_closes(starts_at, ends_at):
        return "ended"
    if opens_at is not None and now < opens_at:
        return "not_yet"
    return "full" if left == 0 else "bookable"


def next_change(
    rules: Rules, *, starts_at: datetime, ends_at: datetime, opens_at: datetime | None, now: datetime
) -> datetime | None:
    """Return the next instant at which what is shown of a slot changes by the time alone, or None."""
    changes = (opens_at, rules.line_closes(starts_at, ends_at), rules.window_closes(starts_at, ends_at))
    return min((at for at in changes if at is not None and at > now), default=None)


# --- time at the hall -----------------------------------------------------------------------------------------------


# Files beside the zones that say what this machine's zone is, and that none was chosen.
_NO_ZONES = frozenset({"localtime", "Factory", "posixrules"})
_OTHER_CLOCKS = ("posix/", "right/")  # the same zones once more; those of "right" count leap seconds


@lru_cache
def _zones() -> frozenset[str]:
    return frozenset(name for name in available_timezones() - _NO_ZONES if not name.startswith(_OTHER_CLOCKS))


def is_zone(name: str) -> bool:
    """Whether the time zone database has a zone of this name, the same on every machine."""
    return name in _zones()


def today(zone: str, now: datetime) -> date:
    """Return the date at the hall."""
    return now.astimezone(ZoneInfo(zone)).date()


def midnight(zone: str, now: datetime) -> datetime:
    """Return when the present date at the hall ends, in UTC."""
    return datetime.combine(today(zone, now) + timedelta(days=1), time(0), ZoneInfo(zone)).astimezone(UTC)


def instant(day: date, at: time, zone: str) -> datetime | None:
    """Return the instant of a wall-clock time at the hall, in UTC.

    A time that comes twice (clocks set back) means its first coming, so that the order of times and the touching of
    neighbours stay. A time that the clocks jump over does not exist: None.
    """
    wall = datetime.combine(day, at)
    found = wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    return found if found.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall else None


def end_of_period(day: date, at: time, zone: str) -> datetime | None:
    """Return the instant at which a period ends; that may be the very moment at which the clocks jump ahead."""
    found = instant(day, at, zone)
    if found is not None:
        return found
    before = (datetime.combine(day, at) - timedelta(minutes=1)).time()
    last = instant(day, before, zone)
    return None if last is None else last + timedelta(minutes=1)


# --- periods of a day -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Period:
    """A time of day at the hall, and how many people it takes (None: any number)."""

    start: time
    end: time
    capacity: int | None


def check_periods(periods: Sequence[tuple[time, time]], *, retired: Iterable[int] = (), field: str = "slots") -> None:
    """Raise PeriodsUnfit unless each period ends after its start, none overlaps another, and they are at most 48.

    Those at the indexes `retired` (closed slots that had joins) stay for the record only: they do not count. `field` is
    where the caller has the periods from.
    """
    faults: list[dict[str, object]] = []
    for index, (start, end) in enumerate(periods):
        if start >= end:
            faults.append({"field": f"{field}.{index}", "reason": "end_not_after_start"})
    left_out = set(retired)
    in_order = sorted((start, end, index) for index, (start, end) in enumerate(periods) if index not in left_out)
    if len(in_order) > MOST_SLOTS:
        faults.append({"field": field, "reason": "too_many", "most": MOST_SLOTS})
    latest: time | None = None
    for start, end, index in in_order:
        if latest is not None and start < latest:
            faults.append({"field": f"{field}.{index}", "reason": "overlap"})
        latest = end if latest is None else max(latest, end)
    if faults:
        raise errors.PeriodsUnfit(faults=faults)


@dataclass(frozen=True)
class Part:
    """The periods of some weekdays (1 is Monday)."""

    weekdays: frozenset[int]
    periods: tuple[Period, ...]


@dataclass(frozen=True)
class Plan:
    """A week by which days are filled. A weekday that no part names has no periods.

    `observes`: statutory holidays and make-up workdays count; the operator's own special days always do. A workday that
    falls on a weekend is like the weekday `makeup_as`.
    """

    parts: tuple[Part, ...]
    observes: bool
    makeup_as: int

    def narrowed(self, weekdays: Collection[int]) -> "Plan":
        """Return the plan for these weekdays alone."""
        parts = [Part(part.weekdays & frozenset(weekdays), part.periods) for part in self.parts]
        return replace(self, parts=tuple(part for part in parts if part.weekdays))

    def periods_of(self, weekday: int) -> tuple[Period, ...]:
        return next((part.periods for part in self.parts if weekday in part.weekdays), ())

    def periods_on(self, on: date, special: Special | None) -> tuple[Period, ...]:
        """Return the periods of a date: none on a day off."""
        weekday = on.isoweekday()
        if special is None:
            return self.periods_of(weekday)
        if special.kind == SpecialKind.DAY_OFF:
            return ()
        return self.periods_of(weekday if weekday <= FRIDAY else self.makeup_as)


def check_week(parts: Sequence[tuple[Collection[int], Sequence[tuple[time, time]]]]) -> None:
    """Raise PeriodsUnfit unless each weekday stands in one part only and the periods of each part are fit."""
    seen: set[int] = set()
    for index, (weekdays, periods) in enumerate(parts):
        if len(set(weekdays)) < len(weekdays) or seen & set(weekdays):
            raise errors.PeriodsUnfit(faults=[{"field": f"week.{index}.weekdays", "reason": "weekday_repeated"}])
        seen |= set(weekdays)
        check_periods(periods, field=f"week.{index}.periods")


def is_into_the_past(was: tuple[datetime, datetime], becomes: tuple[datetime, datetime], *, now: datetime) -> bool:
    """Whether a slot with these new instants would have ended already, or have begun before anybody could know of it."""
    (began, _), (starts_at, ends_at) = was, becomes
    return ends_at <= now or (starts_at != began and starts_at <= now)


# --- forms and rules ------------------------------------------------------------------------------------------------

_CHOICES = {FieldType.SELECT, FieldType.RADIO, FieldType.CHECKBOX}
_LENGTHS = set(LONGEST_ANSWER)
_BOUNDED = _LENGTHS | UPLOADS | {FieldType.NUMBER, FieldType.CHECKBOX}
_PATTERNS = {FieldType.TEXT, FieldType.TEXTAREA, FieldType.DIGITS}
_UNIQUE = {
    FieldType.TEXT,
    FieldType.NUMBER,
    FieldType.DIGITS,
    FieldType.MOBILE,
    FieldType.ID_CARD,
    FieldType.PLATE,
}


def check_form(form: Sequence[FormField], *, upload_max_bytes: int) -> None:
    """Raise FormUnfit unless every field of the form can be asked and answered, with files of this size at most."""
    faults: list[dict[str, object]] = []
    if len(form) > MOST_FIELDS:
        faults.append({"field": "form", "reason": "too_many", "most": MOST_FIELDS})
    seen: set[str] = set()
    for index, field in enumerate(form):
        reasons = list(_faults_of(field)) or list(_faults_of_default(field))
        if field.key in seen:
            reasons.append(("key", "key_repeated"))
        seen.add(field.key)
        faults += [{"field": f"form.{index}.{part}", "reason": reason} for part, reason in reasons]
        if not reasons and field.type in UPLOADS and (field.max or 0) * MEGABYTE > upload_max_bytes:
            most = upload_max_bytes // MEGABYTE
            faults.append({"field": f"form.{index}.max", "reason": "above_upload_limit", "most": most})
    if faults:
        raise errors.FormUnfit(faults=faults)


def _faults_of(field: FormField) -> Iterable[tuple[str, str]]:
    if not seen(field.label):
        yield "label", "label_empty"
    if not is_one_line(field.label):
        yield "label", "label_unfit"
    if field.unique is not None and field.type not in _UNIQUE:
        yield "unique", "unique_not_for_type"
    yield from _faults_of_options(field)
    yield from _faults_of_bounds(field)
    yield from _faults_of_pattern(field)


def _faults_of_options(field: FormField) -> Iterable[tuple[str, str]]:
    if field.type not in _CHOICES:
        if field.options:
            yield "options", "options_not_for_type"
        return
    if not field.options:
        yield "options", "options_missing"
    if len(set(field.options)) < len(field.options):
        yield "options", "options_repeated"
    if not all(map(seen, field.options)) or not all(map(is_one_line, field.options)):
        yield "options", "option_unfit"


def _faults_of_bounds(field: FormField) -> Iterable[tuple[str, str]]:
    bounds = {name: value for name, value in (("min", field.min), ("max", field.max)) if value is not None}
    for name, value in bounds.items():
        if field.type not in _BOUNDED or (name == "min" and field.type in UPLOADS):
            yield name, "bound_not_for_type"
        elif not math.isfinite(value) or abs(value) >= NUMBERS_BELOW:
            yield name, "bound_out_of_range"
        elif field.type != FieldType.NUMBER and (value < 0 or value != int(value)):
            yield name, "bound_not_a_count"
        elif field.type != FieldType.NUMBER and not _can_be_reached(field.type, name, value):
            yield name, "bound_out_of_range"
        elif field.type == FieldType.CHECKBOX and value > len(field.options):
            yield name, "more_than_options"
    if field.min is not None and field.max is not None and field.min > field.max:
        yield "min", "min_above_max"


def _can_be_reached(type: FieldType, name: str, count: float) -> bool:
    """Whether an answer can be as long, or hold as many choices, as the bound asks; an empty one is no answer."""
    longest = LARGEST_UPLOAD_MB if type in UPLOADS else LONGEST_ANSWER.get(type, count)
    return count <= longest and (name != "max" or count >= 1)


def _faults_of_default(field: FormField) -> Iterable[tuple[str, str]]:
    """Yield why a field that has no other fault can't have its default."""
    if field.default is None:
        return
    if field.unique is not None:
        yield "default", "default_of_unique"  # the second who leaves it as it is would be refused
    try:
        answers.checked(field.model_copy(update={"required": True}), field.default)
    except answers.Fault:
        yield "default", "default_unfit"


def _faults_of_pattern(field: FormField) -> Iterable[tuple[str, str]]:
    if field.pattern is None:
        return
    if field.type not in _PATTERNS:
        yield "pattern", "pattern_not_for_type"
        return
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(field.pattern, options)
    except re2.error:
        yield "pattern", "pattern_unfit"


def check_rules(rules: Rules) -> None:
    """Raise RulesUnfit where a rule can't be meant."""
    faults = []
    if rules.opens_at is not None:
        if rules.opens_days_before is None:
            faults.append({"field": "rules.opens_at", "reason": "needs_opens_days_before"})
        if rules.opens_at.tzinfo is not None or rules.opens_at.second or rules.opens_at.microsecond:
            faults.append({"field": "rules.opens_at", "reason": "not_hour_and_minute"})
    if faults:
        raise errors.RulesUnfit(faults=faults)
