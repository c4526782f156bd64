"""The notify service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from libs.common.service import Service
from libs.common.settings import Settings
from libs.contracts.principals import sign_outs
from services.notify import feed_routes, handlers, routes, staff_routes, stats, tasks


class NotifySettings(Settings):
    service_name: ClassVar[str] = "notify"


service = Service(
    name="notify",
    title="notify",
    package=Path(__file__).parent,
    settings=NotifySettings,
    routers=(routes.router, staff_routes.router, feed_routes.router),  # notices, announcements, stats; exports
    consumers=(handlers.consumer, sign_outs("notify")),  # every join event, user.erased, slot.changed, staff.signed_out
    tasks=tasks.TASKS,  # notify.recount, notify.upkeep
    republish=stats.facts,  # slot.stat_changed
)
