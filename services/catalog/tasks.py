"""What catalog does by night."""

from datetime import timedelta

from libs.common import inbox, outbox
from libs.common.clock import utcnow
from libs.common.service import Runtime, Task

KEEP_CONSUMED = timedelta(days=30)


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Forget events that were published or consumed long enough ago; return how many."""
    now = utcnow()
    with runtime.db.transaction() as session:
        return {
            "outbox": outbox.sweep(session, before=now - outbox.KEEP_PUBLISHED),
            "inbox": inbox.sweep(session, before=now - KEEP_CONSUMED),
        }


TASKS = (Task(name="catalog.upkeep", run=upkeep, daily_at=(19, 10)),)
