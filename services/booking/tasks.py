"""Booking's background work: noting who did not come, reconciling counts, and sweeping what nobody needs any more."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.db import is_away
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.common.messages import Fact
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events
from libs.contracts import imports
from libs.contracts.booking import (
    JoinBooked,
    JoinCancelled,
    JoinCheckedIn,
    JoinEvent,
    JoinMissed,
    JoinRevoked,
    JoinStatus,
)
from services.booking import erasure, events, findables, inventory, lines, metrics, misses, uploads, users, waits
from services.booking.files import Files
from services.booking.models import Hall, Import, Item, Join, Slot, Success
from services.booking.offers import Offered
from services.booking.reconcile import reconcile

log = logger(__name__)

KEEP_SUCCESSES = timedelta(days=7)
KEEP_WAITS = timedelta(days=30)  # longer than the keys under which they began
BATCH = 500


def mark_missed(runtime: Runtime) -> int:
    """Note every booked join whose slot is over and whose attendee did not come; return how many. May run anywhere."""
    total = 0
    while True:
        with runtime.db.transaction() as session:
            marked = misses.note(session, now=utcnow(), at_most=BATCH)
        total += marked
        if marked < BATCH:
            return total


def find(runtime: Runtime) -> int:
    """Let staff find what was booked since the last time; return how many joins that was. May run anywhere."""
    return _in_batches(runtime, findables.catch_up)


def _in_batches(runtime: Runtime, some: Callable[[Session, Sealer], int]) -> int:
    total = 0
    while True:
        with runtime.db.transaction() as session:
            done = some(session, runtime.resources.sealer)
        if not done:
            return total
        total += done


def serve_lines(runtime: Runtime) -> int:
    """End waits and offers that are over, and hand out free places for which people wait; return how many. May run anywhere.

    A line that can't be served keeps no other one waiting: what went wrong is raised after the last.
    """
    with runtime.db.transaction() as session:
        metrics.WAITS.labels(runtime.service.name).set(lines.waiting(session))
        slot_ids = lines.with_something_to_do(session, now=utcnow())
    done, failures = 0, []
    for slot_id in slot_ids:
        try:
            done += lines.serve(runtime, slot_id, now=utcnow(), skip_locked=True)
        except Exception as error:
            if is_away(error):
                raise
            log.warning("a line was not served", slot_id=slot_id, exc_info=True)
            failures.append(error)
    if failures:
        raise ExceptionGroup("lines were not served", failures)
    return done


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Sweep old idempotency records, published events and consumed event ids; return how many of each.

    Also look again at all that users and joins are found by.
    """
    now = utcnow()
    found = _in_batches(runtime, findables.sweep)
    with runtime.db.transaction() as session:
        successes = session.execute(delete(Success).where(Success.created_at < now - KEEP_SUCCESSES))
        return {
            "walk_ins": users.sweep_walk_ins(session, before=now - KEEP_SUCCESSES),
            "waits": waits.forget(session, before=now - KEEP_WAITS),
            "idempotency_records": int(successes.rowcount),  # type: ignore[attr-defined]  # a DML result has a rowcount
            "findables": found,
            "phones": users.rehash(session, runtime.resources.sealer),
            "imports": imports.forget(session, Import, now=now),
            **sweep_events(session, now=now),
        }


def sweep_uploads(runtime: Runtime) -> dict[str, int]:
    """Delete files that were sent and answer nothing; return how many."""
    files: Files = runtime.resources.files
    total = 0
    while True:
        with runtime.db.transaction() as session:
            swept = uploads.sweep(session, files, now=utcnow())
        total += swept
        if swept < uploads.AT_ONCE:
            return {"uploads": total, "unfinished_files": files.sweep()}


def republish(session: Session) -> Iterator[Fact]:
    """Yield every join as it is now, each as the event that brought it there, who was erased, and the lines of slots."""
    yield from erasure.erased(session)
    yield from inventory.lines(session)
    query = (
        select(Join, Slot, Item, Hall)
        .join(Slot, Slot.id == Join.slot_id)
        .join(Item, Item.id == Join.item_id)
        .join(Hall, Hall.id == Join.hall_id)
        .order_by(Join.id)
        .execution_options(yield_per=BATCH)
    )
    for join, slot, item, hall in session.execute(query):
        offered = Offered(slot, item, hall)
        yield events.of(_kind(join), join, offered, inventory.current(slot), action_id=new_id(), people=1)


def _kind(join: Join) -> type[JoinEvent]:
    if join.status == JoinStatus.CANCELLED:
        return JoinCancelled
    if join.status == JoinStatus.REVOKED:
        return JoinRevoked
    if join.checked_in_at is not None:
        return JoinCheckedIn
    return JoinMissed if join.missed_at is not None else JoinBooked


TASKS = (
    Task("booking.mark_missed", mark_missed, every=timedelta(minutes=1)),
    Task("booking.serve_lines", serve_lines, every=timedelta(seconds=5)),
    Task("booking.find", find, every=timedelta(seconds=10)),
    Task("booking.reconcile", reconcile, every=timedelta(minutes=1)),
    Task("booking.sweep_uploads", sweep_uploads, every=timedelta(hours=1)),
    Task("booking.upkeep", upkeep, daily_at=(19, 10)),  # 03:10 in China
)
