"""A small client of WeChat's server API: sign-in by a mini-program's code."""

from typing import Any

import httpx2

from libs.common.errors import TooMany
from libs.common.logs import logger
from services.booking.errors import ProviderDown, SignInBlocked, SignInRefused

log = logger(__name__)

# errcode of code2session, as WeChat documents it
BUSY = -1
INVALID_OR_USED = (40029, 40163)
TOO_OFTEN = 45011
BLOCKED = 40226

# Each exchange holds a thread of the server: a WeChat that hangs must leave enough of them for everybody else.
AT_ONCE = 16
WAIT_S = 0.5


class WeChat:
    """One mini-program at WeChat. Its session keys never leave `openid_of`."""

    def __init__(self, appid: str, secret: str, *, base_url: str, timeout_s: float = 5.0) -> None:
        self._appid = appid
        self._secret = secret
        self._client = httpx2.Client(
            base_url=base_url,
            timeout=httpx2.Timeout(timeout_s, pool=WAIT_S),
            limits=httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
        )

    def openid_of(self, code: str) -> str:
        """Exchange a login code (good once, for five minutes) for the user's openid (code2session).

        A code is never tried twice: WeChat may have used it up although its answer was lost. Raises SignInRefused,
        SignInBlocked, TooMany or ProviderDown. WeChat answers 200 in any case; what it means is in `errcode`.
        """
        query = {
            "appid": self._appid,
            "secret": self._secret,
            "js_code": code,
            "grant_type": "authorization_code",
        }
        try:
            answer = self._client.get("/sns/jscode2session", params=query)
            answer.raise_for_status()
            body = answer.json()
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            # Not the error's text: it holds the address, and with it the secret.
            log.warning("wechat does not answer", error=type(error).__name__)
            raise ProviderDown from None
        return self._openid(body)

    def _openid(self, body: Any) -> str:
        errcode = body.get("errcode", 0) if isinstance(body, dict) else BUSY
        openid = body.get("openid") if isinstance(body, dict) else None
        if not errcode and isinstance(openid, str) and _is_name(openid):
            return openid
        log.warning("wechat refused a sign-in", errcode=errcode)
        if errcode in INVALID_OR_USED:
            raise SignInRefused
        if errcode == BLOCKED:
            raise SignInBlocked
        if errcode == TOO_OFTEN:
            raise TooMany(retry_after_s=60)
        raise ProviderDown

    def close(self) -> None:
        self._client.close()


def _is_name(openid: str) -> bool:
    return 0 < len(openid) <= 128 and openid.isascii() and openid.isprintable()
