"""What goes in and out of booking's routes."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from libs.common.inputs import OneLine, Told, is_told
from libs.common.pages import Page
from libs.common.web import Id, Schema
from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import FormField, HourMinute, ItemStatus, MissedPolicy

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, StringConstraints(min_length=2, max_length=200, pattern=r"^[^\x00]*$"), Told]


class SessionIn(Schema):
    provider: str = Field(max_length=40, description="`wechat`, or `dev` where the installation allows it")
    code: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class UserOut(BaseModel):
    id: str
    name: str
    phone: str
    disabled: bool


class SessionOut(BaseModel):
    token: str
    expires_in: int
    user: UserOut


class MeIn(Schema):
    name: Annotated[str, StringConstraints(max_length=30), OneLine] | None = None
    phone: Annotated[str, StringConstraints(max_length=30, pattern=r"^[^\x00]*$")] | None = None


class HallRef(BaseModel):
    id: str
    name: str
    address: str


class ItemRef(BaseModel):
    id: str
    title: str
    cover: str


class SlotRef(BaseModel):
    """Instants carry the offset of the hall's zone."""

    id: str
    date: date
    start: HourMinute
    end: HourMinute
    starts_at: datetime
    ends_at: datetime


class StandingOut(BaseModel):
    """What the visits that a user missed at a hall come to, by its policy: `missed` count now, `left` more begin a pause.

    During a pause none are left, and they may book there again at `cooling_off_until`, the beginning of a date at the hall.
    """

    hall: HallRef
    policy: MissedPolicy
    missed: int
    left: int
    cooling_off_until: datetime | None


class StandingsOut(BaseModel):
    items: list[StandingOut]


class FormOut(BaseModel):
    """What a user needs to fill the form in. `prefill` are their own last answers for this item.

    `standing` is theirs at the hall, null where it does not mind what is missed.
    """

    slot: SlotRef
    item: ItemRef
    hall: HallRef
    form: list[FormField]
    prefill: dict[str, Any]
    party_max: int
    remaining: int | None
    standing: StandingOut | None


class CheckIn(Schema):
    people: int = Field(default=1, ge=-(2**31), lt=2**31)


class CheckOut(BaseModel):
    ok: Literal[True] = True
    remaining: int | None
    standing: StandingOut | None


class Attendee(Schema):
    answers: dict[Annotated[str, StringConstraints(max_length=100)], Any] = Field(max_length=200)


class BookIn(Schema):
    slot_id: str = Field(max_length=100)
    attendees: list[Attendee] = Field(max_length=1000)


class JoinOut(BaseModel):
    """A join as its user sees it. `missed`: the slot is over and the attendee did not come."""

    id: str
    party_id: str
    code: str
    status: JoinStatus
    reason: str
    hall: HallRef
    item: ItemRef
    slot: SlotRef
    answers: dict[str, Any]
    checked_in_at: datetime | None
    missed: bool
    created_at: datetime


class JoinWithFormOut(JoinOut):
    """A join with the form that it was made with, by which its answers are to be read."""

    form: list[FormField]


class PartyOut(BaseModel):
    party_id: str
    joins: list[JoinOut]


class UploadOut(BaseModel):
    """`reference` is the answer to the field, until then. Images are written anew, so that `bytes` differ."""

    reference: str
    name: str
    type: str
    bytes: int
    until: datetime


class MoveIn(Schema):
    slot_id: str = Field(max_length=100)


class DoorCheckIn(Schema):
    code: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class JoinsOut(BaseModel):
    joins: list[JoinOut]


# --- staff ---


class StaffJoinOut(JoinOut):
    """A join as staff see it: sensitive answers are masked."""

    user_id: str
    user_name: str


class StaffJoinWithFormOut(StaffJoinOut, JoinWithFormOut):
    pass


class RevokeIn(Schema):
    reason: Reason


class RevokeSomeIn(Schema):
    join_ids: list[Id] = Field(min_length=1, max_length=100)
    reason: Reason


class RevokeDayIn(Schema):
    """Of one item, or of a whole hall."""

    item_id: Id | None = None
    hall_id: Id | None = None
    reason: Reason

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        if (self.item_id is None) == (self.hall_id is None):
            raise ValueError("send either item_id or hall_id")
        return self


class FileReasonIn(Schema):
    reason: Reason


class RevokedOut(BaseModel):
    """How many were revoked, and how many stay: because they are checked in, or were not booked any more."""

    revoked: int
    kept_checked_in: int
    not_booked: int


class UnmaskIn(Schema):
    reason: Reason


class StaffCheckIn(Schema):
    """By `code` (15 digits, from the QR) or `join_id`; `party`: everybody of the same booking and slot who can be."""

    code: Annotated[str, StringConstraints(pattern=r"^\d{15}$")] | None = None
    join_id: Id | None = None
    party: bool = False
    override: bool = False
    reason: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")] = ""

    @model_validator(mode="after")
    def _names_one_join(self) -> Self:
        if (self.code is None) == (self.join_id is None):
            raise ValueError("send either code or join_id")
        return self

    @model_validator(mode="after")
    def _overrides_for_a_reason(self) -> Self:
        if self.override and not is_told(self.reason):
            raise ValueError("an override takes a reason")
        return self


