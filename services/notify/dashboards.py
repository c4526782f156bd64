"""Dashboards: the figures of a range of days beside those of the range before, from the totals alone."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.orm import Session

from libs.common.errors import Invalid, Texts
from libs.contracts.principals import Staff
from services.notify import policy
from services.notify.models import DayStat, HourStat
from services.notify.totals import OF_DAY, OF_HOUR

MOST_DAYS = 366
MOST_ITEMS = 20
EARLIEST = date(2000, 1, 1)
MONDAY = date.min

Sums = Mapping[str, int]


class BadRange(Invalid):
    code = "bad_range"
    texts = Texts(
        en="The range has to begin after 1999, not after its end, and to have {most_days} days at most.",
        zh="日期范围无效：开始日期不能晚于结束日期，且最多 {most_days} 天",
    )


@dataclass(frozen=True)
class Range:
    """Days from the first to the last, both included."""

    first: date
    last: date

    @classmethod
    def of(cls, first: date, last: date) -> "Range":
        """Return the range, or raise BadRange."""
        if not EARLIEST <= first <= last or (last - first).days >= MOST_DAYS:
            raise BadRange(most_days=MOST_DAYS)
        return cls(first, last)

    def before(self) -> "Range":
        """Return the range of the same length that ends on the day before."""
        length = self.last - self.first + timedelta(days=1)
        return Range(self.first - length, self.last - length)


@dataclass(frozen=True)
class Wanted:
    """What a dashboard is about: a hall or all that one may see, an item or all."""

    days: Range
    hall_id: str | None
    item_id: str | None


@dataclass(frozen=True)
class Dashboard:
    """Sums by the keys that name them; `items` has those with most bookings first."""

    total: Sums
    before: Sums
    days: list[tuple[date, Sums]]
    halls: list[tuple[str, Sums]]
    items: list[tuple[tuple[str, str], Sums]]
    hours: list[tuple[tuple[int, int], Sums]]  # ISO weekday and hour in the hall's zone, at which slots begin


def look(session: Session, staff: Staff, wanted: Wanted) -> Dashboard:
    """Return the figures within the scope of the account."""
    days = _grouped(session, staff, wanted, DayStat, [DayStat.day], (*OF_HOUR, "lead_minutes"))
    by_item = _grouped(session, staff, wanted, DayStat, [DayStat.hall_id, DayStat.item_id], OF_DAY)
    earlier = Wanted(wanted.days.before(), wanted.hall_id, wanted.item_id)
    before = _grouped(session, staff, earlier, DayStat, [], OF_DAY)
    weekday = (HourStat.day - literal(MONDAY)) % 7 + 1
    hours = _grouped(session, staff, wanted, HourStat, [weekday, HourStat.hour], OF_HOUR)
    halls: dict[str, Counter[str]] = {}
    for (hall_id, _), sums in by_item:
        halls.setdefault(hall_id, Counter()).update(sums)
    return Dashboard(
        total=_summed(sums for _, sums in by_item),
        before=_summed(sums for _, sums in before),
        days=sorted((day, sums) for (day,), sums in days),
        halls=sorted(halls.items(), key=_most_first),
        items=sorted(by_item, key=_most_first)[:MOST_ITEMS],
        hours=sorted(hours, key=lambda found: found[0]),
    )


def _most_first(found: tuple[Any, Sums]) -> tuple[int, Any]:
    key, sums = found
    return -sums["booked"], key


def _summed(found: Iterable[Sums]) -> Sums:
    total = Counter(dict.fromkeys(OF_DAY, 0))
    for sums in found:
        total.update(sums)
    return total


def _grouped(
    session: Session, staff: Staff, wanted: Wanted, table: Any, keys: list[Any], names: tuple[str, ...]
) -> list[tuple[Any, Sums]]:
    query: Select[Any] = select(*keys, *(func.sum(getattr(table, name)) for name in names))
    rows = session.execute(query.where(*_within(staff, wanted, table)).group_by(*keys))
    width = len(keys)
    return [
        (tuple(row[:width]), {name: int(value or 0) for name, value in zip(names, row[width:], strict=True)})
        for row in rows
    ]


def _within(staff: Staff, wanted: Wanted, table: Any) -> list[ColumnElement[bool]]:
    conditions = [table.day.between(wanted.days.first, wanted.days.last), staff.sees(table.hall_id)]
    if wanted.hall_id is not None:
        conditions.append(table.hall_id == wanted.hall_id)
    if wanted.item_id is not None:
        conditions.append(table.item_id == wanted.item_id)
    return conditions


# --- rates ---


def fill_rate(sums: Sums) -> float | None:
    """Return how much of the capacity is booked, over slots with a limit; null where there is none."""
    return sums["limited"] / sums["capacity"] if sums["capacity"] else None


def no_show_rate(sums: Sums) -> float | None:
    """Return how many were missed of those of whom it is known whether they came."""
    known = sums["checked_in"] + sums["missed"]
    return sums["missed"] / known if known else None


def leads(sums: Sums) -> list[tuple[float | None, int]]:
    """Return how many were booked how many hours before, or less (null: any longer), by class from the shortest."""
    classes = [(bound / timedelta(hours=1), sums[name]) for name, bound in policy.LEADS.items()]
    return [*classes, (None, sums["booked"] - sum(count for _, count in classes))]


def average_lead(sums: Sums) -> float | None:
    """Return hours from booking to the slot's start."""
    return sums["lead_minutes"] / 60 / sums["booked"] if sums["booked"] else None


def median_lead(sums: Sums) -> float | None:
    """Return the median of the hours before, as if each class were evenly filled; null in the last class, too."""
    half, below, passed = sums["booked"] / 2, 0.0, 0
    for bound, count in leads(sums):
        if count and passed + count >= half:
            return None if bound is None else below + (bound - below) * (half - passed) / count
        below, passed = bound or below, passed + count
    return None
