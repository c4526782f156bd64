"""Whose accounts somebody who manages staff sees, and which of them they may administer."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.contracts.principals import RIGHTS_OF_ROLE, Role, Staff
from services.admin import accounts, policy, sessions
from services.admin.models import StaffAccount, StaffHall

_LOW_TO_HIGH = (Role.VERIFIER, Role.HALL_ADMIN, Role.SUPER_ADMIN)


def seen_by(actor: Staff) -> ColumnElement[bool]:
    """Return the condition for the accounts that are for the actor's halls and for no others."""
    if actor.halls is None:
        return true()
    elsewhere = (
        select(StaffHall.staff_id)
        .where(StaffHall.staff_id == StaffAccount.id)
        .where(StaffHall.hall_id.not_in(sorted(actor.halls)))
    )
    return and_(StaffAccount.role != Role.SUPER_ADMIN, ~elsewhere.exists())


def one(session: Session, actor: Staff, staff_id: str) -> StaffAccount:
    """Return an account that the actor sees, or raise NotFound."""
    query = select(StaffAccount).where(StaffAccount.id == staff_id).where(seen_by(actor))
    account = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if account is None:
        raise NotFound
    return account


def locked(session: Session, actor: Staff, staff_id: str) -> tuple[StaffAccount, int]:
    """Return an account that the actor may administer, locked, and how many enabled super admins there are beside it.

    Raises NotFound where they do not see it, BeyondYours where it may more than they, and TokenInvalid where somebody has
    just taken from them what they may.
    """
    one(session, actor, staff_id)
    account, other_super_admins = lock_beside_super_admins(session, actor, staff_id)
    sessions.check_valid(session, actor)
    halls = accounts.halls_of(session, [account.id])[account.id]
    check_not_beyond(actor, role=Role(account.role), halls=halls, rights=account.rights)
    return account, other_super_admins


def lock_beside_super_admins(session: Session, actor: Staff, staff_id: str) -> tuple[StaffAccount, int]:
    """Lock account, actor and all enabled super admins, in one order; return it and how many others the last are.

    Two who disable each other wait here for one another, and the second finds out what the first has done.
    """
    is_enabled_super_admin = and_(StaffAccount.role == Role.SUPER_ADMIN, StaffAccount.disabled_at.is_(None))
    rows = session.scalars(
        select(StaffAccount)
        .where(or_(StaffAccount.id.in_([staff_id, actor.id]), is_enabled_super_admin))
        .order_by(StaffAccount.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    [account] = [row for row in rows if row.id == staff_id]
    others = [row for row in rows if row.role == Role.SUPER_ADMIN and row.disabled_at is None and row is not account]
    return account, len(others)


def check_not_beyond(actor: Staff, *, role: Role, halls: Iterable[str], rights: Iterable[str]) -> None:
    """Raise NotFound at a hall, BeyondYours at a role or right, that an account has or is to get and the actor has not."""
    for hall_id in halls:
        actor.require_hall(hall_id)
    policy.check_not_beyond(_authority(actor.role, actor.rights), _authority(role, rights))


def _authority(role: Role, rights: Iterable[str]) -> policy.Authority:
    return policy.Authority(rank=_LOW_TO_HIGH.index(role), rights=RIGHTS_OF_ROLE[role] | set(rights))
