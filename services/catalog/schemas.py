"""What clients send to catalog and what it answers."""

import re
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from libs.common import inputs
from libs.common.inputs import OneLine, Spelled, unfit
from libs.common.web import Id, Schema
from libs.contracts.catalog import (
    USUAL_REMINDERS,
    FormField,
    HallStatus,
    HourMinute,
    ItemStatus,
    MissedPolicy,
    QuietHours,
    Rules,
    SlotStatus,
)
from services.catalog.policy import SlotState
from services.catalog.workdays import Source, SpecialKind

# --- the words of inputs --------------------------------------------------------------------------------------------

FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2199, 12, 31)
MOST_DATES = 366


def _in_range(value: date) -> date:
    if not FIRST_DATE <= value <= LAST_DATE:
        raise unfit("date_out_of_range", first=FIRST_DATE.isoformat(), last=LAST_DATE.isoformat())
    return value


def _plain_time(value: Any) -> Any:
    # Pydantic would also take seconds since midnight, fractions and offsets. 24:00 is not a time.
    if not isinstance(value, time) and not (
        isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII)
    ):
        raise unfit("not_a_time")
    return value


Date = Annotated[inputs.Date, AfterValidator(_in_range)]
TimeOfDay = Annotated[
    Spelled[HourMinute],
    BeforeValidator(_plain_time),
    WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$", "examples": ["09:30"]}),
]

Name = Annotated[str, StringConstraints(min_length=1, max_length=60), OneLine]
Title = Annotated[str, StringConstraints(min_length=1, max_length=100), OneLine]
Line = Annotated[str, StringConstraints(max_length=200), OneLine]
Prose = Annotated[str, StringConstraints(max_length=20_000)]
Picture = Annotated[str, StringConstraints(max_length=500, pattern=r"^(https?://\S+|/\S*)?$")]
Order = Annotated[int, Field(ge=0, le=1_000_000, description="0 comes first")]
LAST = 9999  # the order of what has none of its own
Capacity = Annotated[int | None, Field(ge=0, le=1_000_000, description="in people; null: no limit")]
ISO_WEEKDAY = "1 is Monday, 7 is Sunday"
Weekday = Annotated[int, Field(ge=1, le=7)]


def _once_each(ids: list[str]) -> list[str]:
    if len(set(ids)) < len(ids):
        raise unfit("repeated")
    return ids


def _from_afar(minutes: list[int]) -> list[int]:
    if len(set(minutes)) < len(minutes):
        raise unfit("repeated")
    return sorted(minutes, reverse=True)


Reminders = Annotated[
    list[Annotated[int, Field(ge=5, le=30 * 24 * 60)]],
    Field(max_length=3, description="minutes before the start; whole days of them on the hall's clock"),
    AfterValidator(_from_afar),
]


def unset() -> Any:
    """Return the value of a field that a PATCH left out; nobody reads it (`model_dump(exclude_unset=True)`)."""
    return None


class Position(Schema):
    lat: float = Field(ge=-90, le=90, allow_inf_nan=False)
    lng: float = Field(ge=-180, le=180, allow_inf_nan=False)


# --- halls ----------------------------------------------------------------------------------------------------------


class MissedPolicyIn(MissedPolicy):
    model_config = ConfigDict(extra="forbid")


AMissedPolicy = Annotated[
    MissedPolicyIn | None, Field(description="what missed visits lead to at this hall; null: to nothing")
]


class QuietHoursIn(Schema):
    """When nothing is sent to the hall's users outside the inbox; over midnight where it ends earlier than it starts."""

    start: TimeOfDay
    end: TimeOfDay

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.start == self.end:
            raise unfit("not_a_period")
        return self


class HallIn(Schema):
    name: Name
    address: Line = ""
    position: Position | None = None
    opening: Annotated[str, StringConstraints(max_length=500)] = Field(default="", description="hours, in words")
    phone: Annotated[str, StringConstraints(max_length=40)] = ""
    cover: Picture = ""
    intro: Prose = ""
    order: Order = LAST
    timezone: Annotated[str, StringConstraints(max_length=64)] = "Asia/Shanghai"
    quiet_hours: QuietHoursIn | None = None
    status: Spelled[HallStatus] = HallStatus.OPEN
    missed_policy: AMissedPolicy = None


