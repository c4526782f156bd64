"""Signing in by WeChat: a mini-program's login code stands for its user."""

from libs.common.wechat import LoginBlocked, LoginCodeRefused, WeChat, WeChatRefused, WeChatSilent
from services.booking.errors import ProviderDown, SignInBlocked, SignInRefused


class WeChatProvider:
    """Knows people by their openid in the mini-program."""

    def __init__(self, wechat: WeChat) -> None:
        self._wechat = wechat

    def openid_of(self, code: str) -> str:
        """Exchange a login code for the openid. Raises SignInRefused, SignInBlocked, TooMany or ProviderDown."""
        try:
            return self._wechat.openid_of(code)
        except LoginCodeRefused:
            raise SignInRefused from None
        except LoginBlocked:
            raise SignInBlocked from None
        except (WeChatRefused, WeChatSilent):
            raise ProviderDown from None
