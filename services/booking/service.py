"""The booking service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from libs.common.service import Service
from libs.common.settings import Settings


class BookingSettings(Settings):
    service_name: ClassVar[str] = "booking"


service = Service(
    name="booking",
    title="booking",
    package=Path(__file__).parent,
    settings=BookingSettings,
    routers=(),
)
