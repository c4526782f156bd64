"""What catalog publishes: halls, items with form and rules, and slots, each as it is now."""

import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from libs.common.inputs import Spelled, unfit
from libs.contracts.envelope import Event

HourMinute = Annotated[time, PlainSerializer(lambda value: value.strftime("%H:%M"), return_type=str)]


def _not_counted(value: Any) -> Any:
    if isinstance(value, (int, float)):
        raise unfit("not_a_time")
    return value


# As clients write it: Pydantic would also take seconds since midnight.
Clock = Annotated[Spelled[HourMinute], BeforeValidator(_not_counted)]


class HallStatus(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class ItemStatus(StrEnum):
    DRAFT = "draft"
    OPEN = "open"
    STOPPED = "stopped"
    CLOSED = "closed"


SERVED = (ItemStatus.OPEN, ItemStatus.STOPPED)  # who has booked can come: a stopped item takes no more bookings


class SlotStatus(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class FieldType(StrEnum):
    TEXT = "text"
    TEXTAREA = "textarea"
    NUMBER = "number"
    DIGITS = "digits"
    MOBILE = "mobile"
    ID_CARD = "id_card"
    PLATE = "plate"
    DATE = "date"
    MONTH = "month"
    TIME = "time"
    REGION = "region"
    SELECT = "select"
    RADIO = "radio"
    CHECKBOX = "checkbox"
    SWITCH = "switch"
    IMAGE = "image"
    FILE = "file"


ALWAYS_SENSITIVE = frozenset({FieldType.MOBILE, FieldType.ID_CARD})

UPLOADS = frozenset({FieldType.IMAGE, FieldType.FILE})

# What an answer can be at most, whatever the form says: catalog takes no form that asks for more, booking no answer.
LONGEST_ANSWER = {FieldType.TEXT: 200, FieldType.TEXTAREA: 10_000, FieldType.DIGITS: 50}
MEGABYTE = 1024 * 1024
LARGEST_UPLOAD_MB = 50  # of an image or a file, where an installation takes as large ones as it can
USUAL_UPLOAD_BYTES = 5 * MEGABYTE
NUMBERS_BELOW = 10**15  # and above its negative: float and int agree on all whole numbers of this size


# The setting of an installation: booking takes no larger file, catalog no form that promises one.
UploadMaxBytes = Annotated[int, Field(ge=1024, le=LARGEST_UPLOAD_MB * MEGABYTE)]


def normal(text: str) -> str:
    """Return text as options and answers are kept and compared: composed (NFC), without space at its ends."""
    return unicodedata.normalize("NFC", text).strip()


Option = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(normal)]


class FormField(BaseModel):
    """One question of an item's form.

    `min` and `max` bound the length of text, the value of a number, or how many options a checkbox takes; `max` is how
    many megabytes an image or a file has at most.
    `unique` names the scope in which an answer may be booked once. `pattern` is an RE2 regular expression that the
    whole of a text answer must match. A text has 200 characters at most, a textarea 10,000, digits 50, whatever `max`
    says. `default` stands in the form before it is filled in, and is no answer before it is sent as one. Mobile numbers and ID cards are sensitive whatever `sensitive` says; made sensitive later, a field is masked for
    staff in all its answers, and encrypted in those that come from then on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    type: Spelled[FieldType]
    label: str = Field(min_length=1, max_length=60)
    required: bool = True
    help: str = Field(default="", max_length=200)
    min: float | None = None
    max: float | None = None
    options: list[Option] = Field(default=[], max_length=100)
    pattern: str | None = Field(default=None, max_length=200)
    unique: Literal["slot", "day", "item"] | None = None
    sensitive: bool = False
    # Left out where there is none: readers of an earlier release know no such field.
    default: str | bool | int | float | list[str] | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def is_sensitive(self) -> bool:
        """Whether its answers are encrypted at rest and masked for staff."""
        return self.sensitive or self.type in ALWAYS_SENSITIVE


@dataclass(frozen=True)
class Window:
    """Which slots of an item can be booked as far as the time tells: those until `last_day` whose `edge` is past `after`."""

    edge: Literal["start", "end"]
    after: datetime
    last_day: date | None


class Rules(BaseModel):
    """When, how many and how late: the booking rules of an item. Times of day are in the hall's zone."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    opens_days_before: int | None = Field(
        default=None, ge=0, le=366, description="booking opens this many days before the day; null: at once"
    )
    opens_at: Clock | None = Field(default=None, description="and at this time of that day (default 00:00)")
    closes_minutes_before: int = Field(default=0, ge=0, le=60 * 24 * 60)
    closes_before: Literal["start", "end"] = Field(default="end", description="what closes_minutes_before counts from")
    party_max: int = Field(default=1, ge=1, le=50)
    max_per_slot: int | None = Field(default=None, ge=1, le=1000, description="per user; default: party_max")
    max_per_day: int | None = Field(default=None, ge=1, le=1000, description="per user and day of this item")
    max_ahead: int | None = Field(
        default=None, ge=1, le=1000, description="per user, in slots of this item not over yet"
    )
    cancel: Literal["never", "anytime", "before_start"] = "before_start"
    cancel_minutes_before: int = Field(default=0, ge=0, le=60 * 24 * 60, description="with before_start")
    checkin_opens_minutes: int = Field(default=60, ge=0, le=60 * 24, description="before the start")
    # Left out where they are as always: readers of an earlier release know no such rules.
    waitlist: Literal["off", "offer", "take"] = Field(
        default="off",
        exclude_if=lambda value: value == "off",
        description="whether people can wait for a full slot: a free place is offered to them, or taken for them at once",
    )
    offer_minutes: int = Field(
        default=30, ge=1, le=60 * 24, exclude_if=lambda value: value == 30, description="to accept an offered place"
    )
    max_waiting: int = Field(
        default=50, ge=1, le=1000, exclude_if=lambda value: value == 50, description="parties that wait for one slot"
    )

    def window_opens(self, day: date, zone: str) -> datetime | None:
        """Return the instant at which booking for a slot of that day opens, or None where it always was."""
        if self.opens_days_before is None:
            return None
        opening_day = day - timedelta(days=self.opens_days_before)
        return datetime.combine(opening_day, self.opens_at or time(0), ZoneInfo(zone))

    def window_closes(self, starts_at: datetime, ends_at: datetime) -> datetime:
        """Return the first instant at which a slot can no longer be booked."""
        edge = starts_at if self.closes_before == "start" else ends_at
        return edge - timedelta(minutes=self.closes_minutes_before)

    def cancel_ends(self, starts_at: datetime, ends_at: datetime) -> datetime | None:
        """Return the first instant at which users can no longer cancel a place in a slot, or None where they never can."""
        if self.cancel == "never":
            return None
        return ends_at if self.cancel == "anytime" else starts_at - timedelta(minutes=self.cancel_minutes_before)

    def line_closes(self, starts_at: datetime, ends_at: datetime) -> datetime:
        """Return the first instant at which nobody waits for a slot any more.

        For whom places are taken without their doing, that is when the slot starts at the latest, or when they could not
        give the place back any more: it would count as missed, by people who may not have known of it.
        """
        closes = self.window_closes(starts_at, ends_at)
        if self.waitlist != "take":
            return closes
        return min(closes, starts_at, self.cancel_ends(starts_at, ends_at) or starts_at)

    def lets_wait(self, starts_at: datetime, ends_at: datetime, *, now: datetime) -> bool:
        """Whether people can wait for a slot while it is full, as far as these rules go."""
        return self.waitlist != "off" and now < self.line_closes(starts_at, ends_at)

    def window(self, zone: str, *, now: datetime) -> Window:
        """Return what a slot must be like to be within its booking window now."""
        return Window(
            edge=self.closes_before,
            after=now + timedelta(minutes=self.closes_minutes_before),
            last_day=self._last_day_opened(zone, now),
        )

    def _last_day_opened(self, zone: str, now: datetime) -> date | None:
        if self.opens_days_before is None:
            return None
        last = now.astimezone(ZoneInfo(zone)).date() + timedelta(days=self.opens_days_before)
        opens_at = self.window_opens(last, zone)
        return last if opens_at is not None and opens_at <= now else last - timedelta(days=1)

    @property
    def per_slot(self) -> int:
        """How many booked people one user may have in one slot."""
        return self.party_max if self.max_per_slot is None else self.max_per_slot


