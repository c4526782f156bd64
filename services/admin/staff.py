"""Staff accounts: made, changed, and their passwords."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from libs.common import etags
from libs.common.errors import HallpassError, Stale
from libs.common.ids import new_id
from libs.common.tokens import TokenInvalid
from libs.contracts import audit
from libs.contracts.admin import StaffSignedOut
from libs.contracts.principals import Right, Role, Staff
from services.admin import accounts, copies, lockouts, passwords, policy, proofs, reach, second_factors, sessions
from services.admin.errors import PasswordUnchanged, UsernameTaken
from services.admin.models import StaffAccount, StaffHall


@dataclass(frozen=True)
class Wish:
    """How an account is to be; None leaves a thing as it is."""

    name: str | None = None
    role: Role | None = None
    halls: Sequence[str] | None = None
    rights: Sequence[Right] | None = None
    disabled: bool | None = None
    reset_password: bool = False
    reset_second_factor: bool = False


def matching(
    actor: Staff, *, q: str | None, role: Role | None, hall_id: str | None, disabled: bool | None
) -> Select[Any]:
    """Return the query for accounts that the actor sees, by part of a name, role, hall and whether they are disabled."""
    query = select(StaffAccount).where(reach.seen_by(actor))
    if q:
        query = query.where(
            or_(
                StaffAccount.username.contains(q.lower(), autoescape=True),
                StaffAccount.name.icontains(q, autoescape=True),
            )
        )
    if role is not None:
        query = query.where(StaffAccount.role == role)
    if hall_id is not None:
        query = query.where(StaffAccount.id.in_(select(StaffHall.staff_id).where(StaffHall.hall_id == hall_id)))
    if disabled is not None:
        query = query.where(StaffAccount.disabled_at.is_not(None) if disabled else StaffAccount.disabled_at.is_(None))
    return query


def create(
    session: Session,
    actor: Staff,
    *,
    username: str,
    name: str,
    role: Role,
    halls: Sequence[str],
    rights: Sequence[Right],
    password: str,
    now: datetime,
) -> StaffAccount:
    """Make an account that has to change its password, or raise UsernameTaken, or HallsUnknown."""
    username = username.lower()
    policy.check_password(password, username=username)
    password_hash = passwords.hashed(password)  # before anything is locked: it takes 20 ms, and waits its turn
    accounts.locked_by_id(session, actor.id)
    sessions.check_valid(session, actor)
    reach.check_not_beyond(actor, role=role, halls=halls, rights=rights)
    policy.check_halls(halls, for_all=role == Role.SUPER_ADMIN)
    copies.require_halls(session, halls)
    made = session.execute(
        postgresql.insert(StaffAccount)
        .values(
            id=new_id(),
            username=username,
            name=name,
            password_hash=password_hash,
            role=role,
            rights=sorted(set(rights)),
            must_change_password=True,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["username"])
        .returning(StaffAccount.id)
    ).scalar()
    if made is None:
        raise UsernameTaken(username=username)
    _put_halls(session, made, halls)
    lockouts.clear(session, username)  # strangers may have guessed at the name before it was anybody's
    after = {"username": username, "name": name, "role": role} | {
        "halls": sorted(set(halls)),
        "rights": sorted(set(rights)),
    }
    hall_id = audit.only_hall(set(halls))
    audit.record(session, actor, "staff.created", object_type="staff", object_id=made, hall_id=hall_id, after=after)
    return reach.one(session, actor, made)


def _put_halls(session: Session, staff_id: str, halls: Sequence[str]) -> None:
    session.execute(delete(StaffHall).where(StaffHall.staff_id == staff_id))
    if halls:
        session.execute(insert(StaffHall), [{"staff_id": staff_id, "hall_id": hall} for hall in sorted(set(halls))])


def change(
    session: Session, actor: Staff, staff_id: str, wish: Wish, *, if_match: str | None, now: datetime
) -> tuple[StaffAccount, str | None]:
    """Change an account and return it, with the new password where one was asked for.

    Whatever changes rights or password voids the account's tokens. Raises Stale where the account is no longer what
    `if_match` names, and HallsUnknown where it is to be for a hall that there is not.
    """
    account, other_super_admins = reach.locked(session, actor, staff_id)
    if if_match is not None and not etags.matches(if_match, etags.of(account)):
        raise Stale
    before = _standing(session, account)
    after = _wanted(before, wish)
    _check(actor, account, before, after, other_super_admins, resets=wish.reset_password or wish.reset_second_factor)
    copies.require_halls(session, set(after["halls"]).difference(before["halls"]))
    password = passwords.readable() if wish.reset_password else None
    hall_id = audit.only_hall(after["halls"]) or audit.only_hall(before["halls"])
    if after != before:
        _write(session, account, before, after, now=now)
        changed = [key for key in after if after[key] != before[key]]
        audit.record(
            session,
            actor,
            "staff.changed",
            object_type="staff",
            object_id=staff_id,
            hall_id=hall_id,
            before={key: before[key] for key in changed},
            after={key: after[key] for key in changed},
        )
    if password is not None:
        _set_password(session, account, password, must_change=True)
        lockouts.clear(session, account.username)
        audit.record(session, actor, "staff.password_reset", object_type="staff", object_id=staff_id, hall_id=hall_id)
    if wish.reset_second_factor and second_factors.remove(session, staff_id):
        audit.record(
            session, actor, "staff.second_factor_reset", object_type="staff", object_id=staff_id, hall_id=hall_id
        )
    resets = wish.reset_password or wish.reset_second_factor
    if after["disabled"] or resets:
        sessions.end(session, staff_id, now=now)
    if resets or _differ(before, after):
        sessions.void_tokens(session, staff_id)
    return reach.one(session, actor, staff_id), password


def _standing(session: Session, account: StaffAccount) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        "halls": accounts.halls_of(session, [account.id])[account.id],
        "rights": account.rights,
        "disabled": account.disabled_at is not None,
    }


def _wanted(before: dict[str, Any], wish: Wish) -> dict[str, Any]:
    role = wish.role.value if wish.role is not None else before["role"]
    halls = sorted(set(wish.halls)) if wish.halls is not None else before["halls"]
    if wish.halls is None and role == Role.SUPER_ADMIN:
        halls = []  # who becomes super admin leaves their halls behind
    return {
        "name": wish.name if wish.name is not None else before["name"],
        "role": role,
        "halls": halls,
        "rights": sorted(set(wish.rights)) if wish.rights is not None else before["rights"],
        "disabled": wish.disabled if wish.disabled is not None else before["disabled"],
    }


def _differ(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether an account may more, or less, than before."""
    return any(after[key] != before[key] for key in ("role", "halls", "rights", "disabled"))


