"""The notify service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from libs.common.service import Service
from libs.common.settings import Settings
from libs.contracts.principals import sign_outs
from services.notify import feed_routes, figure_routes, handlers, live, routes, staff_routes, stats, tasks


class NotifySettings(Settings):
    service_name: ClassVar[str] = "notify"

    live_listeners: int = Field(default=200, ge=0, description="streams of live stats that one process holds open")
    live_poll_ms: int = Field(default=300, ge=10, description="how often it looks for changes while anybody listens")
    live_heartbeat_s: float = Field(default=10, gt=0, description="between signs of life where nothing changes")
    live_for_s: float = Field(default=900, ge=0, description="after which a listener has to come again")


service = Service(
    name="notify",
    title="notify",
    package=Path(__file__).parent,
    settings=NotifySettings,
    routers=(
        routes.router,  # notices, announcements
        staff_routes.router,  # announcements, stats
        figure_routes.router,  # dashboards, recounts, live stats
        feed_routes.router,  # exports
    ),
    consumers=(handlers.consumer, sign_outs("notify")),  # every join event, user.erased, slot.changed, staff.signed_out
    tasks=tasks.TASKS,  # notify.recount, notify.recount_asked, notify.upkeep
    resources=live.Live,
    republish=stats.facts,  # slot.stat_changed
)
