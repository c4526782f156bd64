"""What admin's worker asks of booking for an import, in its owner's name: all of the joins, or none."""

from fastapi import APIRouter

from libs.common.web import Id, Now, ReadersLanguage, RuntimeDep
from libs.contracts import imports as contract
from libs.contracts.imports import ImportIn, ImportOut
from libs.contracts.principals import HallStaff
from services.booking import imports
from services.booking.imports import Clashes
from services.booking.models import Import
from services.booking.resources import SealerDep

router = APIRouter(prefix="/staff/imports", tags=["imports"])


@router.post("")
def import_joins(
    runtime: RuntimeDep, staff: HallStaff, sealer: SealerDep, data: ImportIn, language: ReadersLanguage, now: Now
) -> ImportOut:
    """Book a place for every row, or for none where one has a fault, by the same rules as for everybody."""
    staff.require_job(data.id)
    clashes = Clashes(runtime.limiter, runtime.settings.clash_rate, staff.id)
    return runtime.db.run(
        lambda session: imports.apply(session, sealer, staff, data, clashes, language=language, now=now)
    )


@router.post("/{import_id}/close")
def close_import(runtime: RuntimeDep, staff: HallStaff, import_id: Id, now: Now) -> ImportOut:
    """Have an import of one's own never applied, unless it has been; say whether it has."""
    staff.require_job(import_id)
    return runtime.db.run(lambda session: contract.close(session, Import, staff, import_id, now=now))
