"""What staff do about imports: fetch a template, send a workbook, look at its faults, apply it or cancel it."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Body, Query, Response
from pydantic import StringConstraints
from sqlalchemy.orm import Session, defer

from libs.common import pages
from libs.common.errors import HallpassError, Language
from libs.common.ids import new_id
from libs.common.inputs import OneLine
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, ReadersLanguage, RuntimeDep, Text, Tx
from libs.contracts.imports import Kind, RowFault
from libs.contracts.principals import HallStaff
from services.admin import failures, import_jobs, imports, jobs
from services.admin.errors import NotXlsx
from services.admin.export_routes import XLSX
from services.admin.import_schemas import ImportJobFaults, ImportJobOut
from services.admin.models import ImportJob
from services.admin.policy import ImportState

router = APIRouter(prefix="/imports", tags=["imports"])

_NAMES: dict[Kind, str] = {"halls": "服务厅", "items": "预约项目", "joins": "预约记录"}
_ARCHIVE = b"PK\x03\x04"  # what every .xlsx begins with
FileName = Annotated[Text, StringConstraints(max_length=200), OneLine]


@router.get("/templates/{kind}", response_class=Response, responses={200: {"content": {XLSX: {}}}})
def get_template(kind: Kind, me: HallStaff) -> Response:
    """Fetch the workbook to fill in, with notes about its columns."""
    from services.admin import import_sheets  # openpyxl takes 6 MB, for the process alone that is asked

    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(f'{_NAMES[kind]}导入模板.xlsx')}"}
    return Response(import_sheets.template(kind), media_type=XLSX, headers=headers)


@router.post("", status_code=202)
def ask_for_import(
    kind: Annotated[Kind, Query()],
    content: Annotated[bytes, Body(media_type=XLSX, description="the workbook, at most 1 MB")],
    me: HallStaff,
    runtime: RuntimeDep,
    now: Now,
    language: ReadersLanguage,
    response: Response,
    file_name: Annotated[FileName, Query()] = "",
) -> ImportJobOut:
    """Send a workbook. It is looked at in the background, under the `Location`; nothing is applied before one says so."""
    if not content.startswith(_ARCHIVE):
        raise NotXlsx
    job_id, store = new_id(), runtime.resources.store
    # It is there before anybody sees the job, and no lock waits for it: another machine may take seconds.
    store.put(import_jobs.key_of(job_id), content)

    def ask(session: Session) -> ImportJobOut:
        job = imports.ask(
            session, me, job_id, kind=kind, file_name=file_name, size=len(content), language=language, now=now
        )
        return _shown(job, language)

    try:
        asked = runtime.db.run(ask)
    except HallpassError:
        store.delete([import_jobs.key_of(job_id)])
        raise
    response.headers["Location"] = f"/api/admin/imports/{job_id}"
    return asked


@router.get("")
def list_imports(
    me: HallStaff, session: Tx, language: ReadersLanguage, limit: Limit = 20, cursor: CursorText = None
) -> Page[ImportJobOut]:
    """List one's own imports, newest first, without their faults."""
    mine = jobs.mine(ImportJob, me).options(defer(ImportJob.faults, raiseload=True))
    found, next_cursor = pages.fetch(session, mine, keys=imports.NEWEST_FIRST, limit=limit, cursor=cursor)
    return Page(items=[_shown(job, language) for job in found], next_cursor=next_cursor)


@router.get("/{import_id}")
def get_import(import_id: Id, me: HallStaff, session: Tx, language: ReadersLanguage) -> ImportJobFaults:
    """Show what came of an import of one's own, so far, with what is wrong with the file."""
    job = jobs.one(session, ImportJob, me, import_id)
    faults = [RowFault.model_validate(fault) for fault in job.faults]
    return ImportJobFaults(**dict(_shown(job, language)), faults=faults)


@router.post("/{import_id}/apply", status_code=202)
def apply_import(import_id: Id, me: HallStaff, session: Tx, now: Now, language: ReadersLanguage) -> ImportJobOut:
    """Have an import applied whose dry run found no fault: all of its rows, or none where something has changed."""
    return _shown(imports.apply(session, me, import_id, now=now), language)


@router.post("/{import_id}/cancel")
def cancel_import(import_id: Id, me: HallStaff, session: Tx, now: Now, language: ReadersLanguage) -> ImportJobOut:
    """Cancel an import that is not to be applied yet."""
    return _shown(imports.cancel(session, me, import_id, now=now), language)


def _shown(job: ImportJob, language: Language) -> ImportJobOut:
    return ImportJobOut(
        id=job.id,
        kind=job.kind,
        file_name=job.file_name,
        state=ImportState(job.state),
        applies=job.applies,
        rows_total=job.rows_total,
        runs=job.runs,
        failure=failures.told(job.failure, language),
        faults_total=job.faults_total,
        asked_at=job.asked_at,
        begun_at=job.begun_at,
        ended_at=job.ended_at,
        until=job.file_until,
    )