class MissedPolicy(BaseModel):
    """Who has missed so many visits to a hall within so many days can't book there for so many days. Days are the hall's."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    missed: int = Field(ge=1, le=100, description="so many visits missed")
    within_days: int = Field(ge=1, le=366, description="within so many days, both ends counted")
    pause_days: int = Field(ge=1, le=366, description="no booking for so many days after that of the last one missed")


class QuietHours(BaseModel):
    """From when until when, on the hall's clock, its people are not to be disturbed; over midnight where it ends earlier."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    start: HourMinute
    end: HourMinute


# How many minutes before its start people are reminded of a slot, where the item does not say.
USUAL_REMINDERS = (24 * 60, 60)


class HallChanged(Event):
    """A hall was made or edited. `missed_policy`: null where missed visits have no consequence.

    Outside the inbox nothing is sent to its users in its `quiet_hours` (null: none).
    """

    type: ClassVar[str] = "hall.changed"

    hall_id: str
    name: str
    address: str
    timezone: str
    status: HallStatus
    missed_policy: MissedPolicy | None = None
    quiet_hours: QuietHours | None = None

    @property
    def subject(self) -> str:
        return self.hall_id


class ItemChanged(Event):
    """An item, its form or its rules were made or edited. `form_version` grows when the form changes.

    `reminders`: how many minutes before the start its users are reminded; whole days of them on the hall's clock.
    """

    type: ClassVar[str] = "item.changed"

    item_id: str
    hall_id: str
    title: str
    cover: str
    status: ItemStatus
    form: list[FormField]
    form_version: int
    rules: Rules
    reminders: list[int] = list(USUAL_REMINDERS)

    @property
    def subject(self) -> str:
        return self.item_id


class SlotChanged(Event):
    """A slot was defined, edited or deleted. `capacity` counts people as the operator asked; null: no limit.

    `status` is closed, too, while its hall or its item is closed on the date.
    """

    type: ClassVar[str] = "slot.changed"

    slot_id: str
    item_id: str
    hall_id: str
    date: date
    start: HourMinute
    end: HourMinute
    starts_at: datetime
    ends_at: datetime
    status: SlotStatus
    capacity: int | None
    deleted: bool = False

    @property
    def subject(self) -> str:
        return self.slot_id


EVENTS: tuple[type[Event], ...] = (HallChanged, ItemChanged, SlotChanged)
