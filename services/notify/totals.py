"""Totals: the sums of slots by day and hour, kept exact with every change of a slot's stat."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import Select, case, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notify import statements
from services.notify.models import DayStat, HourStat, SlotStat
from services.notify.policy import COUNTS

STATES = ("booked", "cancelled", "revoked", "checked_in", "missed")
OF_HOUR = ("slots", *STATES, "limited", "capacity")
OF_DAY = (*OF_HOUR, *(name for name in COUNTS if name not in STATES))
DAY_KEY = ("day", "hall_id", "item_id")
HOUR_KEY = (*DAY_KEY, "hour")

Stat = Mapping[str, Any]  # a row of slot_stats
Key = tuple[Any, ...]


@dataclass
class Shifts:
    """What is to be added to the totals, by the keys of their rows."""

    days: defaultdict[Key, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    hours: defaultdict[Key, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def replace(self, before: Stat, after: Stat) -> None:
        """Take away what a slot's stat has counted for, and add what it counts for now."""
        self._count(before, -1)
        self._count(after, +1)

    def _count(self, stat: Stat, sign: int) -> None:
        if stat["item_id"] is None:
            return
        share = _share(stat, sign)
        self.days[tuple(stat[name] for name in DAY_KEY)].update(share)
        if stat["hour"] is not None:
            self.hours[tuple(stat[name] for name in HOUR_KEY)].update(share)


def _share(stat: Stat, sign: int) -> dict[str, int]:
    share = {name: sign * stat[name] for name in COUNTS}
    has_limit = stat["capacity"] is not None
    return share | {
        "slots": sign,
        "limited": share["booked"] if has_limit else 0,
        "capacity": sign * stat["capacity"] if has_limit else 0,
    }


def add(session: Session, shifts: Shifts) -> None:
    """Add to the totals. Rows are locked days first, each table in the order of its keys; slots have been before."""
    for statement, keys, names, sums in (
        (statements.ADD_TO_DAYS, DAY_KEY, OF_DAY, shifts.days),
        (statements.ADD_TO_HOURS, HOUR_KEY, OF_HOUR, shifts.hours),
    ):
        rows = [
            dict(zip(keys, key, strict=True)) | {name: change[name] for name in names}
            for key, change in sorted(sums.items())
            if any(change[name] for name in names)
        ]
        if rows:
            statements.carry_out(session, statement, rows)


@dataclass(frozen=True)
class Difference:
    """A total that was not what the stats of its slots say."""

    key: Key
    was: dict[str, int]
    counted: dict[str, int]


def recount(session: Session, hall_id: str, day: date) -> list[Difference]:
    """Sum up the slots of a hall's day again, put right the totals that differ, and return how they did.

    Exact beside running consumers: whoever changes a slot holds its totals until the commit, so with the totals locked
    every change is either in both or in neither.
    """
    return [
        *_recount(session, DayStat, DAY_KEY, OF_DAY, hall_id, day),
        *_recount(session, HourStat, HOUR_KEY, OF_HOUR, hall_id, day),
    ]


def _recount(
    session: Session, table: Any, keys: Key, names: tuple[str, ...], hall_id: str, day: date
) -> list[Difference]:
    by_key = [getattr(SlotStat, name) for name in keys]
    here = [SlotStat.hall_id == hall_id, SlotStat.day == day, *(column.is_not(None) for column in by_key)]
    nothing = [literal(0).label(name) for name in names]
    fresh = select(*by_key, *nothing).where(*here).distinct().order_by(*by_key)
    session.execute(insert(table).from_select([*keys, *names], fresh).on_conflict_do_nothing())
    columns = [getattr(table, name) for name in (*keys, *names)]
    kept = session.execute(
        select(*columns)
        .where(table.hall_id == hall_id, table.day == day)
        .order_by(*columns[: len(keys)])
        .with_for_update()
    ).all()
    counted = {
        tuple(row[: len(keys)]): dict(zip(names, map(int, row[len(keys) :]), strict=True))
        for row in session.execute(_sums(by_key, names).where(*here).group_by(*by_key))
    }
    found = []
    shifts: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in kept:
        key, was = tuple(row[: len(keys)]), dict(zip(names, row[len(keys) :], strict=True))
        now = counted.get(key) or dict.fromkeys(names, 0)
        if was != now:
            found.append(Difference(key, was, now))
            shifts[key].update({name: now[name] - was[name] for name in names})
    add(session, Shifts(days=shifts) if table is DayStat else Shifts(hours=shifts))
    return found


def _sums(by_key: list[Any], names: tuple[str, ...]) -> Select[Any]:
    special: dict[str, Any] = {
        "slots": func.count(),
        "limited": func.sum(case((SlotStat.capacity.is_not(None), SlotStat.booked), else_=0)),
        "capacity": func.sum(func.coalesce(SlotStat.capacity, 0)),
    }
    sums = [special[name] if name in special else func.sum(getattr(SlotStat, name)) for name in names]
    return select(*by_key, *sums)
