"""The providers by whom users sign in: each turns a code into a name that only it gives out."""

from typing import Protocol

from libs.common.wechat import WeChat
from services.booking.errors import ProviderUnknown
from services.booking.wechat import WeChatProvider


class Provider(Protocol):
    """Knows people by an id of its own."""

    def openid_of(self, code: str) -> str:
        """Return the id of the person whom the code stands for, or raise why not."""
        ...


class DevProvider:
    """For trying things out: whoever says a name is that person. Exists only where the settings allow it."""

    def openid_of(self, code: str) -> str:
        return code.strip()


Providers = dict[str, Provider]


def providers(*, dev: bool, wechat: WeChat | None) -> Providers:
    """Return the ways of signing in that this installation offers."""
    offered: Providers = {}
    if dev:
        offered["dev"] = DevProvider()
    if wechat is not None:
        offered["wechat"] = WeChatProvider(wechat)
    return offered


def provider(offered: Providers, name: str) -> Provider:
    """Return the provider of this name, or raise ProviderUnknown."""
    if name not in offered:
        raise ProviderUnknown(offered=sorted(offered))
    return offered[name]
