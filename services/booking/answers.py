"""How the answers of a join are kept: what is sensitive is encrypted, bound to its join."""

import json
from collections.abc import Collection
from typing import Any

from pydantic_core import to_json
from sqlalchemy import column, null, nulls_last, select
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


def masked(sealer: Sealer, join: Join, known: Forms) -> dict[str, Any]:
    """Return all answers of a join with the sensitive ones masked, for staff, by the forms of its item.

    Masked is what was sensitive when it was answered, and what is by the youngest form that asks for it: a question that
    was made sensitive stays so when it is taken off the form. Answers stay stored as they were. How much of one is hidden
    goes by the form that the join was made with.
    """
    latest = known[join.item_id, None]
    made_with = known.get((join.item_id, join.form_version), latest)
    return masked_by(made_with, latest, join.answers, _sensitive(sealer, join))


def is_sensitive(sealer: Sealer, join: Join, known: Forms, key: str) -> bool:
    """Whether staff see the answer to a field masked."""
    return key in _sensitive(sealer, join) or _is_masked(known[join.item_id, None], key)


def fields_of(form: list[Any]) -> Fields:
    """Return the fields of an item's form, as stored, by their keys."""
    return {field.key: field for field in map(FormField.model_validate, form)}


def forms_of(session: Session, item_ids: Collection[str]) -> Forms:
    """Return the forms of these items, by version. None has every field that there ever was, as it was last."""
    rows = session.execute(
        select(ItemForm.item_id, ItemForm.version.label("version"), ItemForm.form)
        .where(ItemForm.item_id.in_(item_ids))
        .union_all(select(Item.id, null(), Item.form).where(Item.id.in_(item_ids)))
        .order_by(nulls_last(column("version")))
    )
    known: Forms = {(item_id, None): {} for item_id in item_ids}
    for item_id, version, form in rows:
        fields = fields_of(form)
        known[item_id, None] |= fields
        if version is not None:
            known[item_id, version] = fields
    return known


def masked_by(fields: Fields, latest: Fields, plain: dict[str, Any], sensitive: dict[str, Any]) -> dict[str, Any]:
    """Return all answers with the sensitive ones masked, by the fields of the join's form, and by all as they were last."""
    hidden = sensitive | {key: value for key, value in plain.items() if _is_masked(latest, key)}
    return plain | {
        key: forms.masked(value, fields[key].type if key in fields else None) for key, value in hidden.items()
    }


def _is_masked(latest: Fields, key: str) -> bool:
    return key in latest and latest[key].is_sensitive


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
