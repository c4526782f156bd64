"""What notify does by night."""

from datetime import timedelta

from libs.common import inbox, outbox
from libs.common.clock import utcnow
from libs.common.service import Runtime, Task
from services.notify import stats

KEEP_CONSUMED = timedelta(days=30)
SLOTS_AT_ONCE = 500


def recount(runtime: Runtime) -> dict[str, int]:
    """Count all stats again from the record, some slots a transaction; return how many were looked at and repaired."""
    with runtime.db.transaction() as session:
        slot_ids = stats.known_slots(session)
    repaired = 0
    for first in range(0, len(slot_ids), SLOTS_AT_ONCE):
        some = slot_ids[first : first + SLOTS_AT_ONCE]
        with runtime.db.transaction() as session:
            repaired += len(stats.recount(session, some, now=utcnow()))
    return {"slots": len(slot_ids), "repaired": repaired}


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Forget events that were published or consumed long enough ago; return how many."""
    now = utcnow()
    with runtime.db.transaction() as session:
        return {
            "outbox": outbox.sweep(session, before=now - outbox.KEEP_PUBLISHED),
            "inbox": inbox.sweep(session, before=now - KEEP_CONSUMED),
        }


TASKS = (
    Task(name="notify.recount", run=recount, daily_at=(18, 30)),
    Task(name="notify.upkeep", run=upkeep, daily_at=(19, 0)),
)
