"""A small client of WeChat's server API: who has signed in to the mini-program, and messages to those who allowed them.

WeChat answers 200 in any case; what it means is in `errcode`. Secrets, tokens and session keys never leave this module by
an error or a log.
"""

import re
from dataclasses import dataclass
from typing import Any

import httpx2

from libs.common.errors import TooMany
from libs.common.logs import logger

log = logger(__name__)

# errcode, as WeChat documents it
BUSY = -1
CODE_INVALID_OR_USED = (40029, 40163)
CODES_TOO_OFTEN = 45011
USER_BLOCKED = 40226
TOKEN_REFUSED = (40001, 40014, 42001)
NOT_ALLOWED_BY_USER = 43101
TOO_MANY = (45009, 45011)  # a day's or a minute's quota is used up

# Each request holds a thread: a WeChat that hangs must leave enough of them for everybody else.
AT_ONCE = 16
WAIT_S = 0.5

LONGEST_TOKEN = 2048  # WeChat asks for room for 512

_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class WeChatRefused(Exception):
    """WeChat has answered with an errcode; `said` is its errmsg."""

    def __init__(self, errcode: int, said: str = "") -> None:
        super().__init__(errcode, said)
        self.errcode = errcode
        self.said = said


class LoginCodeRefused(WeChatRefused):
    """The login code is wrong, expired or used."""


class LoginBlocked(WeChatRefused):
    """WeChat has blocked the user."""


class WeChatSilent(Exception):
    """There is no answer that can be understood. `surely_unsent`: the request never left."""

    def __init__(self, what: str, *, surely_unsent: bool) -> None:
        super().__init__(what)
        self.surely_unsent = surely_unsent


@dataclass(frozen=True)
class AccessToken:
    """What messages are sent with, for so many seconds more."""

    value: str
    expires_in: int


class WeChat:
    """One mini-program at WeChat."""

    def __init__(self, appid: str, secret: str, *, base_url: str, timeout_s: float = 5.0) -> None:
        self.appid = appid
        self.timeout_s = timeout_s
        self._secret = secret
        self._client = httpx2.Client(
            base_url=base_url,
            timeout=httpx2.Timeout(timeout_s, pool=WAIT_S),
            # Each exchange has a line of its own: what is left on a shared one, by a server that answered twice, would be
            # taken for the next answer, and so one user for another.
            limits=httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=0),
        )

    def openid_of(self, code: str) -> str:
        """Exchange a login code (good once, for five minutes) for the user's openid (code2session).

        Raises LoginCodeRefused, LoginBlocked, TooMany, another WeChatRefused or WeChatSilent. A code is never tried twice:
        WeChat may have used it up although its answer was lost.
        """
        query = {
            "appid": self.appid,
            "secret": self._secret,
            "js_code": code,
            "grant_type": "authorization_code",
        }
        try:
            openid = self._ask("GET", "/sns/jscode2session", params=query).get("openid")
        except WeChatRefused as refusal:
            raise _about_login(refusal) from None
        if not isinstance(openid, str) or not _is_name(openid):
            raise WeChatSilent("an answer without openid", surely_unsent=False)
        return openid

    def stable_token(self, *, anew: bool = False) -> AccessToken:
        """Return the token of the mini-program: the same to everybody who asks, until it has nearly expired.

        `anew` makes WeChat give out another one, which it does twenty times a day.
        """
        body = {"grant_type": "client_credential", "appid": self.appid, "secret": self._secret, "force_refresh": anew}
        found = self._ask("POST", "/cgi-bin/stable_token", json=body)
        token, seconds = found.get("access_token"), found.get("expires_in")
        if not isinstance(token, str) or not _is_name(token, longest=LONGEST_TOKEN) or type(seconds) is not int:
            raise WeChatSilent("an answer without token", surely_unsent=False)
        return AccessToken(token, seconds)

    def send_subscribed(self, token: str, message: dict[str, Any]) -> str:
        """Send a subscription message; return its id where WeChat tells one."""
        found = self._ask("POST", "/cgi-bin/message/subscribe/send", params={"access_token": token}, json=message)
        return str(found.get("msgid", ""))

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **what)
            answer.raise_for_status()
            body = answer.json()
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            # Not the error's text: it holds the address, and with it the secret.
            kind = type(error).__name__
            log.warning("wechat does not answer", path=path, error=kind)
            raise WeChatSilent(kind, surely_unsent=_is_unsent(error)) from None
        if not isinstance(body, dict):
            raise WeChatSilent("an answer that is no object", surely_unsent=False)
        errcode = body.get("errcode", 0)
        if errcode:
            log.warning("wechat refused", path=path, errcode=errcode)
            raise WeChatRefused(errcode if isinstance(errcode, int) else BUSY, str(body.get("errmsg", "")))
        return body