class HallPatch(Schema):
    name: Name = Field(default_factory=unset)
    address: Line = Field(default_factory=unset)
    position: Position | None = Field(default_factory=unset)
    opening: Annotated[str, StringConstraints(max_length=500)] = Field(default_factory=unset)
    phone: Annotated[str, StringConstraints(max_length=40)] = Field(default_factory=unset)
    cover: Picture = Field(default_factory=unset)
    intro: Prose = Field(default_factory=unset)
    order: Order = Field(default_factory=unset)
    timezone: Annotated[str, StringConstraints(max_length=64)] = Field(default_factory=unset)
    quiet_hours: QuietHoursIn | None = Field(default_factory=unset)
    status: Spelled[HallStatus] = Field(default_factory=unset)
    missed_policy: AMissedPolicy = Field(default_factory=unset)
    accept_joins_ahead: bool = Field(default=False, description="close although people are booked ahead")


class PositionOut(BaseModel):
    lat: float
    lng: float


class HallOut(BaseModel):
    id: str
    name: str
    address: str
    position: PositionOut | None
    opening: str
    phone: str
    cover: str
    intro: str
    order: int
    timezone: str
    status: HallStatus
    missed_policy: MissedPolicy | None


class PublicHall(HallOut):
    """A hall as anybody sees it; `distance_m` is null where no place was named or the hall has no position."""

    distance_m: int | None = None


class PublicClosure(BaseModel):
    """Dates, both included, on which nothing can be booked, and why."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    from_: date = Field(alias="from")
    to: date
    reason: str


class PublicHallPage(HallOut):
    """A hall with the dates, from today on, on which it is closed as a whole."""

    closures: list[PublicClosure]


class StaffHall(HallOut):
    quiet_hours: QuietHours | None
    version: int


class HallRef(BaseModel):
    id: str
    name: str
    timezone: str


class DateOfHall(BaseModel):
    """A date on which something can be booked at the hall, and in how many slots."""

    date: date
    slots: int


# --- categories -----------------------------------------------------------------------------------------------------


class CategoryIn(Schema):
    name: Annotated[str, StringConstraints(min_length=1, max_length=30), OneLine]
    order: Order = LAST


class CategoryPatch(Schema):
    name: Annotated[str, StringConstraints(min_length=1, max_length=30), OneLine] = Field(default_factory=unset)
    order: Order = Field(default_factory=unset)


class CategoryRef(BaseModel):
    id: str
    name: str


class CategoryOut(CategoryRef):
    order: int


# --- items ----------------------------------------------------------------------------------------------------------


class ItemIn(Schema):
    hall_id: Id
    category_id: Id | None = None
    title: Title
    cover: Picture = ""
    content: Prose = ""
    status: Spelled[ItemStatus] = ItemStatus.DRAFT
    order: Order = LAST
    recommended: bool = False
    form: Annotated[list[FormField], Field(max_length=100)] = []
    rules: Rules = Rules()
    reminders: Reminders = list(USUAL_REMINDERS)


class ItemPatch(Schema):
    category_id: Id | None = Field(default_factory=unset)
    title: Title = Field(default_factory=unset)
    cover: Picture = Field(default_factory=unset)
    content: Prose = Field(default_factory=unset)
    status: Spelled[ItemStatus] = Field(default_factory=unset)
    order: Order = Field(default_factory=unset)
    recommended: bool = Field(default_factory=unset)
    form: Annotated[list[FormField], Field(max_length=100)] = Field(default_factory=unset)
    rules: Rules = Field(default_factory=unset)
    reminders: Reminders = Field(default_factory=unset)
    accept_joins_ahead: bool = Field(default=False, description="close although people are booked ahead")


class ItemCard(BaseModel):
    """An item in a list."""

    id: str
    title: str
    status: ItemStatus
    hall: HallRef
    category: CategoryRef | None
    cover: str
    recommended: bool
    order: int


State = Annotated[
    SlotState,
    Field(
        description="closed: the slot, its item or its hall is not open; not_yet: booking opens at opens_at; "
        "ended: booking is over; full: no place is left; bookable: none of these"
    ),
]


class PublicSlot(BaseModel):
    """An open slot. Instants carry the hall's offset; `capacity` and `remaining` are null where there is no limit."""

    id: str
    date: date
    start: HourMinute
    end: HourMinute
    starts_at: datetime
    ends_at: datetime
    capacity: int | None
    remaining: int | None
    state: State
    waitlist: bool = Field(
        default=False, exclude_if=lambda value: not value, description="it is full, and people can wait for a place"
    )
    opens_at: datetime | None = Field(description="when booking opens; null: it always was")


class ItemOfDay(ItemCard):
    """An item with what can be booked of it on one day."""

    slot_count: int
    first_start: HourMinute
    slots: list[PublicSlot]


class PublicDay(BaseModel):
    date: date
    note: str
    slots: list[PublicSlot]


