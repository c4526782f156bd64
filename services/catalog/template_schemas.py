"""What goes in and out of templates over HTTP."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from libs.common.inputs import OneLine, Visible
from libs.common.web import Id, Schema
from libs.contracts.catalog import HourMinute
from services.catalog.day_schemas import PeriodIn
from services.catalog.inputs import ISO_WEEKDAY, Weekday, unset

Periods = Annotated[list[PeriodIn], Field(min_length=1, max_length=200)]


class WeekPartIn(Schema):
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7, description=ISO_WEEKDAY)]
    periods: Periods


Week = Annotated[list[WeekPartIn], Field(min_length=1, max_length=7)]

Holidays = Annotated[
    Literal["observe", "ignore"],
    Field(
        description="observe: no day is made on statutory days off, and make-up workdays are workdays (China); "
        "special days that staff have set count in either case"
    ),
]
MakeupAs = Annotated[Weekday, Field(description="the weekday that a workday on a weekend is like")]


class TemplateIn(Schema):
    """A named day (`periods`) or a named week (`week`); a weekday that no part of the week names has no slots."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=20), OneLine, Visible]
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

    name: Annotated[str, StringConstraints(min_length=1, max_length=20), OneLine, Visible] = Field(
        default_factory=unset
    )
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
    """A named day (`week` is empty) or a named week (`periods` is); `etag` is what If-Match takes."""

    id: str
    name: str
    hall_id: str | None
    periods: list[PeriodOut]
    week: list[WeekPartOut]
    holidays: Literal["observe", "ignore"]
    makeup_as: int
    version: int
    etag: str
