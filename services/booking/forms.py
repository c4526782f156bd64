"""The answers of attendees: checked by their form, told apart, and masked."""

import unicodedata
from dataclasses import dataclass
from typing import Any

from libs.contracts.answers import Fault, checked
from libs.contracts.catalog import FieldType, FormField
from services.booking.errors import FormInvalid

PARTLY_SHOWN = frozenset(
    {
        FieldType.TEXT,
        FieldType.TEXTAREA,
        FieldType.DIGITS,
        FieldType.MOBILE,
        FieldType.ID_CARD,
        FieldType.PLATE,
    }
)


@dataclass(frozen=True)
class Answers:
    """The checked answers of one attendee, normalised and split by how they are kept."""

    plain: dict[str, Any]
    sensitive: dict[str, Any]

    @property
    def all(self) -> dict[str, Any]:
        return self.plain | self.sensitive


def check_all(form: list[FormField], attendees: list[dict[str, Any]]) -> list[Answers]:
    """Check the answers of every attendee, or raise FormInvalid with every fault of all of them."""
    faults: list[dict[str, Any]] = []
    found = [_check(form, answers, number, faults) for number, answers in enumerate(attendees, start=1)]
    if faults:
        raise FormInvalid(faults=faults)
    return found


def _check(form: list[FormField], answers: dict[str, Any], attendee: int, faults: list[dict[str, Any]]) -> Answers:
    plain: dict[str, Any] = {}
    sensitive: dict[str, Any] = {}
    for field in form:
        try:
            value = checked(field, answers.get(field.key))
        except Fault as fault:
            faults.append({"attendee": attendee, "field": field.key, "label": field.label, "reason": str(fault)})
            continue
        if value is not None:
            (sensitive if field.is_sensitive else plain)[field.key] = value
    known = {field.key for field in form}
    for key in list(answers)[:200]:
        if key not in known:
            faults.append({"attendee": attendee, "field": key[:40], "label": key[:40], "reason": "unknown_field"})
    return Answers(plain, sensitive)


def unique_text(value: Any) -> str:
    """Return the text by which two answers count as the same.

    Width, case, spaces and what can't be seen (zero-width characters) do not tell people apart.
    """
    text = "、".join(map(str, value)) if isinstance(value, list) else str(value)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if not char.isspace() and unicodedata.category(char) != "Cf")


def masked(value: Any, kind: str | None) -> str:
    """Return a sensitive answer as staff see it by default: enough to recognise, not enough to use.

    What is chosen from a few values (an option, a switch, a date) would be given away by any part of it.
    """
    if kind not in PARTLY_SHOWN:
        return "***"
    text = str(value)
    if len(text) <= 2:
        return "*" * len(text)
    if len(text) <= 6:
        return text[0] + "*" * (len(text) - 1)
    return text[:3] + "*" * (len(text) - 5) + text[-2:]


_PHONE = FormField(key="phone", type=FieldType.MOBILE, label="phone")


def mobile(text: str) -> str | None:
    """Return a mobile number in its normal form, or None where it is none."""
    try:
        found: str = checked(_PHONE, text.strip())
        return found
    except Fault:
        return None
