"""What admin does in the background."""

from libs.common.clock import utcnow
from libs.common.service import Runtime
from libs.common.upkeep import sweep_events
from services.admin import lockouts, sessions


def upkeep(runtime: Runtime) -> dict[str, int]:
    """Delete what is over and what was delivered long ago; return how many rows of each went."""
    now = utcnow()
    return {
        "sessions": runtime.db.run(lambda session: sessions.sweep(session, now=now)),
        "failed_sign_ins": runtime.db.run(lambda session: lockouts.sweep(session, now=now)),
        **runtime.db.run(lambda session: sweep_events(session, now=now)),
    }
