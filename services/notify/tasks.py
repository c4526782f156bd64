"""What notify does when it is due: reminders, by night counting again and forgetting."""

from datetime import timedelta
from functools import partial

from libs.common.clock import utcnow
from libs.common.service import Runtime, Task
from libs.common.upkeep import sweep_events
from services.notify import (
    announcements,
    deliveries,
    readers,
    recounts,
    reminders,
    second_look,
    sms_budget,
    webhook_log,
)

KEEP_DELIVERIES = timedelta(days=90)
KEEP_WEBHOOKS_LOG = timedelta(days=30)
REMINDERS_AT_ONCE = 500
READERS_AT_ONCE = 500


def remind(runtime: Runtime) -> int:
    """Remind everybody for whom that is due; return how many joins that were. May run anywhere."""
    total = 0
    while True:
        some = partial(reminders.send, now=utcnow(), at_most=REMINDERS_AT_ONCE)
        done = runtime.db.run(some)
        total += done
        if done < REMINDERS_AT_ONCE:
            return total


def announce(runtime: Runtime) -> int:
    """Tell webhooks of announcements that have come out, and by a notice whoever is to be; return how many users. May run anywhere."""
    while runtime.db.run(partial(announcements.come_out, now=utcnow())):
        pass
    while runtime.db.run(partial(readers.list_due, now=utcnow())):
        pass
    total = 0
    while done := runtime.db.run(partial(readers.tell, now=utcnow(), at_most=READERS_AT_ONCE)):
        total += done
    return total


def recount(runtime: Runtime) -> dict[str, int]:
    """Count all stats again from the record, a hall's day at a time; return how much was looked at, and differed."""
    with runtime.db.transaction() as session:
        recounts.ask(session, None, None, now=utcnow())
    return recounts.run_all(runtime.db)


def recount_asked(runtime: Runtime) -> dict[str, int]:
    """Do the recounts that staff have asked for."""
    return recounts.run_all(runtime.db)


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Forget events, deliveries and recounts that were over long enough ago; return how many of each."""
    now = utcnow()
    with runtime.db.transaction() as session:
        sms_budget.forget(session, now=now)
        second_look.forget(session, before=now - KEEP_DELIVERIES)
        return {
            "deliveries": deliveries.forget(session, before=now - KEEP_DELIVERIES),
            "webhook_events": webhook_log.forget(session, before=now - KEEP_WEBHOOKS_LOG),
            "recounts": recounts.sweep(session, now=now),
            **sweep_events(session, now=now),
        }


TASKS = (
    Task(name="notify.remind", run=remind, every=timedelta(seconds=10)),
    Task(name="notify.announce", run=announce, every=timedelta(seconds=10)),
    Task(name="notify.recount", run=recount, daily_at=(18, 30)),
    Task(name="notify.recount_asked", run=recount_asked, every=timedelta(seconds=15)),
    Task(name="notify.upkeep", run=upkeep, daily_at=(19, 0)),
)
