"""What goes in and out of closures over HTTP."""

from datetime import date
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from libs.common.inputs import OneLine, Told
from libs.common.web import Id, Schema
from services.catalog.inputs import Date, unset


class PublicClosure(BaseModel):
    """Dates, both included, on which nothing can be booked, and why."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    from_: date = Field(alias="from")
    to: date
    reason: str


class ClosureRef(BaseModel):
    id: str
    reason: str


Why = Annotated[str, StringConstraints(min_length=2, max_length=200), OneLine, Told]


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
    """Of a whole hall where `item_id` is null; `etag` is what If-Match takes."""

    id: str
    hall_id: str
    item_id: str | None
    version: int
    etag: str
