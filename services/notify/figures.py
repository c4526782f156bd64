"""The shapes of figures: dashboards, and what recounts found."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from libs.common.web import Id, Schema


class States(BaseModel):
    """Counts over the slots that anybody ever joined. `checked_in` and `missed` are among the `booked`.

    `capacity` and `fill_rate` look at the slots with a limit. `no_show_rate` is missed ÷ (missed + checked in).
    """

    slots: int
    booked: int
    cancelled: int
    revoked: int
    checked_in: int
    missed: int
    capacity: int
    fill_rate: float | None
    no_show_rate: float | None


class Lead(BaseModel):
    """How many were booked less than so many hours before their slot, and not less than the class before."""

    below_hours: float | None = Field(description="null: any longer")
    booked: int


class StatesWithLead(States):
    """With the time from booking to the slot's start, of the booked."""

    lead_hours: float | None = Field(description="on average")


class Figures(StatesWithLead):
    """With how that time is spread."""

    median_lead_hours: float | None = Field(description="by the classes of `leads`; null beyond the last bound, too")
    leads: list[Lead]


class DayFigures(StatesWithLead):
    day: date


class HallFigures(StatesWithLead):
    hall_id: str


class ItemFigures(StatesWithLead):
    hall_id: str
    item_id: str


class HourFigures(States):
    """Of the slots that begin in this hour of this weekday, on the hall's clock."""

    weekday: int = Field(description="1 is Monday")
    hour: int


class DashboardOut(BaseModel):
    """Figures of a range of days and (`before`) of as many days before it. `items` are those with most bookings."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    first_day: date = Field(alias="from")
    last_day: date = Field(alias="to")
    total: Figures
    before: Figures
    days: list[DayFigures]
    halls: list[HallFigures]
    items: list[ItemFigures]
    hours: list[HourFigures]


class NewRecount(Schema):
    hall_id: Id | None = Field(default=None, description="null: every hall that one may see")


class RecountOut(BaseModel):
    """A recount. `differing` stats and totals were put right; `differences` has the first 200 with what they were."""

    id: str
    halls: list[str] | None = Field(description="null: all")
    state: Literal["queued", "running", "done"]
    asked_by: str | None = Field(description="null: the night's")
    asked_at: datetime
    ended_at: datetime | None
    slots: int = Field(description="that were counted")
    days: int = Field(description="of a hall, that were summed up")
    differing: int
    differences: list[dict[str, Any]]
