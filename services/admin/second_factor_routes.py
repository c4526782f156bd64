"""What staff do about the second factor of their own account."""

from typing import Annotated

import segno
from fastapi import APIRouter, Depends

from libs.common.crypto import Sealer
from libs.common.web import Now, RuntimeDep, Tx
from libs.contracts.principals import AnyStaff, StaffSettingUp
from services.admin import own_factor, second_factors
from services.admin.resources import Resources
from services.admin.routes import CallerDep, NotStored, settled, token_out
from services.admin.schemas import (
    Code,
    PasswordAgain,
    PasswordAndCode,
    RecoveryCodes,
    SecondFactorOn,
    SecondFactorOut,
    SecondFactorSecret,
    TokenOut,
)

router = APIRouter(prefix="/me/second-factor", tags=["second factor"])


def _sealer(runtime: RuntimeDep) -> Sealer:
    resources: Resources = runtime.resources
    return resources.sealer


SealerDep = Annotated[Sealer, Depends(_sealer)]


@router.get("")
def get_second_factor(me: StaffSettingUp, session: Tx) -> SecondFactorOut:
    """Show whether signing in takes a code, and how many recovery codes are left."""
    return SecondFactorOut(
        set_at=second_factors.set_at(session, me.id),
        recovery_codes_left=second_factors.recovery_codes_left(session, me.id),
    )


@router.post("", status_code=201, dependencies=[NotStored])
def begin_second_factor(
    body: PasswordAgain, me: StaffSettingUp, caller: CallerDep, session: Tx, sealer: SealerDep, now: Now
) -> SecondFactorSecret:
    """Get a secret for an app that makes codes (TOTP). Nothing changes until a code of it is confirmed."""
    outcome = own_factor.begin(session, sealer, me, password=body.password, address=caller.address, now=now)
    secret, uri = settled(session, outcome)
    return SecondFactorSecret(secret=secret, uri=uri, qr_svg=segno.make(uri, error="m").svg_inline(scale=4, border=4))


@router.post("/confirm", dependencies=[NotStored])
def confirm_second_factor(
    body: Code, me: StaffSettingUp, session: Tx, runtime: RuntimeDep, sealer: SealerDep, now: Now
) -> SecondFactorOn:
    """Confirm that the app makes the right codes: from now on signing in takes one. Ends the other sessions.

    The recovery codes in the answer can't be seen again. Each signs in once, in place of a code of the app.
    """
    account, codes = own_factor.confirm(session, sealer, me, body.code, now=now)
    out = token_out(runtime, session, account, session_id=me.session_id, now=now)
    return SecondFactorOn(**out.model_dump(), recovery_codes=codes)


@router.post("/recovery-codes", dependencies=[NotStored])
def renew_recovery_codes(
    body: PasswordAndCode, me: AnyStaff, caller: CallerDep, session: Tx, sealer: SealerDep, now: Now
) -> RecoveryCodes:
    """Get new recovery codes; those before are void."""
    outcome = own_factor.renew_recovery_codes(
        session, sealer, me, password=body.password, code=body.code, address=caller.address, now=now
    )
    return RecoveryCodes(recovery_codes=settled(session, outcome))


@router.post("/remove", dependencies=[NotStored])
def remove_second_factor(
    body: PasswordAndCode,
    me: AnyStaff,
    caller: CallerDep,
    session: Tx,
    runtime: RuntimeDep,
    sealer: SealerDep,
    now: Now,
) -> TokenOut:
    """Let the password alone sign in again."""
    outcome = own_factor.remove(
        session, sealer, me, password=body.password, code=body.code, address=caller.address, now=now
    )
    return token_out(runtime, session, settled(session, outcome), session_id=me.session_id, now=now)