class PublicItem(ItemCard):
    """An item with its days that have open slots, at most 100; `next_from` is the date to go on from."""

    content: str
    form: list[FormField]
    form_version: int
    rules: Rules
    days: list[PublicDay]
    next_from: date | None
    closures: list[PublicClosure] = Field(description="dates from today on that are closed, with the reason")


class StaffItem(ItemCard):
    content: str
    form: list[FormField]
    form_version: int
    rules: Rules
    reminders: list[int]
    version: int


# --- days -----------------------------------------------------------------------------------------------------------


class PeriodIn(Schema):
    start: TimeOfDay
    end: TimeOfDay
    capacity: Capacity = None


class SlotIn(PeriodIn):
    id: Id | None = Field(default=None, description="of a slot of this day that stays; else start and end tell")
    status: Spelled[SlotStatus] = SlotStatus.OPEN


class DayIn(Schema):
    note: Line = ""
    slots: Annotated[list[SlotIn], Field(max_length=200)]
    accept_joins_ahead: bool = Field(default=False, description="change times although people are booked in the slots")


class StaffSlot(BaseModel):
    """A slot with its numbers. `capacity` is what was asked for; `capacity_in_force` is never below `taken`."""

    id: str
    date: date
    start: HourMinute
    end: HourMinute
    starts_at: datetime
    ends_at: datetime
    status: SlotStatus
    capacity: int | None
    capacity_in_force: int | None
    taken: int
    remaining: int | None
    state: State
    opens_at: datetime | None
    booked: int
    cancelled: int
    revoked: int
    checked_in: int
    missed: int


class ClosureRef(BaseModel):
    id: str
    reason: str


class StaffDay(BaseModel):
    """A day with all its slots; `etag` is what If-Match wants. `closure` closes them all, whatever their status."""

    date: date
    note: str
    version: int
    etag: str
    closure: ClosureRef | None
    slots: list[StaffSlot]


Holidays = Annotated[
    Literal["observe", "ignore"],
    Field(
        description="observe: no day is made on statutory days off, and make-up workdays are workdays (China); "
        "special days that staff have set count in either case"
    ),
]
MakeupAs = Annotated[Weekday, Field(description="the weekday that a workday on a weekend is like")]


class FillIn(Schema):
    """Periods, or a template that has them, for each of `weekdays` (default: all) between two dates inclusive.

    `holidays` and `makeup_as` are the template's where they are left out; without a template, `observe` and Monday.
    """

    template_id: Id | None = None
    periods: Annotated[list[PeriodIn], Field(min_length=1, max_length=200)] | None = None
    from_: Date = Field(alias="from")
    to: Date
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None = Field(
        default=None, description=ISO_WEEKDAY
    )
    holidays: Holidays | None = None
    makeup_as: MakeupAs | None = None
    note: Line = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.template_id is None) == (self.periods is None):
            raise ValueError("either template_id or periods is needed")
        return self


class CopyIn(Schema):
    dates: Annotated[list[Date], Field(min_length=1, max_length=MOST_DATES)]


class Skipped(BaseModel):
    """A date on which no day was made; `name` is that of the day off, or the reason of the closure."""

    date: date
    reason: Literal["exists", "no_such_local_time", "day_off", "closed"]
    name: str = ""


class NamedDate(BaseModel):
    date: date
    name: str


class Filled(BaseModel):
    """Which days were made, and which were left alone and why.

    `workdays` are those made that are workdays although their weekday is not, or although it was a holiday. Of
    `years_not_announced` only the holidays that the law names are known: bridge days and make-up workdays are not. Look at
    these again when they are announced, or set them as special days.
    """

    created: list[date]
    slots: int
    skipped: list[Skipped]
    workdays: list[NamedDate] = []
    years_not_announced: list[int] = []


MOST_ITEMS = 100
ItemIds = Annotated[list[Id], Field(min_length=1, max_length=MOST_ITEMS), AfterValidator(_once_each)]


class ItemRulesIn(Schema):
    """Of `rules`, those that are sent are changed for all these items; the others stay as each item has them."""

    item_ids: ItemIds
    rules: Rules


class ItemOrderIn(Schema):
    """These items come first in every list, in this order: their `order` becomes 0, 1, 2 ..."""

    item_ids: ItemIds


class ItemVersion(BaseModel):
    id: str
    order: int
    rules: Rules
    version: int


class ItemVersions(BaseModel):
    items: list[ItemVersion]


class CapacitiesIn(Schema):
    """One capacity for all slots of these items between two dates inclusive, or for some of them.

    Only slots on `weekdays`, beginning at `start` or later and ending at `end` or earlier, where these are sent.
    """

    item_ids: ItemIds
    from_: Date = Field(alias="from")
    to: Date
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None = Field(
        default=None, description=ISO_WEEKDAY
    )
    start: TimeOfDay | None = None
    end: TimeOfDay | None = None
    capacity: int | None = Field(ge=0, le=1_000_000, description="in people; null: no limit")


