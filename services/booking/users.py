"""The people who book: found or made at sign-in, edited by themselves, disabled by staff."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import NotFound, Unauthenticated
from libs.common.ids import new_id
from libs.common.pages import Key
from libs.contracts.principals import Staff
from services.booking import findables
from services.booking.errors import PersonDisabled, PhoneInvalid, UserErased
from services.booking.findables import Sought
from services.booking.forms import mobile
from services.booking.models import Join, Upload, User

WALK_IN = "walk_in"  # the provider of users who stand for a party at the desk, and never sign in
IMPORTED = "import"  # the provider of users who stand for one row of an import each, and never sign in either
ERASED = "erased"  # the provider of users who are gone, and of whom only joins without answers are left


@dataclass(frozen=True)
class UserQuery:
    """Which users staff look for; None leaves a question open."""

    person: Sought | None = None
    disabled: bool | None = None


NEWEST_FIRST = (Key(User.id, "id", descending=True),)


def sign_in(session: Session, provider: str, openid: str, *, now: datetime) -> User:
    """Return the user whom the provider knows under this id, made where they are new."""
    session.execute(
        insert(User)
        .values(id=new_id(), provider=provider, openid=openid, created_at=now)
        .on_conflict_do_nothing(index_elements=["provider", "openid"])
    )
    return session.scalars(select(User).where(User.provider == provider, User.openid == openid)).one()


def get(session: Session, user_id: str) -> User:
    """Return the signed-in user; one who is gone must sign in again."""
    user = session.get(User, user_id)
    if user is None or user.provider == ERASED:
        raise Unauthenticated
    return user


def lock(session: Session, user_id: str) -> User:
    """Lock the user's quota: their claims are decided one after another until this transaction ends."""
    user = session.scalar(
        select(User).where(User.id == user_id).with_for_update(key_share=True).execution_options(populate_existing=True)
    )
    if user is None or user.provider == ERASED:
        raise Unauthenticated
    return user


def try_lock(session: Session, user_id: str) -> bool:
    """Lock the user's quota unless somebody else has locked it; return whether it is locked now."""
    free = select(User.id).where(User.id == user_id).with_for_update(key_share=True, skip_locked=True)
    return session.scalar(free) is not None


def lock_for_staff(session: Session, user_id: str) -> User:
    """Lock the quota of a user for whom staff act, or raise why nobody can act for them: UserErased, PersonDisabled."""
    try:
        user = lock(session, user_id)
    except Unauthenticated:
        raise UserErased from None
    if user.disabled_at is not None:
        raise PersonDisabled
    return user


def is_any_erased(session: Session, user_ids: Collection[str]) -> bool:
    """Whether one of these users is gone. Asked under a lock of their joins, it stays true or false as long as that is held."""
    return bool(session.scalar(select(exists().where(User.id.in_(user_ids), User.provider == ERASED))))


def edit(session: Session, sealer: Sealer, user_id: str, *, name: str | None, phone: str | None) -> User:
    """Change name or phone number (empty removes it); None leaves it."""
    user = lock(session, user_id)
    if name is not None:
        user.name = name
    if phone == "":
        user.phone_sealed = user.phone_digest = None
    elif phone is not None:
        normal = mobile(phone)
        if normal is None:
            raise PhoneInvalid
        user.phone_sealed = sealer.seal(normal.encode(), about=f"user:{user.id}")
        user.phone_digest = findables.digest(sealer, normal)
    return user


def phone_of(sealer: Sealer, user: User) -> str:
    """Return the user's phone number, empty where there is none."""
    return sealer.open(user.phone_sealed, about=f"user:{user.id}").decode() if user.phone_sealed else ""


def rehash(session: Session, sealer: Sealer) -> int:
    """Bring what users are found by to their phone numbers, where those were set by a release that did not; return how many."""
    changed = 0
    for user in session.scalars(select(User).where(User.phone_sealed.is_not(None)).execution_options(yield_per=500)):
        found_by = findables.digest(sealer, phone_of(sealer, user))
        if user.phone_digest != found_by:
            # Of this number alone: it may be changed, or erased, in this moment.
            still = update(User).where(User.id == user.id, User.phone_sealed == user.phone_sealed)
            session.execute(still.values(phone_digest=found_by).execution_options(synchronize_session=False))
            changed += 1
    return changed


def sweep_walk_ins(session: Session, *, before: datetime) -> int:
    """Forget walk-in parties of before then that were refused; return how many."""
    refused = delete(User).where(
        User.provider == WALK_IN,
        User.created_at < before,
        ~exists().where(Join.user_id == User.id),
        ~exists().where(Upload.user_id == User.id),
    )
    gone = session.execute(refused.execution_options(synchronize_session=False))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount


def matching(staff: Staff, wanted: UserQuery) -> Select[User]:
    """Return the query for the users that staff look for; for a hall admin, among those who have booked in their halls."""
    query = select(User).where(User.provider.not_in([WALK_IN, IMPORTED, ERASED]))
    if staff.halls is not None:
        query = query.where(exists().where(Join.user_id == User.id, staff.sees(Join.hall_id)))
    if wanted.person is not None:
        has_name = User.name.icontains(wanted.person.text, autoescape=True)
        query = query.where(has_name | User.phone_digest.in_(wanted.person.digests))
    if wanted.disabled is not None:
        query = query.where(User.disabled_at.is_not(None) if wanted.disabled else User.disabled_at.is_(None))
    return query


def one_of_staff(session: Session, staff: Staff, user_id: str) -> User:
    """Return a user whom the staff's list holds, or raise NotFound."""
    user = session.scalar(matching(staff, UserQuery()).where(User.id == user_id))
    if user is None:
        raise NotFound
    return user


def one_there(session: Session, user_id: str) -> User:
    """Return a user or walk-in party, or raise NotFound where there is none, or it was erased."""
    user = session.scalar(select(User).where(User.id == user_id, User.provider != ERASED))
    if user is None:
        raise NotFound
    return user


def set_disabled(session: Session, user_id: str, *, disabled: bool, reason: str, now: datetime) -> tuple[User, bool]:
    """Disable or enable a user; return them and whether they were disabled before."""
    user = session.scalar(
        select(User).where(User.id == user_id, User.provider != ERASED).with_for_update(key_share=True)
    )
    if user is None:
        raise NotFound
    before = user.disabled_at is not None
    session.execute(
        update(User)
        .where(User.id == user_id)
        .values(disabled_at=now if disabled else None, disabled_reason=reason if disabled else "")
    )
    session.refresh(user)
    return user, before