def _check(
    actor: Staff,
    account: StaffAccount,
    before: dict[str, Any],
    after: dict[str, Any],
    other_super_admins: int,
    *,
    resets: bool,
) -> None:
    policy.check_own_account(own=actor.id == account.id, changes_standing=resets or _differ(before, after))
    reach.check_not_beyond(actor, role=Role(after["role"]), halls=after["halls"], rights=after["rights"])
    policy.check_halls(after["halls"], for_all=after["role"] == Role.SUPER_ADMIN)
    policy.check_super_admin_remains(
        loses_one=_is_enabled_super_admin(before) and not _is_enabled_super_admin(after), others=other_super_admins
    )


def _is_enabled_super_admin(standing: dict[str, Any]) -> bool:
    return standing["role"] == Role.SUPER_ADMIN and not standing["disabled"]


def _write(
    session: Session, account: StaffAccount, before: dict[str, Any], after: dict[str, Any], *, now: datetime
) -> None:
    session.execute(
        update(StaffAccount)
        .where(StaffAccount.id == account.id)
        .values(
            name=after["name"],
            role=after["role"],
            rights=after["rights"],
            disabled_at=(account.disabled_at or now) if after["disabled"] else None,
            version=StaffAccount.version + 1,
        )
    )
    if after["halls"] != before["halls"]:
        _put_halls(session, account.id, after["halls"])


def _set_password(session: Session, account: StaffAccount, password: str, *, must_change: bool) -> None:
    session.execute(
        update(StaffAccount)
        .where(StaffAccount.id == account.id)
        .values(
            password_hash=passwords.hashed(password),
            must_change_password=must_change,
            version=StaffAccount.version + 1,
        )
    )


def unlock(session: Session, username: str) -> bool:
    """Lift every lock of an account for the operator of the installation; return whether there is such an account."""
    account = accounts.locked_by_username(session, username)
    if account is None:
        return False
    lockouts.clear(session, account.username)
    audit.record(session, audit.OPERATOR, "staff.unlocked", object_type="staff", object_id=account.id)
    return True


def rescue(session: Session, username: str, *, now: datetime) -> str | None:
    """Let the operator of the installation give an account back to who lost everything: return its new password.

    Lifts its locks, removes its second factor and ends its sessions. Returns None where there is no such account.
    """
    account = accounts.locked_by_username(session, username)
    if account is None:
        return None
    password = passwords.readable()
    _set_password(session, account, password, must_change=True)
    second_factors.remove(session, account.id)
    lockouts.clear(session, account.username)
    sessions.end(session, account.id, now=now)
    sessions.void_tokens(session, account.id)
    audit.record(session, audit.OPERATOR, "staff.rescued", object_type="staff", object_id=account.id)
    return password


def own(session: Session, staff: Staff) -> StaffAccount:
    """Return the account behind a token, or raise TokenInvalid where there is none."""
    account = session.get(StaffAccount, staff.id, populate_existing=True)
    if account is None:
        raise TokenInvalid
    return account


def change_password(
    session: Session, staff: Staff, *, current: str, new: str, address: str, now: datetime
) -> StaffAccount | HallpassError:
    """Change one's own password, end one's other sessions and void all tokens.

    Returns the account as new tokens are to name it; or the refusal of a wrong current password, which
    counts as a failed sign-in and is to be committed.
    """
    account = sessions.owner(session, staff, now=now)
    policy.check_password(new, username=account.username)
    refusal = proofs.refusal(session, account, current, address=address, now=now)
    if refusal is not None:
        return refusal
    if new == current:
        raise PasswordUnchanged
    _set_password(session, account, new, must_change=False)
    sessions.end(session, staff.id, but=staff.session_id, now=now)
    sessions.void_tokens(session, staff.id)
    audit.record(session, staff, "staff.password_changed", object_type="staff", object_id=staff.id)
    return own(session, staff)


def facts(session: Session) -> Iterator[StaffSignedOut]:
    """Yield which tokens are void, for a service that lost what it had heard of it."""
    for row in session.execute(select(StaffAccount.id, StaffAccount.token_version)):
        yield StaffSignedOut(version=row.token_version, staff_id=row.id)
