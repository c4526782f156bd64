"""Edits: what changed between two versions of something, so that the second of two who edit it is told."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from libs.common import etags
from libs.common.clock import utcnow
from libs.common.errors import Stale
from libs.common.etags import Versioned
from libs.contracts.principals import Staff
from services.catalog import errors
from services.catalog.models import Edit, Slot

KEPT = timedelta(days=30)

Fields = dict[str, Any]


def note(session: Session, staff: Staff | None, row: Versioned, *, before: Fields, after: Fields) -> None:
    """Keep what made the row's present version: the fields that differ, as they were and as they are.

    Nobody (None) is who edits what has to follow from elsewhere. A field that is not there on one side was, or is, none.
    """
    note_all(session, staff, [(row, before, after)])


def note_all(session: Session, staff: Staff | None, made: list[tuple[Versioned, Fields, Fields]]) -> None:
    """Keep what made the present versions of many rows."""
    now = utcnow()
    rows = [
        {
            "object_id": row.id,
            "version": row.version,
            "staff_name": staff.name if staff else None,
            "edited_at": now,
            "before": {name: before.get(name) for name in _differing(before, after)},
            "after": {name: after.get(name) for name in _differing(before, after)},
        }
        for row, before, after in made
    ]
    if rows:
        session.execute(insert(Edit), rows)


def _differing(before: Fields, after: Fields) -> list[str]:
    return [name for name in before | after if before.get(name) != after.get(name)]


def require(session: Session, if_match: str | None, row: Versioned) -> None:
    """Raise Stale where the caller names a version and it is not the present one; with what changed, where that is kept."""
    if if_match is None or etags.matches(if_match, etags.of(row)):
        return
    raise outdated(session, row, loaded=etags.version_in(if_match, row))


def outdated(session: Session, row: Any, *, loaded: int | None) -> Stale:
    """Return what to tell somebody who has loaded this version, or (0) believes that there is none."""
    present = {"version": row.version, "etag": etags.of(row)}
    made = [] if loaded is None else _since(session, row, loaded)
    if not made:
        return Stale(**present)
    names = ", ".join(dict.fromkeys(edit.staff_name for edit in made if edit.staff_name))
    kind = errors.EditedMeanwhile if names else Stale
    return kind(**present, by=names, changes=_changes(made))


def _since(session: Session, row: Any, loaded: int) -> list[Edit]:
    """Return the edits after that version in their order; none where one of them is not kept (any more)."""
    found = session.scalars(
        select(Edit)
        .where(Edit.object_id == row.id, Edit.version > loaded, Edit.version <= row.version)
        .order_by(Edit.version)
    ).all()
    return list(found) if len(found) == row.version - loaded else []


def _changes(made: list[Edit]) -> list[dict[str, Any]]:
    """Return for each field that is another now what it was at first, what it is, and who changed it last."""
    changes: dict[str, dict[str, Any]] = {}
    for edit in made:
        for field, after in edit.after.items():
            change = changes.setdefault(field, {"field": field, "before": edit.before[field]})
            change |= {"after": after, "by": edit.staff_name, "at": edit.edited_at.isoformat()}
    return [change for change in changes.values() if change["before"] != change["after"]]


def slot_fields(slots: Iterable[Slot]) -> Fields:
    """Return slots as an editor of their day sees them change: each is one field."""
    return {f"slots.{slot.id}": slot_definition(slot) for slot in slots}


def slot_definition(slot: Slot) -> dict[str, Any]:
    """Return of a slot what staff say of it, as JSON holds it."""
    return {
        "id": slot.id,
        "start": slot.start.strftime("%H:%M"),
        "end": slot.end.strftime("%H:%M"),
        "capacity": slot.capacity,
        "status": slot.status,
    }


def sweep(session: Session, *, now: datetime) -> int:
    """Forget what nobody can still have open; return how many edits that were."""
    gone = session.execute(delete(Edit).where(Edit.edited_at < now - KEPT))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a DML result has a rowcount
