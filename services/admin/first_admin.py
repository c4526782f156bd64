"""The first staff account, made when there is none."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.ids import new_id
from libs.contracts import audit
from libs.contracts.principals import Role
from services.admin import accounts, passwords
from services.admin.models import StaffAccount

USERNAME = "admin"


def ensure(session: Session, now: datetime, *, must_change: bool) -> str | None:
    """Make the super admin `admin` where there is no staff at all, and return its password; else return None.

    It has to be changed where others may read it, in a log, say. Of several that do so at once, one gets the password:
    the others wait for its commit at the unique name.
    """
    if session.scalar(select(StaffAccount.id).limit(1)) is not None:
        return None
    password = passwords.readable()
    account = session.scalars(
        insert(StaffAccount)
        .values(
            id=new_id(),
            username=USERNAME,
            name="Administrator",
            password_hash=passwords.hashed(password),
            role=Role.SUPER_ADMIN,
            must_change_password=must_change,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["username"])
        .returning(StaffAccount)
    ).one_or_none()
    if account is None:
        return None
    staff = accounts.principal(session, account, session_id="")
    after = {"username": USERNAME, "role": Role.SUPER_ADMIN}
    audit.record(session, staff, "staff.created", object_type="staff", object_id=account.id, after=after)
    return password
