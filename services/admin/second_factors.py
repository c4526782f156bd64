"""The second factor of an account: codes of an app (TOTP, RFC 6238), and recovery codes for who has lost it."""

import hashlib
import re
from datetime import datetime

import pyotp
from pyotp.utils import strings_equal
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from services.admin import passwords, policy
from services.admin.errors import SecondFactorSet, WrongCode
from services.admin.models import RecoveryCode, SecondFactor, StaffAccount

ISSUER = "Hallpass"
_RECOVERY_GROUPS = 4  # 79 bits: nobody finds one by its hash


def is_set(session: Session, staff_id: str) -> bool:
    """Whether signing in to the account takes a code."""
    return set_at(session, staff_id) is not None


def set_at(session: Session, staff_id: str) -> datetime | None:
    """Return since when signing in to the account takes a code, or None."""
    return session.scalar(select(SecondFactor.confirmed_at).where(SecondFactor.staff_id == staff_id))


def having(session: Session, staff_ids: list[str]) -> set[str]:
    """Return those of the accounts that have a second factor."""
    confirmed = select(SecondFactor.staff_id).where(SecondFactor.confirmed_at.is_not(None))
    return set(session.scalars(confirmed.where(SecondFactor.staff_id.in_(staff_ids))))


def recovery_codes_left(session: Session, staff_id: str) -> int:
    return session.scalar(select(func.count()).where(RecoveryCode.staff_id == staff_id)) or 0


def begin(session: Session, sealer: Sealer, account: StaffAccount, *, now: datetime) -> tuple[str, str]:
    """Make a secret for the account's app, and return it with the URI that its QR code holds.

    It counts once a code of it was confirmed; until then the next one takes its place. Raises SecondFactorSet where
    one is confirmed. The caller holds the account's lock.
    """
    if is_set(session, account.id):
        raise SecondFactorSet
    secret = pyotp.random_base32()
    sealed = sealer.seal(secret.encode(), about=_about(account.id))
    statement = postgresql.insert(SecondFactor).values(staff_id=account.id, secret=sealed, last_step=0, made_at=now)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["staff_id"],
            set_={"secret": statement.excluded.secret, "made_at": statement.excluded.made_at},
        )
    )
    return secret, pyotp.TOTP(secret).provisioning_uri(name=account.username, issuer_name=ISSUER)


def confirm(session: Session, sealer: Sealer, account: StaffAccount, code: str, *, now: datetime) -> list[str]:
    """Let the secret that was begun count from now on, and return the recovery codes; or raise WrongCode.

    Raises SecondFactorSet where one is confirmed. The caller holds the account's lock.
    """
    if is_set(session, account.id):
        raise SecondFactorSet
    if not _spend_app_code(session, sealer, account.id, _plain(code), now=now):
        raise WrongCode
    session.execute(update(SecondFactor).where(SecondFactor.staff_id == account.id).values(confirmed_at=now))
    _changed(session, account.id)
    return new_recovery_codes(session, account.id)


def spend(session: Session, sealer: Sealer, staff_id: str, code: str, *, now: datetime) -> str | None:
    """Use up a code and return of which kind it was, "app" or "recovery"; None where it is wrong, or was used before.

    The caller holds the account's lock, and has asked whether the account has a second factor.
    """
    plain = _plain(code)
    if _spend_app_code(session, sealer, staff_id, plain, now=now):
        return "app"
    used = session.execute(
        delete(RecoveryCode)
        .where(RecoveryCode.staff_id == staff_id)
        .where(RecoveryCode.code_hash == _hash(staff_id, plain))
    )
    return "recovery" if used.rowcount else None  # type: ignore[attr-defined]  # a DML result has a rowcount


def _spend_app_code(session: Session, sealer: Sealer, staff_id: str, code: str, *, now: datetime) -> bool:
    factor = session.get(SecondFactor, staff_id, populate_existing=True)
    if factor is None:
        return False
    totp = pyotp.TOTP(sealer.open(factor.secret, about=_about(staff_id)).decode())
    for step in policy.steps_open(totp.timecode(now), last_used=factor.last_step):
        if strings_equal(totp.generate_otp(step), code):
            session.execute(update(SecondFactor).where(SecondFactor.staff_id == staff_id).values(last_step=step))
            return True
    return False


def new_recovery_codes(session: Session, staff_id: str) -> list[str]:
    """Make recovery codes in place of those before; nobody can see them again. The caller holds the account's lock."""
    codes = [passwords.readable(groups=_RECOVERY_GROUPS) for _ in range(policy.RECOVERY_CODES)]
    session.execute(delete(RecoveryCode).where(RecoveryCode.staff_id == staff_id))
    session.execute(
        insert(RecoveryCode), [{"staff_id": staff_id, "code_hash": _hash(staff_id, _plain(code))} for code in codes]
    )
    return codes


def remove(session: Session, staff_id: str) -> bool:
    """Let the password alone sign in to the account again; return whether it took more. The caller holds its lock."""
    had = is_set(session, staff_id)
    session.execute(delete(RecoveryCode).where(RecoveryCode.staff_id == staff_id))
    session.execute(delete(SecondFactor).where(SecondFactor.staff_id == staff_id))
    if had:
        _changed(session, staff_id)
    return had


def _changed(session: Session, staff_id: str) -> None:
    session.execute(update(StaffAccount).where(StaffAccount.id == staff_id).values(version=StaffAccount.version + 1))


def _plain(code: str) -> str:
    """Return a code without what people type between its groups."""
    return re.sub(r"[\s-]", "", code).lower()


def _hash(staff_id: str, code: str) -> bytes:
    return hashlib.sha256(f"{staff_id} {code}".encode()).digest()


def _about(staff_id: str) -> str:
    return f"second factor of {staff_id}"
