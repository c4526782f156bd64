"""What goes in and out of editing many items at once over HTTP."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from libs.common.inputs import unfit
from libs.common.web import Id, Schema
from libs.contracts.catalog import HourMinute, Rules
from services.catalog.inputs import Capacity, Date, TimeOfDay, Weekdays


def _once_each(ids: list[str]) -> list[str]:
    if len(set(ids)) < len(ids):
        raise unfit("repeated")
    return ids


MOST_ITEMS = 100
ItemIds = Annotated[list[Id], Field(min_length=1, max_length=MOST_ITEMS), AfterValidator(_once_each)]


class ItemRulesIn(Schema):
    """Of `rules`, those that are sent are changed for all these items; the others stay as each item has them."""

    item_ids: ItemIds
    rules: Rules


class ItemOrderIn(Schema):
    """These items come first in every list, in this order: their `order` becomes 0, 1, 2 ...; what stood there comes next."""

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
    weekdays: Weekdays = None
    start: TimeOfDay | None = None
    end: TimeOfDay | None = None
    capacity: Capacity


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
