"""The words of inputs: what clients write for a date, an instant or a choice, in a body or a query."""

import re
from datetime import date, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BeforeValidator, Field

T = TypeVar("T")

# JSON has no type of its own for it: what stands in quotes is read. Schema takes nothing else for something it is not.
Spelled = Annotated[T, Field(strict=False)]


def _written_as(pattern: str, kind: type, how: str) -> BeforeValidator:
    # Pydantic would also take seconds since 1970, in a query too, and instants at midnight for a date.
    form = re.compile(pattern, re.ASCII)

    def check(value: Any) -> Any:
        if type(value) is kind or (isinstance(value, str) and form.fullmatch(value)):
            return value
        raise ValueError(how)

    return BeforeValidator(check)


Date = Annotated[Spelled[date], _written_as(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date, "a date is written YYYY-MM-DD")]
Instant = Annotated[
    Spelled[AwareDatetime],
    _written_as(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*",
        datetime,
        "an instant is written YYYY-MM-DDTHH:MM:SS with an offset (RFC 3339)",
    ),
]
