"""Patience: whatever gives up after some seconds waits for a minute, for any thread and any server may stand still."""

from collections.abc import Callable
from types import ModuleType

from libs.common import db, edge, kept, ratelimit
from services.booking import counter_applier, files, new_waits, settle
from services.notify import me_routes
from services.notify import resources as of_notify


def lengthen(put: Callable[[ModuleType, str, object], None]) -> None:
    """Let `put` set each name in its module that says how long something is waited for."""
    for module in (counter_applier, db, edge, files, kept, me_routes, new_waits, ratelimit, settle):
        put(module, "PATIENCE_S", 60)
    put(settle, "CONNECTED_WITHIN_S", 60)
    put(of_notify, "CODE_PATIENCE_S", 60)
    put(settle, "SETTINGS", f"{settle.SETTINGS} -c lock_timeout=60s")  # the last word on it counts
    put(db, "SILENCE_S", 120.0)
