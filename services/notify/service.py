"""The notify service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from libs.common.service import Service
from libs.common.settings import Settings
from libs.contracts.principals import sign_outs
from services.notify import feed_routes, figure_routes, handlers, routes, staff_routes, stats, tasks


class NotifySettings(Settings):
    service_name: ClassVar[str] = "notify"


service = Service(
    name="notify",
    title="notify",
    package=Path(__file__).parent,
    settings=NotifySettings,
    routers=(
        routes.router,  # notices, announcements
        staff_routes.router,  # announcements, stats
        figure_routes.router,  # dashboards, recounts
        feed_routes.router,  # exports
    ),
    consumers=(handlers.consumer, sign_outs("notify")),  # every join event, user.erased, slot.changed, staff.signed_out
    tasks=tasks.TASKS,  # notify.recount, notify.recount_asked, notify.upkeep
    republish=stats.facts,  # slot.stat_changed
)
