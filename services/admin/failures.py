"""Failures: why an export or an import came to nothing, as its owner reads it."""

from pydantic import BaseModel

from libs.common.errors import HallpassError, Language
from libs.contracts.imports import ImportFaulty
from services.admin.errors import JobBroken, RightsChanged, SourceAway, SourceRefused, WorkerLost

_KINDS: dict[str, type[HallpassError]] = {
    kind.code: kind for kind in (WorkerLost, JobBroken, SourceAway, SourceRefused, RightsChanged, ImportFaulty)
}


class Failure(BaseModel):
    """Why a job failed: a code, and a sentence for people."""

    code: str
    detail: str


def told(code: str | None, language: Language) -> Failure | None:
    """Return the failure that a job noted by its code; None where it has not failed."""
    return Failure(code=code, detail=_KINDS[code]().sentence(language)) if code else None
