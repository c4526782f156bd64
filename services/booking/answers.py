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
    fields = {field.key: field for field in map(FormField.model_validate, form)}
    sensitive = _sensitive(sealer, join)
    sensitive |= {key: value for key, value in join.answers.items() if key in fields and fields[key].is_sensitive}
    kinds = {key: field.type for key, field in fields.items()}
    return join.answers | {key: forms.masked(value, kinds.get(key)) for key, value in sensitive.items()}


def _sensitive(sealer: Sealer, join: Join | JoinRow) -> dict[str, Any]:
    if join.sealed is None:
        return {}
    found: dict[str, Any] = json.loads(sealer.open(join.sealed, about=f"join:{join.id}"))
    return found