# What the fields of a template take: their own kind of text, so many characters of it (of UTF-16, as WeChat counts).
LONGEST: dict[str, int] = {
    "thing": 20,
    "phrase": 5,
    "name": 10,
    "character_string": 32,
    "number": 32,
    "letter": 32,
    "symbol": 5,
    "phone_number": 17,
    "car_number": 8,
    "amount": 32,
    "time": 64,
    "date": 64,
}
KEYWORD = re.compile(rf"({'|'.join(LONGEST)})[1-9][0-9]?", re.ASCII)
_CUT = ("thing", "name", "phrase", "character_string", "letter", "symbol")  # half a number is another number
_DATE, _TIME = r"[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}日", r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_FORM: dict[str, re.Pattern[str]] = {
    "number": re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII),
    "letter": re.compile(r"[A-Za-z]+", re.ASCII),
    "character_string": re.compile(r"[!-~]+( [!-~]+)*", re.ASCII),
    "phrase": re.compile(r"[\u4e00-\u9fff]+"),
    "phone_number": re.compile(r"[0-9+()\- ]+", re.ASCII),
    "time": re.compile(rf"({_DATE} )?{_TIME}(~({_DATE} )?{_TIME})?"),
    "date": re.compile(rf"{_DATE}( {_TIME})?(~({_DATE}( {_TIME})?|{_TIME}))?"),
    "symbol": re.compile(r"[^0-9A-Za-z\u4e00-\u9fff]+", re.ASCII),
}


def value(keyword: str, text: str) -> str:
    """Return the text as the field of a template takes it: on one line, cut to its length; ValueError where it can't be."""
    kind = keyword.rstrip("0123456789")
    longest = LONGEST[kind]
    if kind == "name" and text.isascii():
        longest = 20
    said = " ".join(_CONTROL.sub(" ", text).split())
    if kind in _CUT:
        said = _cut(said, longest, mark=kind in ("thing", "name"))
    form = _FORM.get(kind)
    if not said or _units(said) > longest or (form is not None and not form.fullmatch(said)):
        raise ValueError(kind)
    return said


def _cut(text: str, longest: int, *, mark: bool) -> str:
    if _units(text) <= longest:
        return text
    room = longest - 1 if mark else longest
    kept = text[:room]
    while _units(kept) > room:
        kept = kept[:-1]
    return f"{kept.rstrip()}…" if mark else kept.rstrip()  # a space at the end is taken in no form


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _about_login(refusal: WeChatRefused) -> Exception:
    """Return what a refusal of a login code means."""
    if refusal.errcode in CODE_INVALID_OR_USED:
        return LoginCodeRefused(refusal.errcode, refusal.said)
    if refusal.errcode == USER_BLOCKED:
        return LoginBlocked(refusal.errcode, refusal.said)
    if refusal.errcode == CODES_TOO_OFTEN:
        return TooMany(retry_after_s=60)
    return refusal


def _is_unsent(error: Exception) -> bool:
    """Whether the request surely had no effect: behind other bad answers a gateway may have lost a good one."""
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in (429, 500, 503)
    return isinstance(error, _BEFORE_SENDING)


def _is_name(text: str, *, longest: int = 128) -> bool:
    return 0 < len(text) <= longest and text.isascii() and text.isprintable()
