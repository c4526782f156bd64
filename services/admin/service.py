"""The admin service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from libs.common.service import Service
from libs.common.settings import Settings


class AdminSettings(Settings):
    service_name: ClassVar[str] = "admin"


service = Service(
    name="admin",
    title="admin",
    package=Path(__file__).parent,
    settings=AdminSettings,
    routers=(),
)
