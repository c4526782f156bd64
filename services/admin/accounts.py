"""Staff accounts as the other modules read and lock them."""

from collections.abc import Iterable

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from libs.contracts import audit
from libs.contracts.principals import Duty, Right, Role, Staff
from services.admin import second_factors
from services.admin.models import StaffAccount, StaffHall, StaffSession


def locked_by_id(session: Session, staff_id: str) -> StaffAccount | None:
    """Return the account under its row lock, or None."""
    return _locked(session, select(StaffAccount).where(StaffAccount.id == staff_id))


def locked_by_username(session: Session, username: str) -> StaffAccount | None:
    """Return the account of that name under its row lock, or None."""
    return _locked(session, select(StaffAccount).where(StaffAccount.username == username.lower()))


def locked_by_session(session: Session, session_id: str) -> StaffAccount | None:
    """Return the account that a session belongs to under its row lock, or None."""
    owner = select(StaffSession.staff_id).where(StaffSession.id == session_id).scalar_subquery()
    return _locked(session, select(StaffAccount).where(StaffAccount.id == owner))


def _locked(session: Session, query: Select[StaffAccount]) -> StaffAccount | None:
    # Everything locks the account first, then its sessions, then the failures under its name.
    return session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()


def password_hash_of(session: Session, username: str) -> str | None:
    """Return the stored hash of that account, or None where there is none."""
    return session.scalar(select(StaffAccount.password_hash).where(StaffAccount.username == username.lower()))


def halls_of(session: Session, staff_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the halls of each of these accounts, sorted."""
    halls: dict[str, list[str]] = {staff_id: [] for staff_id in staff_ids}
    rows = session.execute(
        select(StaffHall.staff_id, StaffHall.hall_id).where(StaffHall.staff_id.in_(halls)).order_by(StaffHall.hall_id)
    )
    for row in rows:
        halls[row.staff_id].append(row.hall_id)
    return halls


def only_hall_of(session: Session, staff_id: str) -> str | None:
    """Return the hall of an account that is for one alone: what is done to it, is done there."""
    return audit.only_hall(halls_of(session, [staff_id])[staff_id])


def duty(session: Session, account: StaffAccount, *, second_factor_for: frozenset[Role]) -> Duty | None:
    """Return what the account has to do before anything else, where accounts of these roles need a second factor."""
    if account.must_change_password:
        return Duty.CHANGE_PASSWORD
    if account.role in second_factor_for and not second_factors.is_set(session, account.id):
        return Duty.SET_UP_SECOND_FACTOR
    return None


def principal(session: Session, account: StaffAccount, *, session_id: str) -> Staff:
    """Return the account as its tokens name it, with its present role, halls and rights."""
    role = Role(account.role)
    halls = None if role == Role.SUPER_ADMIN else frozenset(halls_of(session, [account.id])[account.id])
    return Staff(
        id=account.id,
        name=account.name,
        role=role,
        halls=halls,
        session_id=session_id,
        rights=frozenset(Right(right) for right in account.rights),
        version=account.token_version,
    )
