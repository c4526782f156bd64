"""What an edit changes: the difference that is written, versioned and audited."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from services.catalog import errors


def given(data: BaseModel, *, apart: set[str] | None = None) -> dict[str, Any]:
    """Return the fields that the caller sent, as the columns hold them."""
    return data.model_dump(mode="json", include=data.model_fields_set - (apart or set()))


def apply(row: Any, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Write what differs into a row locked by the caller and count its version up; return (before, after).

    None where nothing differs: such an edit is no edit.
    """
    before = {name: getattr(row, name) for name, value in wanted.items() if getattr(row, name) != value}
    if not before:
        return None
    after = {name: wanted[name] for name in before}
    for name, value in after.items():
        setattr(row, name, value)
    row.version += 1
    return before, after


@contextmanager
def names_unique() -> Iterator[None]:
    """Turn the database's word that a name exists already into NameTaken."""
    try:
        yield
    except IntegrityError as error:
        if (getattr(getattr(error.orig, "diag", None), "constraint_name", None) or "").startswith("uq_"):
            raise errors.NameTaken from error
        raise
