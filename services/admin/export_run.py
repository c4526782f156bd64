"""A run of an export: from the lease to the published file. It may be killed at any moment, and nobody sees a part of it."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import func, select

from libs.common import context, pages
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.logs import logger
from libs.common.service import Runtime
from libs.contracts.principals import Staff
from services.admin import export_jobs, export_sheets, jobs, trail
from services.admin.errors import JobBroken, RightsChanged, SourceAway, SourceRefused
from services.admin.export_jobs import Run
from services.admin.export_schemas import TrailFilter
from services.admin.job_runs import Lease, LeaseLost, OwnersToken, Progress
from services.admin.models import AuditRecord, ExportJob
from services.admin.resources import Resources
from services.admin.sources import Source
from services.admin.workbooks import Book

log = logger(__name__)
TRAIL_PAGE = 500


def run_next(runtime: Runtime) -> bool | None:
    """Run the export whose turn it is; return whether it came to its end, None where none waits."""
    resources: Resources = runtime.resources
    run = runtime.db.run(lambda session: export_jobs.claim(session, lease=resources.lease, now=utcnow()))
    if run is None:
        return None
    with context.working_on(run.job.request_id):
        return _carry_out(runtime, run)


def _carry_out(runtime: Runtime, run: Run) -> bool:
    store = runtime.resources.store
    try:
        with Lease(runtime.db, run, runtime.resources.lease) as lease, _workplace() as folder:
            file = _write(runtime, run, lease.progress, folder)
            lease.progress.check()
            size = store.put(export_jobs.key_of(run), file)
        rows = lease.progress.rows_done
        is_published = runtime.db.run(
            lambda session: export_jobs.finish(session, run, rows=rows, size=size, now=utcnow())
        )
        if not is_published:
            store.delete([export_jobs.key_of(run)])
    except LeaseLost:
        log.info("a run of an export was called off", job=run.job_id, run=run.number)
        return True
    except (RightsChanged, SourceRefused) as error:
        return _fail(runtime, run, error.code, for_good=True)
    except SourceAway as error:
        return _fail(runtime, run, error.code, for_good=False)
    except Exception:
        log.exception("a run of an export broke", job=run.job_id, run=run.number)
        return _fail(runtime, run, JobBroken.code, for_good=False)
    return True


def _fail(runtime: Runtime, run: Run, failure: str, *, for_good: bool) -> bool:
    log.warning("a run of an export failed", job=run.job_id, run=run.number, failure=failure, exc_info=True)
    runtime.db.run(lambda session: export_jobs.give_back(session, run, failure, for_good=for_good, now=utcnow()))
    return False


# --- the file ---------------------------------------------------------------------------------------------------------


def _write(runtime: Runtime, run: Run, progress: Progress, folder: Path) -> Path:
    token = OwnersToken(runtime, run, unmasked=run.job.unmasked)
    urls: dict[str, str] = runtime.resources.sources
    with ExitStack() as stack:

        def source(name: str) -> Source:
            opened = Source(name, urls[name], token=token, request_id=run.job.request_id, check=progress.check)
            return stack.enter_context(closing(opened))

        book = stack.enter_context(Book(folder))
        match run.job.kind:
            case "joins":
                export_sheets.joins(book, progress, source("booking"), run.job.wanted, unmasked=run.job.unmasked)
            case "users":
                export_sheets.users(book, progress, source("booking"), run.job.wanted, unmasked=run.job.unmasked)
            case "stats":
                export_sheets.stats(book, progress, source("booking"), source("notify"), run.job.wanted)
            case "audit":
                _trail(runtime.db, run, progress, book)
            case _:
                raise ValueError(f"{run.job.kind} is no kind of export")
        return book.save()


def _trail(db: Database, run: Run, progress: Progress, book: Book) -> None:
    asked = TrailFilter.model_validate(run.job.wanted["filter"]).wanted
    staff = db.run(lambda session: jobs.owner(session, ExportJob, run.job_id))
    query = trail.matching(staff, asked)
    total = db.run(lambda session: session.scalar(select(func.count()).select_from(query.subquery())))
    export_sheets.trail(book, progress, total or 0, _trail_pages(db, staff, asked))


def _trail_pages(db: Database, staff: Staff, asked: trail.Filter) -> Iterator[list[AuditRecord]]:
    query, cursor = trail.matching(staff, asked), None
    while True:
        with db.transaction() as session:
            found, cursor = pages.fetch(session, query, keys=trail.NEWEST_FIRST, limit=TRAIL_PAGE, cursor=cursor)
        yield found
        if cursor is None:
            return


# --- where it is written ----------------------------------------------------------------------------------------------

_PREFIX = "hallpass-export-"
_LOCK = "lock"
_YOUNG_S = 60.0  # its lock may not be taken yet


@contextmanager
def _workplace() -> Iterator[Path]:
    """Yield a folder that is locked as long as its process lives; what killed ones have left beside it is removed.

    By a lock and not by process ids, which mean nothing across containers that share a volume.
    """
    _remove_the_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, (Path(folder) / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


def _remove_the_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # held by a run, or gone in this moment
            if time.time() - folder.stat().st_mtime < _YOUNG_S:
                continue
            with (folder / _LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
