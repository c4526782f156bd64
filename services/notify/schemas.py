"""What notify's routes take and give."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from libs.common.inputs import Instant, OneLine, Told
from libs.common.pages import Page
from libs.common.web import Id, Schema
from services.notify.texts import NoticeKind

NO_NUL = r"^[^\x00]*$"
Title = Annotated[str, StringConstraints(min_length=4, max_length=50), OneLine, Told]
Summary = Annotated[str, StringConstraints(min_length=10, max_length=200), OneLine, Told]
Content = Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=NO_NUL)]
SearchText = Annotated[str, StringConstraints(max_length=50, pattern=NO_NUL)]
Order = Annotated[int, Field(ge=0, le=9999, description="0 on top")]
AnnouncementStatus = Literal["draft", "published"]


def _of_this_age(instant: datetime) -> datetime:
    if not 2000 <= instant.year < 2200:
        raise ValueError("the year must be between 2000 and 2199")
    return instant.astimezone(UTC)


PublishAt = Annotated[Instant, AfterValidator(_of_this_age)]


# --- notices ---


class NoticeOut(BaseModel):
    """One message to the user, in the language of the request. `created_at` is when the thing happened."""

    id: str
    kind: NoticeKind
    title: str
    body: str
    join_id: str | None = Field(description="null in a notice of an announcement or a wait")
    party_id: str | None
    announcement_id: str | None
    people: int
    created_at: datetime
    read_at: datetime | None


class NoticePage(Page[NoticeOut]):
    unread: int = Field(description="how many of all the user's notices are unread")


def _really_true(value: Any) -> Any:
    # Literal compares, and 1 == True.
    if value is not None and value is not True:
        raise ValueError("send true or nothing")
    return value


class MarkRead(Schema):
    """Which notices were read: these, or all of them."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=500)] | None = None
    all: Annotated[Literal[True] | None, BeforeValidator(_really_true)] = None

    @model_validator(mode="after")
    def _names_one_way(self) -> Self:
        if (self.ids is None) == (self.all is None):
            raise ValueError("send either ids or all")
        return self


class Unread(BaseModel):
    unread: int


# --- announcements ---


class AnnouncementLine(BaseModel):
    """An announcement as a list shows it."""

    id: str
    hall_id: str | None
    title: str
    summary: str
    order: int
    published_at: datetime


class AnnouncementOut(AnnouncementLine):
    content: str


class Tell(Schema):
    """Which users are told of an announcement by a notice, when it is out: of its hall, or of all of them."""

    upcoming: bool = Field(default=True, description="who is booked for a slot that has not started")
    visited_days: Annotated[int, Field(ge=1, le=90)] | None = Field(
        default=None, description="who was checked in within so many days"
    )

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if not self.upcoming and self.visited_days is None:
            raise ValueError("say whom to tell: upcoming, visited_days or both")
        return self


class StaffAnnouncement(BaseModel):
    """An announcement as staff see it. Shown to users when `status` is published and `publish_at` is past.

    `readers` is how many users are told of it by a notice; null as long as nobody is.
    """

    id: str
    hall_id: str | None
    title: str
    summary: str
    content: str
    status: AnnouncementStatus
    order: int
    publish_at: datetime | None
    tell: Tell | None
    readers: int | None
    created_at: datetime
    changed_at: datetime


class NewAnnouncement(Schema):
    hall_id: Id | None = Field(description="null: to everybody, which takes a super admin")
    title: Title
    summary: Summary
    content: Content
    status: AnnouncementStatus = "draft"
    order: Order = 9999
    publish_at: PublishAt | None = Field(default=None, description="default: when it is published")
    tell: Tell | None = Field(default=None, description="null: nobody, they find it in the list")


class AnnouncementChange(Schema):
    """What is to be another; what is left out stays. Only `publish_at` and `tell` may be null."""

    title: Title = ""
    summary: Summary = ""
    content: Content = ""
    status: AnnouncementStatus = "draft"
    order: Order = 9999
    publish_at: PublishAt | None = None
    tell: Tell | None = None


# --- stats ---


class Sums(BaseModel):
    """Counts over the slots that anybody ever joined.

    `checked_in` and `missed` are among the `booked`. `taken` is the newest count of places that booking told.
    `capacity` (in force, never below `taken`) and `fill_rate` (booked / capacity) look at the slots with a limit, and
    are null where there is none. `no_show_rate` is missed / (missed + checked in), `lead_hours` the average time from
    booking to the slot's start, of the booked.
    """

    slots: int
    booked: int
    cancelled: int
    revoked: int
    checked_in: int
    missed: int
    taken: int
    capacity: int | None
    fill_rate: float | None
    no_show_rate: float | None
    lead_hours: float | None


class StatLine(Sums):
    """The sums of one group; the ids and the day that name it are set, the others null."""

    slot_id: str | None
    item_id: str | None
    hall_id: str | None
    day: date | None


class StatPage(Page[StatLine]):
    total: Sums
