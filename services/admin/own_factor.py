"""How people set up the second factor of their own account, renew its recovery codes, and remove it."""

from datetime import datetime

from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import HallpassError
from libs.contracts import audit
from libs.contracts.principals import Staff
from services.admin import proofs, second_factors, sessions
from services.admin.errors import SecondFactorMissing
from services.admin.models import StaffAccount


def begin(
    session: Session, sealer: Sealer, staff: Staff, *, password: str, address: str, now: datetime
) -> tuple[str, str] | HallpassError:
    """Return a secret for an app, and the URI of its QR code; or the refusal of a wrong password, to be committed."""
    account = sessions.owner(session, staff, now=now)
    refusal = proofs.refusal(session, account, password, address=address, now=now)
    if refusal is not None:
        return refusal
    return second_factors.begin(session, sealer, account, now=now)


def confirm(
    session: Session, sealer: Sealer, staff: Staff, code: str, *, now: datetime
) -> tuple[StaffAccount, list[str]]:
    """Let signing in take a code of the app from now on; return the account and its recovery codes.

    Ends the other sessions, which were opened without one, and voids all tokens. Raises WrongCode.
    """
    account = sessions.owner(session, staff, now=now)
    codes = second_factors.confirm(session, sealer, account, code, now=now)
    sessions.end(session, account.id, but=staff.session_id, now=now)
    sessions.void_tokens(session, account.id)
    audit.record(session, staff, "staff.second_factor_set", object_type="staff", object_id=account.id)
    session.refresh(account)
    return account, codes


def renew_recovery_codes(
    session: Session, sealer: Sealer, staff: Staff, *, password: str, code: str, address: str, now: datetime
) -> list[str] | HallpassError:
    """Return new recovery codes in place of those before; or the refusal of a wrong password or code, to be committed."""
    account = _with_factor(session, staff, now=now)
    refusal = proofs.refusal_of_both(session, sealer, account, password, code, address=address, now=now)
    if refusal is not None:
        return refusal
    audit.record(session, staff, "staff.recovery_codes_renewed", object_type="staff", object_id=account.id)
    return second_factors.new_recovery_codes(session, account.id)


def remove(
    session: Session, sealer: Sealer, staff: Staff, *, password: str, code: str, address: str, now: datetime
) -> StaffAccount | HallpassError:
    """Let the password alone sign in again, and void all tokens; return the account.

    Or return the refusal of a wrong password or code, to be committed.
    """
    account = _with_factor(session, staff, now=now)
    refusal = proofs.refusal_of_both(session, sealer, account, password, code, address=address, now=now)
    if refusal is not None:
        return refusal
    second_factors.remove(session, account.id)
    sessions.void_tokens(session, account.id)
    audit.record(session, staff, "staff.second_factor_removed", object_type="staff", object_id=account.id)
    session.refresh(account)
    return account


def _with_factor(session: Session, staff: Staff, *, now: datetime) -> StaffAccount:
    account = sessions.owner(session, staff, now=now)
    if not second_factors.is_set(session, account.id):
        raise SecondFactorMissing
    return account
