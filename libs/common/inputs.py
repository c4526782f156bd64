"""The words of inputs: what clients write for a date, an instant or a choice, in a body or a query."""

import re
import unicodedata
from datetime import date, datetime
from typing import Annotated, Any, LiteralString, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

T = TypeVar("T")

# JSON has no type of its own for it: what stands in quotes is read. Schema takes nothing else for something it is not.
Spelled = Annotated[T, Field(strict=False)]


def _written_as(pattern: str, kind: type, reason: LiteralString) -> BeforeValidator:
    # Pydantic would also take seconds since 1970, in a query too, and instants at midnight for a date.
    form = re.compile(pattern, re.ASCII)

    def check(value: Any) -> Any:
        if type(value) is kind or (isinstance(value, str) and form.fullmatch(value)):
            return value
        raise unfit(reason)

    return BeforeValidator(check)


def unfit(reason: LiteralString, **params: Any) -> PydanticCustomError:
    """Return what a validator raises: `reason` is a key of faults.SENTENCES."""
    return PydanticCustomError(reason, "{reason}", params | {"reason": reason})


# Beside controls and what ends a line or paragraph: what turns the direction of text around it, so that a name reads as
# another. The joiners that emoji are made of stay.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_one_line(text: str) -> bool:
    """Whether text stands in one line, and as it is written, wherever it is shown: in a list, a sheet's name, a header."""
    return not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or character in _TURNING
        or _is_no_character(ord(character))
        for character in text
    )


def _is_no_character(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _without_controls(text: str) -> str:
    if not is_one_line(text):
        raise unfit("control_characters")
    return text


# For text that stands in one line wherever it is shown.
OneLine = AfterValidator(_without_controls)


def seen(text: str) -> int:
    """Return how many characters of a text are seen."""
    return sum(unicodedata.category(character)[0] not in "CZ" for character in text)


def _visible(text: str) -> str:
    if not seen(text):
        raise unfit("nothing_to_read")
    return text


# For a name by which something is found in a list.
Visible = AfterValidator(_visible)


def is_told(text: str) -> bool:
    """Whether there is something to read in a text: two characters that are seen."""
    return seen(text) >= 2


def _told(text: str) -> str:
    if not is_told(text):
        raise unfit("nothing_to_read")
    return text


# For a reason that somebody is to be able to read.
Told = AfterValidator(_told)


Date = Annotated[Spelled[date], _written_as(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date, "not_a_date")]
Instant = Annotated[
    Spelled[AwareDatetime],
    _written_as(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*",
        datetime,
        "not_an_instant",
    ),
]
