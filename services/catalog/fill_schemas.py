"""What goes in and out of making many days over HTTP."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from libs.common.web import Id, Schema
from services.catalog.day_schemas import PeriodIn
from services.catalog.inputs import MOST_DATES, Date, Line, Weekdays
from services.catalog.template_schemas import Holidays, MakeupAs


class FillIn(Schema):
    """Periods, or a template that has them, for each of `weekdays` (default: all) between two dates inclusive.

    A make-up workday counts as the weekday `makeup_as`, and as no other: "Mondays alone" makes those that are like one.

    `holidays` and `makeup_as` are the template's where they are left out; without a template, `observe` and Monday.
    """

    template_id: Id | None = None
    periods: Annotated[list[PeriodIn], Field(min_length=1, max_length=200)] | None = None
    from_: Date = Field(alias="from")
    to: Date
    weekdays: Weekdays = None
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


class ClearIn(Schema):
    """The days between two dates inclusive, on `weekdays` (default: all)."""

    from_: Date = Field(alias="from")
    to: Date
    weekdays: Weekdays = None


class Cleared(BaseModel):
    """Which days were deleted, with how many slots, and which were kept because somebody has booked there."""

    deleted: list[date]
    slots: int
    kept: list[date]


Why = Literal["exists", "no_such_local_time", "day_off", "makeup_without_periods", "closed"]


class Skipped(BaseModel):
    """A date on which no day was made; `name` is that of the day off or make-up workday, or the reason of the closure.

    A make-up workday is `makeup_without_periods` where the weekday that it is like has no periods.
    """

    date: date
    reason: Why
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
