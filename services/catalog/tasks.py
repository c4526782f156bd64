"""What catalog does by night."""

from libs.common.clock import utcnow
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events
from libs.contracts import imports
from services.catalog import edits
from services.catalog.models import Import


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Forget events that were published or consumed long enough ago, and old edits; return how many."""
    now = utcnow()
    with runtime.db.transaction() as session:
        return sweep_events(session, now=now) | {
            "edits": edits.sweep(session, now=now),
            "imports": imports.forget(session, Import, now=now),
        }


TASKS = (Task(name="catalog.upkeep", run=upkeep, daily_at=(19, 10)),)
