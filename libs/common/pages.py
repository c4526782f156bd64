"""Keyset pagination: a page ends where the next one begins, whatever is inserted meanwhile."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import BigInteger, ColumnElement, Row, Select, and_, or_
from sqlalchemy.orm import Session

from libs.common import storable
from libs.common.errors import Invalid, Texts
from libs.common.ids import parse_id

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=100, description="how many at most")]
CursorText = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")]


class Page(BaseModel, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None


class BadCursor(Invalid):
    code = "bad_cursor"
    texts = Texts(en="This cursor is not one that the list gave out.", zh="分页参数无效，请从第一页重新加载")


@dataclass(frozen=True)
class Key:
    """One column of the order: `kind` is int, str, date or datetime, or "id"."""

    column: Any
    kind: Any
    descending: bool = False


def fetch(
    session: Session, query: Select[*tuple[Any, ...]], *, keys: Sequence[Key], limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """Run a query in the order of `keys` and return (results, next_cursor).

    A result is the entity, or the row of entities where the query selects several.
    The keys must be unique together and never null. Raises BadCursor for a cursor that is none of ours.
    """
    statement = query
    width = len(query.column_descriptions)
    if cursor is not None:
        statement = statement.where(_after(keys, _decode(cursor, keys)))
    statement = statement.order_by(*(key.column.desc() if key.descending else key.column.asc() for key in keys))
    statement = statement.add_columns(*(key.column for key in keys)).limit(limit + 1)
    rows: list[Row[Any]] = list(session.execute(statement).all())
    page = rows[:limit]
    next_cursor = _encode(page[-1][-len(keys) :]) if len(rows) > limit else None
    return [row[0] if width == 1 else row[:width] for row in page], next_cursor


def cut(
    found: Sequence[Item], *, by: Callable[[Item], tuple[Any, ...]], keys: Sequence[Key], limit: int, cursor: str | None
) -> tuple[list[Item], str | None]:
    """Return (a page, next_cursor) of what is in memory, in the order of `by`, whose values are of the keys' kinds.

    Keys are ascending and have no column.
    """
    ordered = sorted(found, key=by)
    if cursor is not None:
        last = tuple(_decode(cursor, keys))
        ordered = [each for each in ordered if by(each) > last]
    page = ordered[:limit]
    return page, _encode(by(page[-1])) if len(ordered) > limit else None


def _after(keys: Sequence[Key], values: list[Any]) -> ColumnElement[bool]:
    alternatives = []
    for index, key in enumerate(keys):
        beyond = key.column < values[index] if key.descending else key.column > values[index]
        same = [keys[earlier].column == values[earlier] for earlier in range(index)]
        alternatives.append(and_(*same, beyond))
    return or_(*alternatives)


def _encode(values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, (date, datetime)) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).rstrip(b"=").decode()


def _decode(cursor: str, keys: Sequence[Key]) -> list[Any]:
    try:
        plain = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(plain, list) or len(plain) != len(keys):
            raise BadCursor
        return [_value(key, value) for key, value in zip(keys, plain, strict=True)]
    except (ValueError, TypeError, OverflowError, binascii.Error, UnicodeError, RecursionError):
        raise BadCursor from None


def _value(key: Key, value: Any) -> Any:
    """Return what the column can be compared with: what its type can't hold would be an error of the database."""
    if key.kind is int:
        return _integer(value, bits=64 if isinstance(key.column.type, BigInteger) else 32)
    if not isinstance(value, str):
        raise BadCursor
    if key.kind == "id":
        parsed = parse_id(value)
        if parsed is None:
            raise BadCursor
        return parsed
    if key.kind is datetime:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            raise BadCursor
        return instant.astimezone(UTC)
    return date.fromisoformat(value) if key.kind is date else storable.text(value)


def _integer(value: Any, *, bits: int) -> int:
    if type(value) is not int or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):  # True is an int, too
        raise BadCursor
    return value
