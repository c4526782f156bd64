"""What catalog does by night."""

from libs.common.clock import utcnow
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Forget events that were published or consumed long enough ago; return how many."""
    with runtime.db.transaction() as session:
        return sweep_events(session, now=utcnow())


TASKS = (Task(name="catalog.upkeep", run=upkeep, daily_at=(19, 10)),)
