"""What goes in and out of exports over HTTP. The filters are those of the lists that are exported, by the same names."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from libs.common.errors import check_range
from libs.common.inputs import Date, Instant, OneLine, Spelled, is_told
from libs.common.web import Id, Schema
from libs.contracts.booking import JoinStatus
from services.admin import trail
from services.admin.failures import Failure
from services.admin.policy import ExportState
from services.admin.schemas import OneTimeCode, Password

Search = Annotated[str, StringConstraints(max_length=50), OneLine]
Words = Annotated[str, StringConstraints(max_length=100), OneLine]


class _Filter(Schema):
    @property
    def asked(self) -> dict[str, Any]:
        """What is asked for, by the names that the lists' queries have."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def check(self) -> None:
        """Raise what the list would raise."""

    @property
    def seeks_somebody(self) -> bool:
        """Whether people are looked for, by a name or a number."""
        return False


class JoinFilter(_Filter):
    """As of `booking/staff/joins`."""

    hall_id: Id | None = None
    item_id: Id | None = None
    slot_id: Id | None = None
    user_id: Id | None = None
    first_day: Date | None = Field(default=None, alias="from")
    last_day: Date | None = Field(default=None, alias="to")
    status: (
        Spelled[JoinStatus]
        | Annotated[list[Spelled[JoinStatus]], Field(min_length=1, max_length=len(JoinStatus))]
        | None
    ) = Field(default=None, description="one, or any of several")
    checked_in: bool | None = None
    missed: bool | None = None
    person: Annotated[Search, Field(min_length=1)] | None = None
    q: Search | None = None

    def check(self) -> None:
        check_range(self.first_day, self.last_day)

    @property
    def seeks_somebody(self) -> bool:
        return self.person is not None


class UserFilter(_Filter):
    """As of `booking/staff/users`."""

    q: Search | None = None
    disabled: bool | None = None

    @property
    def seeks_somebody(self) -> bool:
        return bool(self.q)


class StatFilter(_Filter):
    """As of `notify/staff/stats`."""

    hall_id: Id | None = None
    item_id: Id | None = None
    first_day: Date | None = Field(default=None, alias="from")
    last_day: Date | None = Field(default=None, alias="to")

    def check(self) -> None:
        check_range(self.first_day, self.last_day)


class TrailFilter(_Filter):
    """As of `admin/audit`."""

    actor: Words | None = None
    action: Words | None = None
    object_type: Words | None = None
    object_id: Words | None = None
    hall_id: Id | None = None
    since: Instant | None = Field(default=None, alias="from")
    until: Instant | None = Field(default=None, alias="to")

    def check(self) -> None:
        check_range(self.since, self.until)

    @property
    def wanted(self) -> trail.Filter:
        return trail.Filter(**dict(self))


class _Personal(Schema):
    """An export with personal data: masked, unless it is asked for in clear, with a reason and the password again."""

    unmasked: bool = False
    reason: Annotated[str, StringConstraints(max_length=200), OneLine] = ""
    password: Password | None = Field(default=None, description="the caller's own, with `unmasked`")
    code: OneTimeCode | None = Field(default=None, description="with `unmasked`, where the account has a second factor")

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.unmasked and (not is_told(self.reason) or self.password is None):
            raise ValueError("an export in clear takes a reason that can be read and the password")
        return self


class JoinExport(_Personal):
    """`layout`: a sheet for each item, with the fields of its form as columns; or one sheet for all, newest first."""

    kind: Literal["joins"]
    filter: JoinFilter = JoinFilter()
    layout: Literal["items", "one"] = "items"


class UserExport(_Personal):
    kind: Literal["users"]
    filter: UserFilter = UserFilter()


class StatExport(Schema):
    kind: Literal["stats"]
    filter: StatFilter = StatFilter()
    group: Literal["slot", "item", "hall", "day"] = "slot"


class TrailExport(Schema):
    kind: Literal["audit"]
    filter: TrailFilter = TrailFilter()


ExportIn = Annotated[JoinExport | UserExport | StatExport | TrailExport, Field(discriminator="kind")]


class ExportOut(BaseModel):
    """An export. `rows_total` is null until it is known, `file` until it is done; `runs` counts how often it was begun.

    `wanted` is what was asked for; what was searched for is forgotten when the export is over.
    """

    id: str
    kind: Literal["joins", "users", "stats", "audit"]
    wanted: dict[str, Any]
    unmasked: bool
    reason: str
    state: ExportState
    rows_done: int
    rows_total: int | None
    runs: int
    failure: Failure | None
    asked_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    file: "FileOut | None"


class FileOut(BaseModel):
    """A finished workbook. It is deleted at `until`."""

    name: str
    bytes: int
    until: datetime


class LinkOut(BaseModel):
    """Where the file can be fetched until then, by whoever has the link: it is for its owner's browser alone."""

    url: str
    until: datetime
