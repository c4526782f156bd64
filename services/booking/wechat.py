"""Signing in by WeChat: a mini-program's login code stands for its user."""

from libs.common.errors import TooMany
from libs.common.wechat import (
    CODE_INVALID_OR_USED,
    CODES_TOO_OFTEN,
    USER_BLOCKED,
    WeChat,
    WeChatRefused,
    WeChatSilent,
)
from services.booking.errors import ProviderDown, SignInBlocked, SignInRefused


class WeChatProvider:
    """Knows people by their openid in the mini-program."""

    def __init__(self, wechat: WeChat) -> None:
        self._wechat = wechat

    def openid_of(self, code: str) -> str:
        """Exchange a login code for the openid. Raises SignInRefused, SignInBlocked, TooMany or ProviderDown."""
        try:
            return self._wechat.openid_of(code)
        except WeChatSilent:
            raise ProviderDown from None
        except WeChatRefused as refusal:
            if refusal.errcode in CODE_INVALID_OR_USED:
                raise SignInRefused from None
            if refusal.errcode == USER_BLOCKED:
                raise SignInBlocked from None
            if refusal.errcode == CODES_TOO_OFTEN:
                raise TooMany(retry_after_s=60) from None
            raise ProviderDown from None
