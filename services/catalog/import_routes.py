"""What admin's worker asks of catalog for an import, in its owner's name: all of the rows, or none."""

from fastapi import APIRouter

from libs.common.web import Id, Now, ReadersLanguage, RuntimeDep
from libs.contracts import imports as contract
from libs.contracts.imports import ImportIn, ImportOut
from libs.contracts.principals import HallStaff
from services.catalog import imports
from services.catalog.models import Import

router = APIRouter(prefix="/staff/imports", tags=["imports"])


@router.post("")
def import_rows(
    runtime: RuntimeDep, staff: HallStaff, data: ImportIn, language: ReadersLanguage, now: Now
) -> ImportOut:
    """Make halls (super admins only), or items with slots, out of rows: of all of them, or of none where one has a fault."""
    staff.require_job(data.id)
    return runtime.db.run(lambda session: imports.apply(session, staff, data, language=language, now=now))


@router.post("/{import_id}/close")
def close_import(runtime: RuntimeDep, staff: HallStaff, import_id: Id, now: Now) -> ImportOut:
    """Have an import of one's own never applied, unless it has been; say whether it has."""
    staff.require_job(import_id)
    return runtime.db.run(lambda session: contract.close(session, Import, staff, import_id, now=now))
