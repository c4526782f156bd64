"""What goes in and out of admin over HTTP."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from libs.common.inputs import OneLine, Spelled
from libs.common.web import Id, Schema
from libs.contracts.principals import Duty, Right, Role

Username = Annotated[
    str,
    StringConstraints(min_length=2, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"),
    Field(description="letters, digits and . _ @ -; capitals make no difference"),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=60), OneLine]
# Spaces at the ends belong to a password; 200 characters bound the work of hashing it.
Password = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=False)]
# A token names its halls, and tokens travel in a header of 8 kB.
Halls = Annotated[
    list[Id],
    Field(max_length=100, description="ids from catalog; admin checks their form only, for it does not know the halls"),
]

Rights = Annotated[list[Spelled[Right]], Field(max_length=20, description="beside those that the role brings")]

OneTimeCode = Annotated[
    str, StringConstraints(min_length=1, max_length=40), Field(description="of the app, or a recovery code")
]


class SignIn(Schema):
    username: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    password: Password
    code: OneTimeCode | None = Field(default=None, description="where the account has a second factor")


class Refresh(Schema):
    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PasswordChange(Schema):
    current: Password
    new: Password


class Me(BaseModel):
    """The signed-in account. `halls` is null for a super admin: all of them. `rights` holds those of its role, too."""

    id: str
    username: str
    name: str
    role: Role
    halls: list[str] | None
    rights: list[Right]
    second_factor: bool
    must_change_password: bool
    owes: Duty | None = Field(description="what has to be done before anything else; the rest is refused")


class TokenOut(BaseModel):
    """A token for the Authorization header; it expires after `expires_in` seconds."""

    token: str
    expires_in: int
    staff: Me


class SignedIn(TokenOut):
    """`refresh_token` gets the next pair from `/sessions/refresh`, once."""

    refresh_token: str


class PasswordAgain(Schema):
    password: Password


class Code(Schema):
    code: OneTimeCode


class PasswordAndCode(Schema):
    password: Password
    code: OneTimeCode


class SecondFactorOut(BaseModel):
    """Since when signing in takes a code (null: it does not), and how many recovery codes are left."""

    set_at: datetime | None
    recovery_codes_left: int


class SecondFactorSecret(BaseModel):
    """What an app needs to make codes: the secret, the URI that holds it, and a QR code of that as SVG."""

    secret: str
    uri: str
    qr_svg: str


class RecoveryCodes(BaseModel):
    """Each signs in once. Nobody can see them again."""

    recovery_codes: list[str]


class SecondFactorOn(TokenOut):
    """The first recovery codes; the token goes on in place of the one before."""

    recovery_codes: list[str]


class SessionOut(BaseModel):
    """One sign-in on one device. It was last heard of at `used_at`, from `address`; unless used again it ends by itself.

    `current` is the caller's own.
    """

    id: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool


class StaffCreate(Schema):
    username: Username
    name: Name
    role: Spelled[Role]
    halls: Halls = Field(default=[])
    rights: Rights = Field(default=[])
    password: Password | None = Field(default=None, description="without it a random one is made and returned once")


class StaffChange(Schema):
    """What is left out stays as it is."""

    name: Name | None = None
    role: Spelled[Role] | None = None
    halls: Halls | None = None
    rights: Rights | None = None
    disabled: bool | None = None
    reset_password: bool = Field(default=False, description="make a random password, return it once, lift a lock-out")
    reset_second_factor: bool = Field(default=False, description="let the password alone sign in")


class StaffOut(BaseModel):
    """An account. `rights` are those given to it beside what its role brings.

    `locked_until` is set while too many failed sign-ins lock it, for an address or for all. `version` is also its ETag.
    """

    id: str
    username: str
    name: str
    role: Role
    halls: list[str] | None
    rights: list[Right]
    disabled: bool
    disabled_at: datetime | None
    locked_until: datetime | None
    second_factor: bool
    must_change_password: bool
    version: int
    created_at: datetime


class StaffWithPassword(StaffOut):
    """`password` is the random one just made; nobody can see it again. Null where none was made."""

    password: str | None


class AuditOut(BaseModel):
    """Who did what, where and when. `before` and `after` hold what changed."""

    id: str
    service: str
    actor_id: str
    actor_name: str
    action: str
    object_type: str
    object_id: str
    hall_id: str | None
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    happened_at: datetime
