"""What admin does in the background."""

from collections.abc import Callable
from datetime import timedelta

from libs.common.clock import utcnow
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events
from services.admin import export_jobs, import_jobs, jobs, lockouts, sessions
from services.admin.models import ExportJob, ImportJob
from services.admin.resources import EXPORT_TASK, IMPORT_TASK, JOB_QUEUE, Resources

# The transaction that asked for an import may not be committed yet when its file is there.
IMPORT_FILES_ARE_YOUNG = timedelta(minutes=10)


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Delete what is over and what was delivered long ago; return how many rows of each went."""
    now = utcnow()
    return {
        "sessions": runtime.db.run(lambda session: sessions.sweep(session, now=now)),
        "exports": runtime.db.run(lambda session: jobs.forget(session, ExportJob, now=now)),
        "imports": runtime.db.run(lambda session: jobs.forget(session, ImportJob, now=now)),
        "failed_sign_ins": runtime.db.run(lambda session: lockouts.sweep(session, now=now)),
        **runtime.db.run(lambda session: sweep_events(session, now=now)),
    }


def export(runtime: Runtime) -> int:
    """Run the exports that wait; return how many runs."""
    from services.admin import export_run  # openpyxl takes 6 MB, in the workers of jobs alone

    return _run_all(runtime, export_run.run_next)


def import_(runtime: Runtime) -> int:
    """Run the imports that wait; return how many runs."""
    from services.admin import import_run  # openpyxl, as above

    return _run_all(runtime, import_run.run_next)


def _run_all(runtime: Runtime, run_next: Callable[[Runtime], bool | None]) -> int:
    """Run jobs, one after another, until one fails: the next tick begins anew."""
    runs = 0
    while (came_to_its_end := run_next(runtime)) is not None:
        runs += 1
        if not came_to_its_end:
            break
    return runs


def sweep_imports(runtime: Runtime) -> dict[str, int]:
    """Take imports from workers that are gone, and delete the files that nobody needs; return how many of each."""
    resources: Resources = runtime.resources
    now = utcnow()
    found = runtime.db.run(lambda session: import_jobs.take_from_the_lost(session, now=now))
    expired = runtime.db.run(lambda session: import_jobs.expire(session, now=now))
    keys = resources.store.keys(import_jobs.FOLDER, before=now - IMPORT_FILES_ARE_YOUNG)
    orphans = runtime.db.run(lambda session: import_jobs.orphans(session, keys))
    resources.store.delete(orphans)
    return found | {"expired": expired, "orphans": len(orphans)}


def sweep_exports(runtime: Runtime) -> dict[str, int]:
    """Take exports from workers that are gone, and delete the files that are over; return how many of each."""
    resources: Resources = runtime.resources
    now = utcnow()
    found = runtime.db.run(lambda session: export_jobs.take_from_the_lost(session, now=now))
    with runtime.db.transaction() as session:
        due = export_jobs.due_to_expire(session, now=now)
        resources.store.delete(job.file_key for job in due if job.file_key)
        for job in due:
            export_jobs.expire(session, job)
    keys = resources.store.keys(export_jobs.FOLDER)
    orphans = runtime.db.run(lambda session: export_jobs.orphans(session, keys))
    resources.store.delete(orphans)
    return found | {"expired": len(due), "orphans": len(orphans), "unfinished_files": resources.store.sweep()}


TASKS = (
    Task(EXPORT_TASK, export, every=timedelta(seconds=30), queue=JOB_QUEUE),
    Task(IMPORT_TASK, import_, every=timedelta(seconds=30), queue=JOB_QUEUE),
    Task("admin.sweep_exports", sweep_exports, every=timedelta(minutes=1)),
    Task("admin.sweep_imports", sweep_imports, every=timedelta(minutes=1)),
    Task("admin.upkeep", upkeep, daily_at=(19, 10)),  # 03:10 in China
)
