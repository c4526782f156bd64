"""What goes in and out of items over HTTP."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from libs.common.inputs import Spelled, unfit
from libs.common.web import Id, Schema
from libs.contracts.catalog import USUAL_REMINDERS, FormField, HourMinute, ItemStatus, Rules
from services.catalog.category_schemas import CategoryRef
from services.catalog.closure_schemas import PublicClosure
from services.catalog.day_schemas import PublicDay, PublicSlot
from services.catalog.hall_schemas import HallRef
from services.catalog.inputs import LAST, Order, Picture, Prose, Title, unset


def _from_afar(minutes: list[int]) -> list[int]:
    if len(set(minutes)) < len(minutes):
        raise unfit("repeated")
    return sorted(minutes, reverse=True)


Reminders = Annotated[
    list[Annotated[int, Field(ge=5, le=30 * 24 * 60)]],
    Field(max_length=3, description="minutes before the start; whole days of them on the hall's clock"),
    AfterValidator(_from_afar),
]


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
    rules: Rules = Field(
        default_factory=unset, description="all of them: left out is the default; `items/rules` changes some"
    )
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


class ItemOfDay(ItemCard):
    """An item with what can be booked of it on one day."""

    slot_count: int
    first_start: HourMinute
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