class UndoIn(Schema):
    join_id: Id
    reason: Reason


class StaffJoinsOut(BaseModel):
    joins: list[StaffJoinOut]


class WalkInIn(Schema):
    """A party at the desk; `check_in`: check in at once whoever can be."""

    attendees: list[Attendee] = Field(max_length=1000)
    check_in: bool = False


class DoorJoin(BaseModel):
    """A join as the door sees it: sensitive answers are masked."""

    id: str
    party_id: str
    code: str
    answers: dict[str, Any]
    checked_in_at: datetime | None


class DoorOut(Page[DoorJoin]):
    """One page of those who are booked for a slot; the numbers are those of all of them."""

    slot: SlotRef
    item: ItemRef
    hall: HallRef
    expected: int
    checked_in: int


class InventoryOut(BaseModel):
    """A slot's inventory: `asked` by the operator, `capacity` in force (never below `taken` and `held` together).

    `held` places are offered to people who waited; while others are `waiting`, none are remaining.
    """

    slot: SlotRef
    item: ItemRef
    hall: HallRef
    status: str
    asked: int | None
    capacity: int | None
    taken: int
    held: int
    waiting: int
    remaining: int | None
    version: int


class Alternative(BaseModel):
    """A slot that can be booked instead; `remaining` is null where there is no limit."""

    slot: SlotRef
    item: ItemRef
    hall: HallRef
    remaining: int | None


class AffectedSlot(BaseModel):
    """A slot for which people are booked ahead, and the nearest ones that could take them.

    `waiting` people are in its line, those with an offer included; they have no join.
    """

    slot: SlotRef
    item: ItemRef
    hall: HallRef
    joins: int
    users: int
    checked_in: int
    waiting: int
    alternatives: list[Alternative]


class AffectedOut(Page[AffectedSlot]):
    """One page of the slots; the numbers are those of all of them."""

    slots: int
    joins: int
    users: int
    waiting: int


class DoorCodeOut(BaseModel):
    """What a hall's screen shows as a QR code. It changes every `period_s` seconds."""

    code: str
    period_s: int
    valid_until: datetime


class StaffUserOut(BaseModel):
    """`disabled_reason` is for super admins alone."""

    id: str
    provider: str
    name: str
    phone: str
    disabled: bool
    disabled_reason: str
    created_at: datetime


class JoinCounts(BaseModel):
    """How many joins there are in the halls of whoever asks. Those checked in and missed are booked, too."""

    booked: int
    checked_in: int
    missed: int
    cancelled: int
    revoked: int


class StaffUserWithCounts(StaffUserOut):
    joins: JoinCounts


class StaffUserIn(Schema):
    disabled: bool
    reason: Reason


class MissedVisit(BaseModel):
    """A visit of a party of which nobody came; `join_ids` are those that were noted as missed."""

    party_id: str
    join_ids: list[str]
    item: ItemRef
    slot: SlotRef
    missed_at: datetime
    forgiven_at: datetime | None


class StaffStandingOut(StandingOut):
    """A user's standing at a hall, with the latest that they missed there (a hundred joins at most), forgiven or not."""

    visits: list[MissedVisit]


class StaffStandingsOut(BaseModel):
    items: list[StaffStandingOut]


class ForgiveIn(Schema):
    """What the user missed at the hall: the visit that the join is of, or without one all that counts."""

    hall_id: Id
    join_id: Id | None = None
    reason: Reason


class EraseIn(Schema):
    reason: Reason


# --- the feed that exports read ---


class FeedJoin(BaseModel):
    """A join without what it shares with the others of its item. Instants carry the offset of the hall's zone."""

    item_id: str
    form_version: int
    code: str
    status: JoinStatus
    reason: str
    user_name: str
    date: date
    start: HourMinute
    end: HourMinute
    answers: dict[str, Any]
    created_at: datetime
    checked_in_at: datetime | None
    missed: bool
    ended_at: datetime | None


class FeedCount(BaseModel):
    """`form_versions`: of the forms that they were made with."""

    item_id: str
    joins: int
    form_versions: list[int]


class FeedForm(BaseModel):
    version: int
    form: list[FormField]


class FeedItem(BaseModel):
    """`form` is that of today, `forms` are all that are known, the youngest first."""

    id: str
    title: str
    status: ItemStatus
    hall_id: str
    hall_name: str
    timezone: str
    form: list[FormField]
    forms: list[FeedForm]


class FeedSlot(BaseModel):
    id: str
    start: HourMinute
    end: HourMinute


class FeedUserCount(BaseModel):
    users: int
