"""What goes in and out of the calendar over HTTP: the dates that are not like their weekday."""

from datetime import date
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from libs.common.inputs import OneLine, Spelled, Visible
from libs.common.web import Id, Schema
from services.catalog.inputs import MOST_DATES, Date
from services.catalog.workdays import Source, SpecialKind


class SpecialDaysIn(Schema):
    """These dates are days off or workdays from now on, whatever the calendar or an earlier word said."""

    hall_id: Id | None = Field(default=None, description="null: for all halls (super admins only)")
    dates: Annotated[list[Date], Field(min_length=1, max_length=MOST_DATES)]
    kind: Spelled[SpecialKind]
    name: Annotated[str, StringConstraints(min_length=1, max_length=40), OneLine, Visible]


class SpecialDayOut(BaseModel):
    """`etag` is what If-Match takes."""

    id: str
    hall_id: str | None
    date: date
    kind: SpecialKind
    name: str
    version: int
    etag: str


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
