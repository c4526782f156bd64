"""The booking service on one screen: it owns users, joins, who waits and the inventory, and decides who gets a place.

Hears    hall.changed, item.changed, slot.changed (catalog); staff.signed_out (admin)
Says     join.booked, .cancelled, .revoked, .moved, .checked_in, .check_in_undone, .missed, .expected;
         wait.offered, .ended; line.changed; user.erased; audit.recorded
"""

from pathlib import Path

from libs.common.service import Service
from libs.contracts import dead_letter_routes
from libs.contracts.principals import sign_outs
from services.booking import (
    feed_routes,
    file_routes,
    handlers,
    import_routes,
    resources,
    routes,
    staff_door_routes,
    staff_routes,
    staff_user_routes,
    tasks,
    wait_routes,
)

service = Service(
    name="booking",
    title="booking: users and their joins",
    package=Path(__file__).parent,
    settings=resources.BookingSettings,
    resources=resources.build,
    attach=resources.attach,
    start=resources.start,
    detach=resources.detach,
    routers=(
        routes.router,
        file_routes.router,
        staff_routes.router,  # joins
        staff_door_routes.router,
        staff_user_routes.router,
        feed_routes.router,  # exports
        import_routes.router,
        dead_letter_routes.router,
        wait_routes.router,
    ),
    consumers=(handlers.consumer, sign_outs("booking")),
    tasks=tasks.TASKS,
    republish=tasks.republish,
    body_limits=resources.body_limits,
)
