"""The admin service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from libs.common.service import Service, Task
from libs.common.settings import Settings
from services.admin import handlers, routes, staff, staff_routes, tasks


class AdminSettings(Settings):
    """Admin alone signs staff tokens: its `staff_token_keys` hold a private key, those of the others need none."""

    service_name: ClassVar[str] = "admin"

    @model_validator(mode="after")
    def _can_sign(self) -> Self:
        if self.mode != "embedded" and not any(key.get("d") for key in self.staff_token_keys):
            raise ValueError("HALLPASS_ADMIN_STAFF_TOKEN_KEYS holds no private key (`d`) to sign with")
        return self


service = Service(
    name="admin",
    title="admin",
    package=Path(__file__).parent,
    settings=AdminSettings,
    routers=(routes.router, staff_routes.router),
    consumers=(handlers.consumer,),
    tasks=(Task("admin.upkeep", tasks.upkeep, daily_at=(19, 10)),),  # 03:10 in China
    republish=staff.facts,
)
