"""The notify service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path

from libs.common.service import Service
from libs.contracts import dead_letter_routes
from libs.contracts.principals import sign_outs
from services.notify import (
    delivery_routes,
    feed_routes,
    figure_routes,
    handlers,
    me_routes,
    phone_routes,
    resources,
    routes,
    senders,
    staff_routes,
    stats,
    tasks,
    template_routes,
    webhook_routes,
)

service = Service(
    name="notify",
    title="notify",
    package=Path(__file__).parent,
    settings=resources.NotifySettings,
    resources=resources.build,
    routers=(
        routes.router,  # notices, announcements
        staff_routes.router,  # announcements, stats
        figure_routes.router,  # dashboards, recounts, live stats
        me_routes.router,  # how users are reached
        phone_routes.router,
        template_routes.router,
        delivery_routes.router,
        webhook_routes.router,
        feed_routes.router,  # exports
        dead_letter_routes.router,
    ),
    consumers=(
        handlers.consumer,  # booking's and catalog's events
        sign_outs("notify"),
    ),
    tasks=tasks.TASKS,
    loops=senders.of,  # deliveries, each channel by itself
    republish=stats.facts,  # slot.stat_changed
)
