"""What staff do about exports: ask for one, watch it, cancel it, fetch its file."""

from typing import Annotated
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from libs.common import pages
from libs.common.errors import HallpassError, Language
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, ReadersLanguage, RuntimeDep, Tx, client_address
from libs.contracts.principals import HallStaff
from services.admin import exports, failures, jobs
from services.admin.errors import LinkExpired
from services.admin.export_schemas import ExportIn, ExportOut, FileOut, LinkOut
from services.admin.models import ExportJob
from services.admin.policy import ExportState
from services.admin.routes import NotStored

router = APIRouter(prefix="/exports", tags=["exports"])

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_NAMES = {"joins": "预约记录", "users": "用户", "stats": "预约统计", "audit": "操作日志"}
_NAMED_IN = ZoneInfo("Asia/Shanghai")


@router.post("", status_code=202, dependencies=[NotStored])
def ask_for_export(
    body: ExportIn,
    me: HallStaff,
    request: Request,
    runtime: RuntimeDep,
    session: Tx,
    now: Now,
    language: ReadersLanguage,
    response: Response,
) -> ExportOut:
    """Ask for a workbook (.xlsx) of joins, users, stats or the audit trail, within one's halls.

    It is made in the background: look at it under the `Location`. Three may be unfinished at a time. One that looks for
    somebody counts as one search.
    """
    body.filter.check()
    if body.filter.seeks_somebody:
        runtime.limiter.hit(runtime.settings.person_rate, "person", me.id)
    sent = body.model_dump(mode="json", include={"layout", "group"})
    outcome = exports.ask(
        session,
        runtime.resources.sealer,
        me,
        kind=body.kind,
        wanted=sent | {"filter": body.filter.asked},
        unmasked=getattr(body, "unmasked", False),
        reason=getattr(body, "reason", ""),
        password=getattr(body, "password", None),
        code=getattr(body, "code", None),
        address=client_address(request),
        now=now,
    )
    if isinstance(outcome, HallpassError):
        session.commit()  # what was noted about a wrong password or code stays
        raise outcome
    response.headers["Location"] = f"/api/admin/exports/{outcome.id}"
    return _shown(outcome, language)


@router.get("")
def list_exports(
    me: HallStaff, session: Tx, language: ReadersLanguage, limit: Limit = 20, cursor: CursorText = None
) -> Page[ExportOut]:
    """List one's own exports, newest first."""
    found, next_cursor = pages.fetch(
        session, jobs.mine(ExportJob, me), keys=exports.NEWEST_FIRST, limit=limit, cursor=cursor
    )
    return Page(items=[_shown(job, language) for job in found], next_cursor=next_cursor)


@router.get("/{export_id}")
def get_export(export_id: Id, me: HallStaff, session: Tx, language: ReadersLanguage) -> ExportOut:
    """Show how far an export of one's own is."""
    return _shown(jobs.one(session, ExportJob, me, export_id), language)


@router.post("/{export_id}/cancel")
def cancel_export(export_id: Id, me: HallStaff, session: Tx, now: Now, language: ReadersLanguage) -> ExportOut:
    """Cancel an export that waits or runs. Its worker stops within seconds, and there is no file."""
    return _shown(exports.cancel(session, me, export_id, now=now), language)


@router.post("/{export_id}/links", status_code=201, dependencies=[NotStored])
def make_link(export_id: Id, me: HallStaff, session: Tx, now: Now) -> LinkOut:
    """Make a link by which the file can be fetched for five minutes, once or more. The link before is void."""
    job, key = exports.link(session, me, export_id, now=now)
    assert job.link_until is not None  # noqa: S101  # it was just made
    return LinkOut(url=f"/api/admin/exports/{job.id}/file?key={key}", until=job.link_until)


@router.get("/{export_id}/file", response_class=StreamingResponse, responses={200: {"content": {XLSX: {}}}})
def fetch_file(
    export_id: Id,
    key: Annotated[str, Query(max_length=100, description="from the link")],
    request: Request,
    runtime: RuntimeDep,
    now: Now,
) -> StreamingResponse:
    """Fetch the file of an export by a link; the link is the sign-in."""
    with runtime.db.transaction() as session:
        job = exports.fetched(session, export_id, key, address=client_address(request), now=now)
        stored = runtime.resources.store.get(job.file_key)
        if stored is None:  # swept in this moment
            raise LinkExpired
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(_file_name(job))}",
        "Content-Length": str(stored.size),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(stored.pieces, media_type=XLSX, headers=headers)


def _shown(job: ExportJob, language: Language) -> ExportOut:
    return ExportOut(
        id=job.id,
        kind=job.kind,
        wanted=job.wanted,
        unmasked=job.unmasked,
        reason=job.reason,
        state=ExportState(job.state),
        rows_done=job.rows_done,
        rows_total=job.rows_total,
        runs=job.runs,
        failure=failures.told(job.failure, language),
        asked_at=job.asked_at,
        begun_at=job.begun_at,
        ended_at=job.ended_at,
        file=_file(job),
    )


def _file(job: ExportJob) -> FileOut | None:
    if job.file_key is None or job.file_bytes is None or job.file_until is None:
        return None
    return FileOut(name=_file_name(job), bytes=job.file_bytes, until=job.file_until)


def _file_name(job: ExportJob) -> str:
    """Return a name that no other export has: what it is of, when it was asked for, and the end of its id."""
    asked = job.asked_at.astimezone(_NAMED_IN)
    return f"{_NAMES[job.kind]}-{asked:%Y%m%d-%H%M%S}-{job.id[-6:]}.xlsx"
