"""What goes in and out of halls over HTTP."""

from datetime import date
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from libs.common.inputs import OneLine, Spelled, unfit
from libs.common.web import Schema
from libs.contracts.catalog import HallStatus, MissedPolicy, QuietHours
from services.catalog.closure_schemas import PublicClosure
from services.catalog.inputs import LAST, Line, Name, Order, Picture, Prose, TimeOfDay, unset


class Position(Schema):
    lat: float = Field(ge=-90, le=90, allow_inf_nan=False)
    lng: float = Field(ge=-180, le=180, allow_inf_nan=False)


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
    phone: Annotated[str, StringConstraints(max_length=40), OneLine] = ""
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
    phone: Annotated[str, StringConstraints(max_length=40), OneLine] = Field(default_factory=unset)
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
