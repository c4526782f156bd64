"""Special days: days off and workdays by the operator's word, and what the calendar of a hall becomes with them."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Unpack

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.principals import Role, Staff
from services.catalog import changes, edits, errors, halls, workdays
from services.catalog.calendar_schemas import SpecialDaysIn
from services.catalog.edits import Fields
from services.catalog.inputs import MOST_DATES
from services.catalog.models import SpecialDay
from services.catalog.workdays import Special, SpecialKind

ALL_HALLS = "all"  # what the audit trail calls the calendar that is no hall's own


def dates_between(first: date, last: date) -> list[date]:
    """Return the dates of a range, both ends included, or raise RangeUnfit."""
    span = (last - first).days + 1
    if not 1 <= span <= MOST_DATES:
        raise errors.RangeUnfit(days=MOST_DATES)
    return [first + timedelta(days=ahead) for ahead in range(span)]


def known(session: Session, hall_id: str, dates: Sequence[date], *, statutory: bool) -> dict[date, Special]:
    """Return what is special about dates: by the hall's word, else by that for all halls, else by the calendar."""
    found: dict[date, Special] = {}
    if statutory:
        found = {on: special for on in dates if (special := workdays.statutory(on)) is not None}
    rows = session.scalars(
        select(SpecialDay)
        .where(SpecialDay.date.in_(dates))
        .where((SpecialDay.hall_id == hall_id) | SpecialDay.hall_id.is_(None))
        .order_by(SpecialDay.hall_id.nulls_first())
    )
    for row in rows:
        source: workdays.Source = "all_halls" if row.hall_id is None else "hall"
        found[row.date] = Special(SpecialKind(row.kind), row.name, source)
    return found


def years_not_announced(dates: Sequence[date]) -> list[int]:
    """Return the years of these dates whose holidays are known by the law alone."""
    return [year for year in sorted({on.year for on in dates}) if not workdays.is_announced(year)]


def listed(
    session: Session,
    staff: Staff,
    *,
    hall_id: str | None,
    first: date | None,
    last: date | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[SpecialDay], str | None]:
    """Return the special days of the staff's halls and those for all halls; with `hall_id`, those that this hall has."""
    query = select(SpecialDay).where(_is_visible(staff))
    if hall_id is not None:
        query = query.where((SpecialDay.hall_id == hall_id) | SpecialDay.hall_id.is_(None))
    if first is not None:
        query = query.where(SpecialDay.date >= first)
    if last is not None:
        query = query.where(SpecialDay.date <= last)
    return fetch(
        session, query, keys=[Key(SpecialDay.date, date), Key(SpecialDay.id, "id")], limit=limit, cursor=cursor
    )


def put(
    session: Session, staff: Staff, data: SpecialDaysIn, *, if_match: str | None, if_none_match: str | None
) -> list[SpecialDay]:
    """Make dates special, in place of what was said of them before. Days that were filled stay as they are.

    Raises Stale where one of the dates is special in a version that `if_match` does not name, or where it is at all and
    `if_none_match` is `*`.
    """
    _check_scope(session, staff, data.hall_id)
    wanted = {"kind": data.kind.value, "name": data.name}
    rows, made = _claim(session, data.hall_id, sorted(set(data.dates)), wanted)
    standing = [row for row in rows if row.id not in made]
    for row in standing:
        edits.require(session, if_match, row)
        if if_none_match is not None and if_none_match.strip() == "*":
            raise edits.outdated(session, row, loaded=0)
    before = {row.date.isoformat(): _shown(row) for row in standing}
    changed = [row for row in rows if row.id in made or changes.apply(row, wanted)]
    session.flush()
    after = {row.date.isoformat(): _shown(row) for row in rows}
    if changed:
        edits.note_all(session, staff, [(row, *_noted(row, before, after)) for row in changed])
        _audit(session, staff, "special_days.set", data.hall_id, before=before or None, after=after)
    return rows


def _claim(
    session: Session, hall_id: str | None, dates: Sequence[date], said: dict[str, str]
) -> tuple[list[SpecialDay], set[str]]:
    """Return the special days of these dates, locked and as they were, and the ids of those that were made by this."""
    ids = {on: new_id() for on in dates}
    claimed = insert(SpecialDay).values(
        [{"id": ids[on], "hall_id": hall_id, "date": on, "version": 1, **said} for on in dates]
    )
    # What is there already is locked by this, and stays: nobody deletes it between two statements.
    claimed = claimed.on_conflict_do_update(index_elements=["hall_id", "date"], set_={"date": claimed.excluded.date})
    rows = session.scalars(claimed.returning(SpecialDay), execution_options={"populate_existing": True}).all()
    return sorted(rows, key=lambda row: row.date), {row.id for row in rows if row.id == ids[row.date]}


def _noted(row: SpecialDay, before: Fields, after: Fields) -> tuple[Fields, Fields]:
    """Return what an edit changed: the date is the field, so that whoever is told knows which one of many it is."""
    on = row.date.isoformat()
    return {on: before.get(on)}, {on: after[on]}


def delete(session: Session, staff: Staff, special_day_id: str, *, if_match: str | None) -> None:
    """Let a date be again what the calendar says. Days that were filled stay as they are."""
    row = session.scalar(
        select(SpecialDay).where(SpecialDay.id == special_day_id, _is_visible(staff)).with_for_update()
    )
    if row is None:
        raise NotFound
    _check_scope(session, staff, row.hall_id)
    edits.require(session, if_match, row)
    session.delete(row)
    session.flush()
    _audit(session, staff, "special_day.deleted", row.hall_id, before={row.date.isoformat(): _shown(row)})


def _is_visible(staff: Staff) -> Any:
    return staff.sees(SpecialDay.hall_id) | SpecialDay.hall_id.is_(None)


def _check_scope(session: Session, staff: Staff, hall_id: str | None) -> None:
    if hall_id is not None:
        halls.get(session, staff, hall_id)
    elif staff.role != Role.SUPER_ADMIN:
        raise errors.GlobalSpecialDay


def _shown(row: SpecialDay) -> dict[str, str]:
    return {"kind": row.kind, "name": row.name}


def _audit(session: Session, staff: Staff, action: str, hall_id: str | None, **details: Unpack[audit.Details]) -> None:
    audit.record(
        session, staff, action, object_type="calendar", object_id=hall_id or ALL_HALLS, hall_id=hall_id, **details
    )
