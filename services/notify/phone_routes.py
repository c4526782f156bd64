"""What users say about text messages: the number of a mobile phone, and the code that proves that it is theirs."""

import math
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import StringConstraints

from libs.common.errors import Language, TooMany
from libs.common.ids import new_id
from libs.common.web import Now, ReadersLanguage, RuntimeDep, Schema, Tx
from libs.contracts.principals import CurrentUser
from services.notify import recipients, sms, sms_budget
from services.notify.channels.sms import CODE, template_of
from services.notify.errors import ChannelOff, PhoneUnfit, SmsDown
from services.notify.me_routes import CodeIn, MeOut, confirmed, shown
from services.notify.outcomes import Later, Refused
from services.notify.resources import Resources, Texting
from services.notify.sms import Sms
from services.notify.sms_budget import Spent

router = APIRouter(prefix="/me/phone", tags=["reaching users"])


class PhoneIn(Schema):
    phone: Annotated[str, StringConstraints(min_length=1, max_length=sms.LONGEST_NUMBER)]


@router.put("", status_code=202)
def set_phone(user: CurrentUser, runtime: RuntimeDep, language: ReadersLanguage, now: Now, body: PhoneIn) -> MeOut:
    """Send a code to a number: notices go there when it comes back to `confirm`, within a quarter of an hour."""
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)
    resources: Resources = runtime.resources
    texting = _on(resources)
    number = sms.number(body.phone, texting.regions)
    if number is None:
        raise PhoneUnfit
    message_id = new_id()
    with runtime.db.transaction() as session:
        spent = sms_budget.spend(session, texting.budget, message_id, user.id, number, is_code=True, now=now)
        if spent is not None:
            raise _too_many(spent, now)
        code = recipients.set_address(session, resources.sealer, user.id, "phone", number, language=language, now=now)
        found = recipients.of(session, resources.sealer, user.id, now=now)
    # No connection is held while the bridge is asked.
    try:
        _send_code(resources, texting, message_id, number, code, language)
    except SmsDown:
        runtime.db.run(lambda session: sms_budget.give_back(session, message_id))
        raise
    return shown(found)


@router.post("/confirm")
def confirm_phone(user: CurrentUser, runtime: RuntimeDep, now: Now, body: CodeIn) -> MeOut:
    """Prove by the code that messages to the number are read. After five wrong ones it takes a new code."""
    return confirmed(runtime, user, "phone", body.code, now=now)


@router.delete("", status_code=204)
def remove_phone(session: Tx, user: CurrentUser, runtime: RuntimeDep) -> None:
    """Send no text messages any more, and forget the number."""
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)
    recipients.remove_address(session, user.id, "phone")


def _on(resources: Resources) -> Texting:
    if resources.texting is None:
        raise ChannelOff(channel="sms")
    return resources.texting


def _too_many(spent: Spent, now: datetime) -> TooMany:
    return TooMany(retry_after_s=max(1, math.ceil((spent.retry_at - now).total_seconds())))


def _send_code(
    resources: Resources, texting: Texting, message_id: str, number: str, code: str, language: Language
) -> None:
    """Send a code while its user waits. Raises PhoneUnfit or SmsDown; where the answer is lost, it may well have arrived.

    Each conversation holds a thread of the server: a bridge that hangs must leave enough of them for everybody else.
    """
    template = template_of(texting.templates, CODE, language)
    if template is None or not resources.codes_at_once.acquire(blocking=False):
        raise SmsDown
    try:
        message = Sms(id=message_id, to=number, template=template, params={"code": code}, language=language)
        outcome = texting.for_codes.send(message)
    finally:
        resources.codes_at_once.release()
    if isinstance(outcome, Refused):
        raise PhoneUnfit
    if isinstance(outcome, Later):
        raise SmsDown
