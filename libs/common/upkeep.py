"""What every service forgets by night: events that nobody can need any more."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from libs.common import inbox, outbox

KEEP_PUBLISHED = timedelta(days=1)
KEEP_CONSUMED = timedelta(days=30)  # longer than any event is under way, dead letters that are sent again included


def sweep_events(session: Session, *, now: datetime) -> dict[str, int]:
    """Delete events published, and the memory of events consumed, long enough before `now`; return how many of each."""
    return {
        "outbox": outbox.sweep(session, before=now - KEEP_PUBLISHED),
        "inbox": inbox.sweep(session, before=now - KEEP_CONSUMED),
    }