class SlotOverfull(BaseModel):
    """A slot with more people than it now takes. They stay."""

    id: str
    item_id: str
    date: date
    start: HourMinute
    end: HourMinute
    taken: int = Field(validation_alias="booked")


class CapacitiesOut(BaseModel):
    """How many slots, on how many days, have another capacity now; at most 100 of those that are overfull by it."""

    slots: int
    days: int
    overfull: list[SlotOverfull]


# --- templates ------------------------------------------------------------------------------------------------------


Periods = Annotated[list[PeriodIn], Field(min_length=1, max_length=200)]


class WeekPartIn(Schema):
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7, description=ISO_WEEKDAY)]
    periods: Periods


Week = Annotated[list[WeekPartIn], Field(min_length=1, max_length=7)]


class TemplateIn(Schema):
    """A named day (`periods`) or a named week (`week`); a weekday that no part of the week names has no slots."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=20), OneLine]
    hall_id: Id | None = Field(default=None, description="null: for all halls (super admins only)")
    periods: Periods | None = None
    week: Week | None = None
    holidays: Holidays = "observe"
    makeup_as: MakeupAs = 1

    @model_validator(mode="after")
    def _day_or_week(self) -> Self:
        if (self.periods is None) == (self.week is None):
            raise ValueError("either periods or week is needed")
        return self


class TemplatePatch(Schema):
    """What is sent is changed; `periods` take the place of a week, and the other way round."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=20), OneLine] = Field(default_factory=unset)
    periods: Periods = Field(default_factory=unset)
    week: Week = Field(default_factory=unset)
    holidays: Holidays = Field(default_factory=unset)
    makeup_as: MakeupAs = Field(default_factory=unset)

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if {"periods", "week"} <= self.model_fields_set:
            raise ValueError("either periods or week can be sent")
        return self


class PeriodOut(BaseModel):
    start: HourMinute
    end: HourMinute
    capacity: int | None


class WeekPartOut(BaseModel):
    weekdays: list[int]
    periods: list[PeriodOut]


class TemplateOut(BaseModel):
    """A named day (`week` is empty) or a named week (`periods` is)."""

    id: str
    name: str
    hall_id: str | None
    periods: list[PeriodOut]
    week: list[WeekPartOut]
    holidays: Literal["observe", "ignore"]
    makeup_as: int
    version: int


# --- special days ---------------------------------------------------------------------------------------------------


class SpecialDaysIn(Schema):
    """These dates are days off or workdays from now on, whatever the calendar or an earlier word said."""

    hall_id: Id | None = Field(default=None, description="null: for all halls (super admins only)")
    dates: Annotated[list[Date], Field(min_length=1, max_length=MOST_DATES)]
    kind: Spelled[SpecialKind]
    name: Annotated[str, StringConstraints(min_length=1, max_length=40), OneLine]


class SpecialDayOut(BaseModel):
    id: str
    hall_id: str | None
    date: date
    kind: SpecialKind
    name: str


class SpecialDaysOut(BaseModel):
    items: list[SpecialDayOut]


class CalendarDay(BaseModel):
    """A date that is not like its weekday; `source` says by whose word: the hall's beats that for all halls."""

    date: date
    kind: SpecialKind
    name: str
    source: Source


class CalendarOut(BaseModel):
    """The special dates of a hall. Of `years_not_announced` only the holidays that the law names are known."""

    days: list[CalendarDay]
    years_not_announced: list[int]


# --- closures -------------------------------------------------------------------------------------------------------

Why = Annotated[str, StringConstraints(min_length=2, max_length=200)]


class ClosureIn(Schema):
    """Close a whole hall or one item on the dates from `from` to `to`, both included. Users are told the reason."""

    hall_id: Id | None = None
    item_id: Id | None = None
    from_: Date = Field(alias="from")
    to: Date
    reason: Why
    accept_joins_ahead: bool = Field(default=False, description="close although people are booked on these dates")

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.hall_id is None) == (self.item_id is None):
            raise ValueError("either hall_id or item_id is needed")
        return self


class ClosurePatch(Schema):
    from_: Date = Field(alias="from", default_factory=unset)
    to: Date = Field(default_factory=unset)
    reason: Why = Field(default_factory=unset)
    accept_joins_ahead: bool = Field(default=False, description="close although people are booked on these dates")


class ClosureOut(PublicClosure):
    """Of a whole hall where `item_id` is null."""

    id: str
    hall_id: str
    item_id: str | None
    version: int
