"""Proof that a signed-in person is still who signed in: their password, asked for once more."""

from datetime import datetime

from sqlalchemy.orm import Session

from libs.common.errors import HallpassError
from services.admin import lockouts, passwords
from services.admin.errors import WrongPassword
from services.admin.models import StaffAccount


def refusal(
    session: Session, account: StaffAccount, password: str, *, address: str, now: datetime
) -> HallpassError | None:
    """Return None where it is the account's password, else the refusal, to be committed all the same.

    A wrong one counts as a failed sign-in. The caller holds the account's lock. Raises AccountLocked where the name is
    locked already.
    """
    lockouts.check(session, account.username, address, now=now)
    right = passwords.matches(account.password_hash, password)
    guess = lockouts.settle(session, account.username, address, right=right, now=now)
    if guess.refusal is not None:
        return guess.refusal
    return WrongPassword() if guess.failures else None
