"""How the answers of a join are kept: what is sensitive is encrypted, bound to its join."""

import json
from collections.abc import Collection
from typing import Any

from pydantic_core import to_json
from sqlalchemy import null, select
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.contracts.catalog import UPLOADS, FormField
from services.booking import forms
from services.booking.forms import Answers
from services.booking.models import Item, ItemForm, Join
from services.booking.rows import JoinRow

Fields = dict[str, FormField]
Forms = dict[tuple[str, int | None], Fields]


def seal(sealer: Sealer, join_id: str, answers: Answers) -> bytes | None:
    """Return the encrypted sensitive answers of a join, None where there are none."""
    if not answers.sensitive:
        return None
    return sealer.seal(to_json(answers.sensitive), about=f"join:{join_id}")


def opened(sealer: Sealer, join: Join | JoinRow) -> dict[str, Any]:
    """Return all answers of a join, for its user."""
    return join.answers | _sensitive(sealer, join)


def masked(sealer: Sealer, join: Join, form: list[Any]) -> dict[str, Any]:
    """Return all answers of a join with the sensitive ones masked, for staff; `form` is the item's, as stored.

    Masked is what was sensitive when it was answered, and what is by the form of today. It stays stored as it was. How
    much of it is hidden goes by the form that the join was made with, which has to be loaded (Join.made_with).
    """
    today = fields_of(form)
    made_with = today if join.made_with in (None, form) else fields_of(join.made_with or [])
    return masked_by(made_with, today, join.answers, _sensitive(sealer, join))


def is_sensitive(sealer: Sealer, join: Join, form: list[Any], key: str) -> bool:
    """Whether staff see the answer to a field masked; `form` is the item's, as stored."""
    today = fields_of(form)
    return key in _sensitive(sealer, join) or (key in today and today[key].is_sensitive)


def fields_of(form: list[Any]) -> Fields:
    """Return the fields of an item's form, as stored, by their keys."""
    return {field.key: field for field in map(FormField.model_validate, form)}


def forms_of(session: Session, item_ids: Collection[str]) -> Forms:
    """Return the forms of these items, by version; None is the version of today."""
    rows = session.execute(
        select(ItemForm.item_id, ItemForm.version, ItemForm.form)
        .where(ItemForm.item_id.in_(item_ids))
        .union_all(select(Item.id, null(), Item.form).where(Item.id.in_(item_ids)))
    )
    return {(item_id, version): fields_of(form) for item_id, version, form in rows}


def masked_by(fields: Fields, today: Fields, plain: dict[str, Any], sensitive: dict[str, Any]) -> dict[str, Any]:
    """Return all answers with the sensitive ones masked, by forms that are read already: that of the join, and today's."""
    hidden = sensitive | {key: value for key, value in plain.items() if key in today and today[key].is_sensitive}
    return plain | {
        key: forms.masked(value, fields[key].type if key in fields else None) for key, value in hidden.items()
    }


def prefill(form: list[FormField], sealer: Sealer, last: Join | None) -> dict[str, Any]:
    """Return what a form shows before it is filled in: the user's last answers to the same questions, else the defaults."""
    said = {} if last is None else opened(sealer, last)
    were = {} if last is None else fields_of(last.made_with or [])
    found = {}
    for field in form:
        asked_before = field.key in were and were[field.key].type == field.type
        value = said.get(field.key) if asked_before else field.default
        if value is not None and field.type not in UPLOADS:  # each booking has files of its own
            found[field.key] = value
    return found


def _sensitive(sealer: Sealer, join: Join | JoinRow) -> dict[str, Any]:
    return unsealed(sealer, join.id, join.sealed)


def unsealed(sealer: Sealer, join_id: str, sealed: bytes | None) -> dict[str, Any]:
    """Return the sensitive answers of a join in clear."""
    if sealed is None:
        return {}
    found: dict[str, Any] = json.loads(sealer.open(sealed, about=f"join:{join_id}"))
    return found
