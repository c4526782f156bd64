"""Who is asking: the claims of user and staff tokens, and the dependencies by which routes demand them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import ColumnElement, true
from sqlalchemy.orm import Session

from libs.common import sign_ins
from libs.common.errors import Forbidden, NotFound, Texts, Unauthenticated
from libs.common.inbox import Consumer
from libs.common.messages import Message
from libs.common.tokens import TokenInvalid, TokenKeys
from libs.common.web import Now, RuntimeDep
from libs.contracts.admin import StaffSignedOut

STAFF_TOKEN_LIFETIME = timedelta(minutes=15)
USER_TOKEN_LIFETIME = timedelta(days=1)


class Role(StrEnum):
    SUPER_ADMIN = "super_admin"
    HALL_ADMIN = "hall_admin"
    VERIFIER = "verifier"


class Right(StrEnum):
    """What an account may do beyond what every account of its role does."""

    EXPORT_UNMASKED = "export_unmasked"
    OVERRIDE_CHECK_IN = "override_check_in"
    MANAGE_STAFF = "manage_staff"


RIGHTS_OF_ROLE: dict[Role, frozenset[Right]] = {
    Role.SUPER_ADMIN: frozenset(Right),
    Role.HALL_ADMIN: frozenset({Right.OVERRIDE_CHECK_IN}),
    Role.VERIFIER: frozenset(),
}


class Duty(StrEnum):
    """What an account has to do before it may do anything else."""

    CHANGE_PASSWORD = "change_password"  # noqa: S105  # no password
    SET_UP_SECOND_FACTOR = "set_up_second_factor"


class RoleForbids(Forbidden):
    code = "role_forbids"
    texts = Texts(en="Your role ({role}) may not do this.", zh="您的角色无权进行此操作")


class RightMissing(Forbidden):
    """Raised with `right`."""

    code = "right_missing"
    texts = Texts(en="Your account lacks the right for this ({right}).", zh="您的账号没有此项权限")


class JobsOnly(Forbidden):
    code = "jobs_only"
    texts = Texts(
        en="This is asked by imports alone: send the workbook to admin.",
        zh="此接口仅供导入任务使用，请通过导入功能提交",
    )


class PasswordChangeRequired(Forbidden):
    code = "password_change_required"
    texts = Texts(en="Change your password first.", zh="请先修改密码")


class SecondFactorRequired(Forbidden):
    code = "second_factor_required"
    texts = Texts(en="Set up a second factor first: your role takes one.", zh="您的角色需要动态验证码，请先完成绑定")


_REFUSALS = {Duty.CHANGE_PASSWORD: PasswordChangeRequired, Duty.SET_UP_SECOND_FACTOR: SecondFactorRequired}


@dataclass(frozen=True)
class User:
    """A signed-in person who books."""

    id: str


@dataclass(frozen=True)
class Staff:
    """A signed-in member of staff. `halls` are the halls the account is for; None means all of them.

    `rights` are those given to the account beside what its role brings: ask `may`. Tokens below a `version` can be voided.
    Who `owes` something may do that, sign out, and nothing else.
    `unmasked` is said by a token alone that admin makes for one export, asked for with a reason and a fresh password:
    it may read sensitive values in clear. No token that a person holds says it.
    `job` is said by a token alone that admin makes for one export or import, and is its id: what jobs ask for is on
    record, and was counted when the job was asked for.
    """

    id: str
    name: str
    role: Role
    halls: frozenset[str] | None
    session_id: str
    rights: frozenset[Right] = frozenset()
    version: int = 1
    owes: Duty | None = None
    unmasked: bool = False
    job: str | None = None

    def sees(self, hall_id: Any) -> ColumnElement[bool]:
        """Return the SQL condition that a hall column lies within the scope of this account."""
        if self.halls is None:
            return true()
        condition: ColumnElement[bool] = hall_id.in_(sorted(self.halls))
        return condition

    def require_hall(self, hall_id: str) -> None:
        """Raise NotFound where the hall is foreign to this account: it is not to learn that it exists."""
        if self.halls is not None and hall_id not in self.halls:
            raise NotFound

    def require_job(self, job: str) -> None:
        """Raise JobsOnly where the token was not made for this job."""
        if self.job != job:
            raise JobsOnly

    def may(self, right: Right) -> bool:
        """Whether the account has a right, by its role or given to it."""
        return right in self.rights or right in RIGHTS_OF_ROLE[self.role]

    def require(self, right: Right) -> None:
        """Raise RightMissing where the account lacks the right."""
        if not self.may(right):
            raise RightMissing(right=right)


def sign_outs(service: str) -> Consumer:
    """Return the consumer by which a service voids the tokens that admin says are ended.

    It has a queue of its own: whoever was disabled must not go on until thousands of other events are done.
    """
    consumer = Consumer(f"{service}.sign_outs")

    @consumer.on(StaffSignedOut)
    def _(session: Session, fact: StaffSignedOut, message: Message) -> None:
        sign_ins.end(session, fact.staff_id, below=fact.version)

    return consumer


def issue_user_token(keys: TokenKeys, user_id: str, *, now: datetime) -> str:
    return keys.sign({"sub": user_id}, now=now, lifetime=USER_TOKEN_LIFETIME)


def issue_staff_token(keys: TokenKeys, staff: Staff, *, now: datetime) -> str:
    """Sign a token by which every service knows this account."""
    claims = {
        "sub": staff.id,
        "name": staff.name,
        "role": staff.role,
        "halls": None if staff.halls is None else sorted(staff.halls),
        "rights": sorted(staff.rights),
        "sid": staff.session_id,
        "ver": staff.version,
        "owes": staff.owes,
        **({"unmasked": True} if staff.unmasked else {}),
        **({"job": staff.job} if staff.job else {}),
    }
    return keys.sign(claims, now=now, lifetime=STAFF_TOKEN_LIFETIME)


_user_bearer = HTTPBearer(auto_error=False, scheme_name="user", description="token of POST booking/sessions")
_staff_bearer = HTTPBearer(auto_error=False, scheme_name="staff", description="token of POST admin/sessions")
UserCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_user_bearer)]
StaffCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_staff_bearer)]


def _current_user(runtime: RuntimeDep, credentials: UserCredentials, now: Now) -> User:
    if credentials is None:
        raise Unauthenticated
    claims = runtime.user_keys.verify(credentials.credentials, now=now)
    return User(id=claims["sub"])


def _current_staff(runtime: RuntimeDep, credentials: StaffCredentials, now: Now) -> Staff:
    if credentials is None:
        raise Unauthenticated
    claims = runtime.staff_keys.verify(credentials.credentials, now=now)
    # A transaction of its own, given back at once: a request that held one connection while its route waits for
    # another could, with enough of its like, wait for ever.
    with runtime.db.transaction() as session:
        ended_below = sign_ins.ended_below(session, claims["sub"])
    if claims["ver"] < ended_below:
        raise TokenInvalid
    return Staff(
        id=claims["sub"],
        name=claims["name"],
        role=Role(claims["role"]),
        halls=None if claims["halls"] is None else frozenset(claims["halls"]),
        session_id=claims["sid"],
        # A token of the release before names none; one of the release after may name some that are not known here yet.
        rights=frozenset(right for right in Right if right in claims.get("rights", ())),
        version=claims["ver"],
        owes=Duty(claims["owes"]) if claims.get("owes") else None,
        unmasked=claims.get("unmasked", False),
        job=claims.get("job"),
    )


CurrentUser = Annotated[User, Depends(_current_user)]
SignedInStaff = Annotated[Staff, Depends(_current_staff)]


def _owing_only(*duties: Duty) -> Callable[..., Staff]:
    def check(staff: SignedInStaff) -> Staff:
        if staff.owes is not None and staff.owes not in duties:
            raise _REFUSALS[staff.owes]
        return staff

    return check


AnyStaff = Annotated[Staff, Depends(_owing_only())]
StaffSettingUp = Annotated[Staff, Depends(_owing_only(Duty.SET_UP_SECOND_FACTOR))]


def _at_least(*roles: Role) -> Callable[..., Staff]:
    def check(staff: AnyStaff) -> Staff:
        if staff.role not in roles:
            raise RoleForbids(role=staff.role)
        return staff

    return check


def _with_right(right: Right) -> Callable[..., Staff]:
    def check(staff: AnyStaff) -> Staff:
        staff.require(right)
        return staff

    return check


HallStaff = Annotated[Staff, Depends(_at_least(Role.SUPER_ADMIN, Role.HALL_ADMIN))]
SuperAdmin = Annotated[Staff, Depends(_at_least(Role.SUPER_ADMIN))]
StaffManager = Annotated[Staff, Depends(_with_right(Right.MANAGE_STAFF))]
