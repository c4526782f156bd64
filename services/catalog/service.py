"""The catalog service on one screen: what it serves, hears, publishes and runs in the background.

It publishes hall.changed, item.changed, slot.changed and audit.recorded.
"""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from libs.common.service import Service
from libs.common.settings import Settings
from libs.contracts import dead_letter_routes
from libs.contracts.catalog import USUAL_UPLOAD_BYTES, UploadMaxBytes
from libs.contracts.principals import sign_outs
from services.catalog import (
    facts,
    handlers,
    import_routes,
    resources,
    routes,
    staff_day_routes,
    staff_routes,
    tasks,
)


class CatalogSettings(Settings):
    service_name: ClassVar[str] = "catalog"

    public_url: str = Field(
        default="", pattern=r"^(https?://\S+)?$", description="where users reach it; empty: where staff do"
    )
    upload_max_bytes: UploadMaxBytes = USUAL_UPLOAD_BYTES


service = Service(
    name="catalog",
    title="catalog",
    package=Path(__file__).parent,
    settings=CatalogSettings,
    routers=(
        routes.router,
        staff_routes.router,
        staff_day_routes.router,
        import_routes.router,
        dead_letter_routes.router,
    ),
    consumers=(handlers.consumer, sign_outs("catalog")),
    tasks=tasks.TASKS,
    resources=resources.build,
    attach=resources.attach,
    republish=facts.everything,
)
