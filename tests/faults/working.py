"""Workers of admin's jobs that are killed while they are at one."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exists, func, select, update

from services.admin.models import ExportJob, ImportJob
from services.admin.policy import JobState
from tests.faults.forks import Forks, JobWorker
from tests.world import World, eventually

Kind = type[ExportJob] | type[ImportJob]


def kill_at_work(forks: Forks, world: World, kind: Kind, *, waits_for: tuple[str, str], **environment: str) -> None:
    """Let a worker be killed at a job for sure: one that waits for a service's table, which nobody else can read either."""
    with locked(world, *waits_for):
        worker = JobWorker(forks, world, HALLPASS_EXPORT_LEASE_S="60", **environment)
        eventually(lambda: is_at_work(world, kind), timeout_s=120)
        worker.kill()
        with world.runtimes["admin"].db.transaction() as session:  # the time is over that it had
            session.execute(update(kind).where(kind.state == JobState.RUNNING).values(lease_until=func.now()))


def is_at_work(world: World, kind: Kind) -> bool:
    """Tell whether somebody is at such a job at this moment."""
    with world.runtimes["admin"].db.transaction() as session:
        return bool(session.scalar(select(exists().where(kind.state == JobState.RUNNING))))


@contextmanager
def locked(world: World, service: str, table: str) -> Iterator[None]:
    """Let nobody read a table of a service while the block runs."""
    with world.runtimes[service].db.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
