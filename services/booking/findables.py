"""Findables: what an attendee can be found by, kept beside the joins and written after them.

A booking pays nothing for it: a task reads what was booked since and adds it within seconds. Found is a part of a plain
text answer, and the whole of an identifying one, which is kept as a keyed hash whether or not it is sensitive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.contracts.catalog import FieldType
from services.booking import answers, claims, forms
from services.booking.answers import Fields
from services.booking.models import Findable, Item, Join, User

BATCH = 1_000
# Ids begin with the time at which they were made; a join is committed seconds later at most, on some other clock.
LATE = timedelta(minutes=2)
DIGEST_BYTES = 16

# What tells one person from another. That somebody chose an option, or was born on a day, is not for guessing.
IDENTIFYING = frozenset({FieldType.TEXT, FieldType.DIGITS, FieldType.MOBILE, FieldType.ID_CARD, FieldType.PLATE})


@dataclass(frozen=True)
class Sought:
    """A person that staff look for: the text as it was written, folded, and by hash."""

    text: str
    folded: str
    digests: list[bytes]


def sought(sealer: Sealer, text: str) -> Sought:
    """Return how a name, or a whole number in any spelling, is looked for."""
    spellings = {forms.unique_text(spelling) for spelling in (text, forms.mobile(text)) if spelling is not None}
    return Sought(text, forms.unique_text(text), [digest(sealer, spelling) for spelling in sorted(spellings)])


def digest(sealer: Sealer, folded: str) -> bytes:
    """Return the keyed hash by which a folded answer, or a user's phone number, is found."""
    return sealer.digest(folded, about="findable")[:DIGEST_BYTES]


def is_of(person: Sought) -> ColumnElement[bool]:
    """Return the condition that a join is this person's, or was made by a user of this name or phone number.

    What an answer is found by follows the item's form of now: what that calls sensitive is not found by a part of it.
    """
    by_answer = _up_to_date(select(Findable.join_id))
    by_user = select(Join.id).join(User, User.id == Join.user_id)
    ways = [
        by_answer.where(Findable.digests.overlap(person.digests)),
        by_user.where(User.phone_digest.in_(person.digests)),
    ]
    if person.folded:
        ways.append(by_answer.where(Findable.words.contains(person.folded, autoescape=True)))
        ways.append(by_user.where(User.name.icontains(person.text, autoescape=True)))
    return Join.id.in_(ways[0].union(*ways[1:]))


def _up_to_date(query: Select[str]) -> Select[str]:
    return query.join(Item, Item.id == Findable.item_id).where(Findable.form_version == Item.form_version)


# --- keeping them ---


def catch_up(session: Session, sealer: Sealer) -> int:
    """Add some of the joins that were booked since the last time, and renew some whose form has changed; return how many."""
    lock(session)
    newest = session.scalar(select(Findable.join_id).order_by(Findable.join_id.desc()).limit(1))
    added = _add(session, sealer, _missing(since=_shortly_before(newest) if newest else None))
    return added or _renew(session, sealer)


def sweep(session: Session, sealer: Sealer) -> int:
    """Add some of the joins that were missed, whenever they were booked; return how many."""
    lock(session)
    return _add(session, sealer, _missing(since=None))


def lock(session: Session) -> None:
    """Let nobody else write findables until this transaction ends: what is read for them stays as it is."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("findables", 0))))


def _missing(*, since: str | None) -> Select[*tuple[Any, ...]]:
    there = select(Findable.join_id).where(Findable.join_id == Join.id)
    query = _joins().order_by(Join.id)
    if since is not None:
        # Said of both: else the one or the other table would be read from its beginning.
        there = there.where(Findable.join_id >= since)
        query = query.where(Join.id >= since)
    return query.where(~there.exists())


def _joins() -> Select[*tuple[Any, ...]]:
    return select(Join.id, Join.item_id, Join.form_version, Join.answers, Join.sealed).limit(BATCH)


def _shortly_before(join_id: str) -> str:
    """Return the lowest id that could have been made shortly before this one (RFC 9562, 5.7: 48 bits of milliseconds)."""
    made_ms = UUID(join_id).int >> 80
    return str(UUID(int=(made_ms - LATE // timedelta(milliseconds=1)) << 80))


def _renew(session: Session, sealer: Sealer) -> int:
    outdated = (
        select(Findable.join_id)
        .join(Item, Item.id == Findable.item_id)
        .where(Findable.form_version < Item.form_version)
        .limit(BATCH)
    )
    return _add(session, sealer, _joins().where(Join.id.in_(session.scalars(outdated).all())))


def _add(session: Session, sealer: Sealer, query: Select[*tuple[Any, ...]]) -> int:
    joins = session.execute(query).all()
    if not joins:
        return 0
    item_ids = {row.item_id for row in joins}
    of_items = answers.forms_of(session, item_ids)
    now_at = dict(session.execute(select(Item.id, Item.form_version).where(Item.id.in_(item_ids))).all())
    rows = []
    for row in joins:
        latest = of_items[row.item_id, None]
        made_with = of_items.get((row.item_id, row.form_version), latest)
        sensitive = answers.unsealed(sealer, row.id, row.sealed)
        found_by = _found_by(sealer, made_with, latest, row.answers, sensitive)
        rows.append({"join_id": row.id, "item_id": row.item_id, "form_version": now_at[row.item_id]} | found_by)
    statement = insert(Findable)
    renewed = {name: statement.excluded[name] for name in ("form_version", "words", "digests")}
    session.execute(statement.on_conflict_do_update(index_elements=["join_id"], set_=renewed), rows)
    claims.complete(session, sealer, [row.id for row in joins])  # these are the joins whose form may have changed
    return len(rows)


def _found_by(
    sealer: Sealer, made_with: Fields, latest: Fields, plain: dict[str, Any], sensitive: dict[str, Any]
) -> dict[str, Any]:
    """Return what a join is found by: its form says what its answers are, the latest fields which of them are masked."""
    shown = {key: value for key, value in plain.items() if not (key in latest and latest[key].is_sensitive)}
    words = [text for kind, text in _identifying(made_with, shown) if kind == FieldType.TEXT]
    digests = {digest(sealer, text) for _, text in _identifying(made_with, plain | sensitive)}
    return {"words": "\n".join(words), "digests": sorted(digests)}


def _identifying(fields: Fields, given: dict[str, Any]) -> Iterator[tuple[FieldType, str]]:
    for key, value in given.items():
        if key in fields and fields[key].type in IDENTIFYING:
            text = forms.unique_text(value)
            if len(text) > 1:  # one character is a yes or no
                yield fields[key].type, text
