"""A run of an import: the workbook is read, and its rows are handed to the service that owns them, in one request."""

from contextlib import closing
from typing import Any

from libs.common import context
from libs.common.clock import utcnow
from libs.common.logs import logger
from libs.common.service import Runtime
from libs.contracts.imports import ImportFaulty
from services.admin import import_jobs, import_sheets, jobs
from services.admin.errors import JobBroken, RightsChanged, SourceAway, SourceRefused
from services.admin.import_jobs import Run
from services.admin.job_runs import Lease, LeaseLost, OwnersToken, Progress, Who
from services.admin.policy import MOST_RUNS
from services.admin.sources import Source

log = logger(__name__)

_OWNERS = {"halls": "catalog", "items": "catalog", "joins": "booking"}
# Those of the dry run are counted too: whatever it took, there are some for applying.
MOST_TO_APPLY = 2 * MOST_RUNS


def run_next(runtime: Runtime) -> bool | None:
    """Run the import whose turn it is; return whether it came to its end, None where none waits."""
    lease = runtime.resources.lease
    run = runtime.db.run(lambda session: import_jobs.claim(session, lease=lease, now=utcnow()))
    if run is None:
        return None
    with context.working_on(run.job.request_id):
        return _carry_out(runtime, run)


def _carry_out(runtime: Runtime, run: Run) -> bool:
    try:
        with Lease(runtime.db, run, runtime.resources.lease) as lease:
            _work(runtime, run, lease.progress)
    except LeaseLost:
        log.info("a run of an import was called off", job=run.job_id, run=run.number)
        return True
    except (RightsChanged, SourceRefused) as error:
        return _fail(runtime, run, error.code)
    except SourceAway as error:
        return _give_back(runtime, run, error.code)
    except Exception:
        log.exception("a run of an import broke", job=run.job_id, run=run.number)
        return _give_back(runtime, run, JobBroken.code)
    return True


def _work(runtime: Runtime, run: Run, progress: Progress) -> None:
    if run.job.applies and run.number > MOST_TO_APPLY:
        _close(runtime, run, progress, SourceAway.code)
        return
    try:
        _hand_over(runtime, run, progress)
    except (RightsChanged, SourceRefused) as error:
        if not run.job.applies:
            raise
        _close(runtime, run, progress, error.code)


def _hand_over(runtime: Runtime, run: Run, progress: Progress) -> None:
    job = run.job
    stored = runtime.resources.store.get(import_jobs.key_of(job.id))
    if stored is None:
        raise LeaseLost  # the job is over, and its file is swept
    sheets = import_sheets.sheets_of(job.kind)
    found = import_sheets.read(b"".join(stored.pieces), sheets, job.language, check=progress.check)
    if not found.rows or (job.applies and found.faults):
        runtime.db.run(
            lambda session: import_jobs.refuse(session, run, found.faults, total=found.total, rows=0, now=utcnow())
        )
        return
    body = {"id": job.id, "dry_run": not job.applies, "rows": found.rows}
    with closing(_owner(runtime, run, progress, jobs.owner)) as owner:
        answer = owner.post("imports", body, language=job.language)
    rows = len(found.rows)
    faults, total = import_sheets.merged(found, *_faults_of(answer))
    if faults:
        runtime.db.run(lambda session: import_jobs.refuse(session, run, faults, total=total, rows=rows, now=utcnow()))
    elif job.applies:
        runtime.db.run(lambda session: import_jobs.done(session, run, rows=rows, now=utcnow()))
    else:
        runtime.db.run(lambda session: import_jobs.checked(session, run, rows=rows))


def _faults_of(answer: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    found = answer["params"] if answer.get("code") == ImportFaulty.code else answer
    faults = found["faults"]
    return faults, found.get("faults_total", len(faults))  # of the release before, all of them are there


def _close(runtime: Runtime, run: Run, progress: Progress, failure: str) -> None:
    """Have the import applied never, and learn whether it was: a run before this one may have died before it was told."""
    with closing(_owner(runtime, run, progress, jobs.former_owner)) as owner:
        answer = owner.post(f"imports/{run.job_id}/close", {}, language=run.job.language)
    if answer["applied"]:
        runtime.db.run(lambda session: import_jobs.done(session, run, rows=answer["rows"], now=utcnow()))
    else:
        runtime.db.run(lambda session: import_jobs.fail(session, run, failure, now=utcnow()))


def _owner(runtime: Runtime, run: Run, progress: Progress, who: Who) -> Source:
    name = _OWNERS[run.job.kind]
    token = OwnersToken(runtime, run, who=who)
    url = runtime.resources.sources[name]
    return Source(name, url, token=token, request_id=run.job.request_id, check=progress.check)


def _fail(runtime: Runtime, run: Run, failure: str) -> bool:
    """End the job. Of one that is to be applied nobody knows what became: it is asked about again."""
    if run.job.applies:
        return _give_back(runtime, run, failure)
    log.warning("an import failed", job=run.job_id, run=run.number, failure=failure, exc_info=True)
    runtime.db.run(lambda session: import_jobs.fail(session, run, failure, now=utcnow()))
    return False


def _give_back(runtime: Runtime, run: Run, failure: str) -> bool:
    log.warning("a run of an import failed", job=run.job_id, run=run.number, failure=failure, exc_info=True)
    runtime.db.run(lambda session: import_jobs.give_back(session, run, failure, now=utcnow()))
    return False
