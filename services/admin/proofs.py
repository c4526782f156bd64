"""Proof that a signed-in person is still who signed in: what they signed in with, asked for once more."""

from datetime import datetime

from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import HallpassError
from services.admin import lockouts, passwords, second_factors
from services.admin.errors import CodeMissing, WrongCode, WrongPassword
from services.admin.models import StaffAccount


def refusal(
    session: Session, account: StaffAccount, password: str, *, address: str, now: datetime
) -> HallpassError | None:
    """Return None where it is the account's password, else the refusal, to be committed all the same.

    A wrong one counts as a failed sign-in. The caller holds the account's lock. Raises AccountLocked where the name is
    locked already.
    """
    lockouts.check(session, account.username, address, now=now)
    fault = None if passwords.matches(account.password_hash, password) else WrongPassword()
    return _counted(session, account, fault, address=address, now=now)


def refusal_of_both(
    session: Session, sealer: Sealer, account: StaffAccount, password: str, code: str, *, address: str, now: datetime
) -> HallpassError | None:
    """Return None where it is the account's password and a code of its second factor, which is used up by this.

    Otherwise as `refusal`.
    """
    lockouts.check(session, account.username, address, now=now)
    fault: HallpassError | None = None
    if not passwords.matches(account.password_hash, password):
        fault = WrongPassword()
    elif second_factors.spend(session, sealer, account.id, code, now=now) is None:
        fault = WrongCode()
    return _counted(session, account, fault, address=address, now=now)


def refusal_of_all(
    session: Session,
    sealer: Sealer,
    account: StaffAccount,
    password: str,
    code: str | None,
    *,
    address: str,
    now: datetime,
) -> HallpassError | None:
    """Return None where it is all that signing in to the account takes: its password, and a code where it has a factor.

    Otherwise as `refusal`. Raises CodeMissing where a code is needed and none is given: that counts as nothing.
    """
    if not second_factors.is_set(session, account.id):
        return refusal(session, account, password, address=address, now=now)
    if code is None:
        raise CodeMissing
    return refusal_of_both(session, sealer, account, password, code, address=address, now=now)


def _counted(
    session: Session, account: StaffAccount, fault: HallpassError | None, *, address: str, now: datetime
) -> HallpassError | None:
    guess = lockouts.settle(session, account.username, address, right=fault is None, now=now)
    return fault if guess.refusal is None else guess.refusal
