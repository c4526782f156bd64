"""What notify does by night."""

from libs.common.clock import utcnow
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events
from services.notify import stats

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
    with runtime.db.transaction() as session:
        return sweep_events(session, now=utcnow())


TASKS = (
    Task(name="notify.recount", run=recount, daily_at=(18, 30)),
    Task(name="notify.upkeep", run=upkeep, daily_at=(19, 0)),
)
