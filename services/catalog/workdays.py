"""Which dates are not like their weekday: statutory days off and make-up workdays in China, or the operator's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from holidays import HolidayBase, country_holidays

Source = Literal["statutory", "all_halls", "hall"]

_ONE_DAY = timedelta(days=1)


class SpecialKind(StrEnum):
    DAY_OFF = "day_off"
    WORKDAY = "workday"


@dataclass(frozen=True)
class Special:
    """What a date is instead of an ordinary one, what it is called, and who says so."""

    kind: SpecialKind
    name: str
    source: Source


def statutory(on: date) -> Special | None:
    """Return what the State Council's calendar makes of a date; None where it is like its weekday.

    The weekend beside a holiday is a part of it. In a year that is not announced yet, only the days off that the law
    itself names are known.
    """
    year = _china(on.year)
    if on in year:
        return Special(SpecialKind.DAY_OFF, year[on], "statutory")
    if on in year.weekend_workdays:
        return Special(SpecialKind.WORKDAY, "调休上班", "statutory")
    if _is_weekend(on) and any(beside in _china(beside.year) for beside in _around(on)):
        return Special(SpecialKind.DAY_OFF, "周末连休", "statutory")
    return None


def is_announced(year: int) -> bool:
    """Whether bridge days and make-up workdays of a year are known: the State Council announces them each November."""
    return any(day.year == year for day in _china(year).weekend_workdays)


def _around(weekend: date) -> Iterator[date]:
    """Yield what comes before and after a weekend day, beyond the rest of its weekend."""
    for step in (-_ONE_DAY, _ONE_DAY):
        beside = weekend + step
        while _is_weekend(beside) and not _is_named(beside):
            beside += step
        yield beside


def _is_named(on: date) -> bool:
    year = _china(on.year)
    return on in year or on in year.weekend_workdays


def _is_weekend(on: date) -> bool:
    return on.isoweekday() > 5


@lru_cache
def _china(year: int) -> HolidayBase:
    # Whole and never changed: an instance that grows by the years asked for shows other threads half of one.
    return country_holidays("CN", years=year, expand=False, language="zh_CN")
