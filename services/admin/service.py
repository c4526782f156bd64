"""The admin service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path

from libs.common.service import Service
from libs.contracts import dead_letter_routes
from libs.contracts.principals import sign_outs
from services.admin import (
    export_routes,
    handlers,
    import_routes,
    job_measures,
    resources,
    routes,
    second_factor_routes,
    staff,
    staff_routes,
    tasks,
)

service = Service(
    name="admin",
    title="admin",
    package=Path(__file__).parent,
    settings=resources.AdminSettings,
    resources=resources.build,
    attach=resources.attach,
    routers=(
        routes.router,
        second_factor_routes.router,
        dead_letter_routes.router,  # ahead of staff/{staff_id}
        staff_routes.router,
        export_routes.router,
        import_routes.router,
    ),
    consumers=(handlers.consumer, sign_outs("admin")),
    tasks=tasks.TASKS,
    republish=staff.facts,
    measures=job_measures.measures,
)
