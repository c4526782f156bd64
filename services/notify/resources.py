"""Notify's settings, and what its routes and channels need beside the common parts."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from libs.common.crypto import Sealer
from libs.common.settings import SealingSettings
from services.notify.live import Live


class NotifySettings(SealingSettings):
    service_name: ClassVar[str] = "notify"

    live_listeners: int = Field(default=200, ge=0, description="streams of live stats that one process holds open")
    live_poll_ms: int = Field(default=300, ge=10, description="how often it looks for changes while anybody listens")
    live_heartbeat_s: float = Field(default=10, gt=0, description="between signs of life where nothing changes")
    live_for_s: float = Field(default=900, ge=0, description="after which a listener has to come again")


@dataclass(frozen=True)
class Resources:
    """The key to addresses, and who listens to stats."""

    sealer: Sealer
    live: Live


def build(settings: NotifySettings) -> Resources:
    return Resources(sealer=Sealer(settings.data_keys), live=Live(settings))
