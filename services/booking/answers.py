"""How the answers of a join are kept: what is sensitive is encrypted, bound to its join."""

import json
from typing import Any

from pydantic_core import to_json

from libs.common.crypto import Sealer
from libs.contracts.catalog import FormField
from services.booking import forms
from services.booking.forms import Answers
from services.booking.models import Join
from services.booking.rows import JoinRow

Fields = dict[str, FormField]


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

    Masked is what was sensitive when it was answered, and what is by the form of today. It stays stored as it was.
    """
    return masked_by(fields_of(form), join.answers, _sensitive(sealer, join))


def fields_of(form: list[Any]) -> Fields:
    """Return the fields of an item's form, as stored, by their keys."""
    return {field.key: field for field in map(FormField.model_validate, form)}


def masked_by(fields: Fields, plain: dict[str, Any], sensitive: dict[str, Any]) -> dict[str, Any]:
    """Return all answers with the sensitive ones masked, by a form that is read already."""
    hidden = sensitive | {key: value for key, value in plain.items() if key in fields and fields[key].is_sensitive}
    return plain | {
        key: forms.masked(value, fields[key].type if key in fields else None) for key, value in hidden.items()
    }


def _sensitive(sealer: Sealer, join: Join | JoinRow) -> dict[str, Any]:
    return unsealed(sealer, join.id, join.sealed)


def unsealed(sealer: Sealer, join_id: str, sealed: bytes | None) -> dict[str, Any]:
    """Return the sensitive answers of a join in clear."""
    if sealed is None:
        return {}
    found: dict[str, Any] = json.loads(sealer.open(sealed, about=f"join:{join_id}"))
    return found
