"""Text messages: the port behind which a provider is, and the signed HTTP adapter by which any provider is reached."""

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

import phonenumbers
from pydantic_core import to_json

from libs.common import signatures
from libs.common.clock import utcnow
from libs.common.errors import Language
from libs.common.outward import ANYWHERE, Answer, Outward, Unreachable
from services.notify.outcomes import Later, Outcome, Refused, Sent, Unknown

LONGEST_NUMBER = 32
FOR_NOW = (408, 425, 429)
SHOWN_OF_ANSWER = 300
SHORTEST_MASKED = 4  # of the values in a message: "1" stands in every answer


@dataclass(frozen=True)
class Sms:
    """A message by a template that the provider has registered. `id` is the same whenever it is sent again."""

    id: str
    to: str
    template: str
    params: dict[str, str]
    language: Language


class Provider(Protocol):
    """Sends text messages. `longest_s` is what one `send` takes at most; whatever goes wrong is an Outcome."""

    longest_s: float

    def send(self, sms: Sms) -> Outcome: ...


class Bridge:
    """A small program of the operator's that speaks to their provider: docs/webhooks.md has what it is sent and answers.

    It is where the operator says, in a private network or not; what it is sent is signed as webhooks are.
    """

    def __init__(self, url: str, secret: str, *, timeout_s: float) -> None:
        self._url = url
        self._secret = secret
        self._outward = Outward(permitted=ANYWHERE, total_s=timeout_s)
        self.longest_s = timeout_s

    def send(self, sms: Sms) -> Outcome:
        body = to_json(
            {"id": sms.id, "to": sms.to, "template": sms.template, "params": sms.params, "language": sms.language}
        )
        headers = {"Content-Type": "application/json", "User-Agent": "Hallpass-Sms", "Idempotency-Key": sms.id}
        headers |= signatures.headers([self._secret], sms.id, body, now=utcnow())
        try:
            answer = self._outward.post(self._url, body, headers)
        except Unreachable as error:
            return Unknown(f"no answer ({error.reason})") if error.arrived else Later(error.reason)
        return _outcome(answer, sms)


def _outcome(answer: Answer, sms: Sms) -> Outcome:
    if 200 <= answer.status < 300:
        return Sent(_id_in(answer.body))
    said = f"{answer.status} {_masked(answer.text, sms)}".strip()
    if answer.status >= 500 or answer.status in FOR_NOW:
        return Later(said, after_s=answer.retry_after_s)
    return Refused(said)


def _id_in(body: bytes) -> str:
    """Return the provider's id of the message, as far as the bridge tells one."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    told = found.get("id") if isinstance(found, dict) else None
    return told if isinstance(told, str) else ""


def _masked(text: str, sms: Sms) -> str:
    """What a bridge says is shown to staff: without the number, however it is spelled, and without what was in the message."""
    told = {value for value in sms.params.values() if len(value) >= SHORTEST_MASKED}
    for secret in sorted({sms.to, sms.to[1:], *_national(sms.to), *told}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return " ".join(text.split())[:SHOWN_OF_ANSWER]


def _national(number: str) -> list[str]:
    parsed = phonenumbers.parse(number)
    spelled = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    return [spelled, re.sub(r"\D", "", spelled), str(parsed.national_number)]


def number(text: str, regions: frozenset[str]) -> str | None:
    """Return a mobile number in its international form (+8613800138000), or None where it is none of these regions.

    One that is written without a country is looked for in the regions in alphabetical order.
    """
    for region in sorted(regions):
        try:
            parsed = phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue
        kind = phonenumbers.number_type(parsed)
        is_mobile = kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
        if is_mobile and phonenumbers.is_valid_number(parsed):
            of = phonenumbers.region_code_for_number(parsed)
            if of in regions:
                spelled: str = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
                return spelled
    return None
