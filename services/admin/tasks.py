"""What admin does in the background."""

from datetime import timedelta

from libs.common import inbox, outbox
from libs.common.clock import utcnow
from libs.common.service import Runtime
from services.admin import lockouts, sessions

KEEP_CONSUMED = timedelta(days=30)


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Delete what is over and what was delivered long ago; return how many rows of each went."""
    now = utcnow()
    return {
        "sessions": runtime.db.run(lambda session: sessions.sweep(session, now=now)),
        "failed_sign_ins": runtime.db.run(lambda session: lockouts.sweep(session, now=now)),
        "outbox": runtime.db.run(lambda session: outbox.sweep(session, before=now - outbox.KEEP_PUBLISHED)),
        "inbox": runtime.db.run(lambda session: inbox.sweep(session, before=now - KEEP_CONSUMED)),
    }
