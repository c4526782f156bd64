"""The kinds of values that clients send to catalog."""

import re
from datetime import date, time
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from libs.common import inputs
from libs.common.inputs import OneLine, Spelled, Visible, unfit
from libs.contracts.catalog import HourMinute

FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2199, 12, 31)
MOST_DATES = 366


def _in_range(value: date) -> date:
    if not FIRST_DATE <= value <= LAST_DATE:
        raise unfit("date_out_of_range", first=FIRST_DATE.isoformat(), last=LAST_DATE.isoformat())
    return value


def _plain_time(value: Any) -> Any:
    # Pydantic would also take seconds since midnight, fractions and offsets. 24:00 is not a time.
    if not isinstance(value, time) and not (
        isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII)
    ):
        raise unfit("not_a_time")
    return value


Date = Annotated[inputs.Date, AfterValidator(_in_range)]
TimeOfDay = Annotated[
    Spelled[HourMinute],
    BeforeValidator(_plain_time),
    WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$", "examples": ["09:30"]}),
]

Name = Annotated[str, StringConstraints(min_length=1, max_length=60), OneLine, Visible]
Title = Annotated[str, StringConstraints(min_length=1, max_length=100), OneLine, Visible]
Line = Annotated[str, StringConstraints(max_length=200), OneLine]
Prose = Annotated[str, StringConstraints(max_length=20_000)]
Picture = Annotated[str, StringConstraints(max_length=500, pattern=r"^(https?://\S+|/\S*)?$")]
Order = Annotated[int, Field(ge=0, le=1_000_000, description="0 comes first")]
LAST = 9999  # the order of what has none of its own
Capacity = Annotated[int | None, Field(ge=0, le=1_000_000, description="in people; null: no limit")]
ISO_WEEKDAY = "1 is Monday, 7 is Sunday"
Weekday = Annotated[int, Field(ge=1, le=7)]
Weekdays = Annotated[Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None, Field(description=ISO_WEEKDAY)]


def unset() -> Any:
    """Return the value of a field that a PATCH left out; nobody reads it (`model_dump(exclude_unset=True)`)."""
    return None
