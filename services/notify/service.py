"""The notify service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from libs.common.service import Service
from libs.common.settings import Settings


class NotifySettings(Settings):
    service_name: ClassVar[str] = "notify"


service = Service(
    name="notify",
    title="notify",
    package=Path(__file__).parent,
    settings=NotifySettings,
    routers=(),
)
