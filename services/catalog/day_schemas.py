"""What goes in and out of days over HTTP, with their slots."""

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from libs.common.inputs import Spelled
from libs.common.web import Id, Schema
from libs.contracts.catalog import HourMinute, SlotStatus
from services.catalog.closure_schemas import ClosureRef
from services.catalog.inputs import Capacity, Line, TimeOfDay
from services.catalog.policy import SlotState

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


class PublicDay(BaseModel):
    date: date
    note: str
    slots: list[PublicSlot]


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


class StaffDay(BaseModel):
    """A day with all its slots; `etag` is what If-Match wants. `closure` closes them all, whatever their status."""

    date: date
    note: str
    version: int
    etag: str
    closure: ClosureRef | None
    slots: list[StaffSlot]
