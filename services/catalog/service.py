"""The catalog service on one screen: what it serves, hears, publishes and runs in the background."""

from pathlib import Path
from typing import ClassVar

from libs.common.service import Service
from libs.common.settings import Settings


class CatalogSettings(Settings):
    service_name: ClassVar[str] = "catalog"


service = Service(
    name="catalog",
    title="catalog",
    package=Path(__file__).parent,
    settings=CatalogSettings,
    routers=(),
)
