"""The access token of the mini-program: one for all processes, fetched by one of them when it is needed and not before."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.db import Database
from libs.common.logs import logger
from libs.common.wechat import WeChat, WeChatRefused, WeChatSilent
from services.notify.models import ProviderToken

log = logger(__name__)
SPARE_S = 300  # a token and the one after it are both good for five minutes
LOOK_EVERY_S = 0.1
PAUSE_S = 2.0  # after a failure nobody asks WeChat again for so long


class NoToken(Exception):
    """There is no token for now; the text says why."""


class Tokens:
    """Whoever finds no good token takes the fetching upon itself, by a row that all processes see; the others wait for it."""

    def __init__(self, db: Database, sealer: Sealer, wechat: WeChat, *, clock: Callable[[], datetime] = utcnow) -> None:
        self._db = db
        self._sealer = sealer
        self._wechat = wechat
        self._clock = clock
        self._name = f"wechat:{wechat.appid}"
        self.patience_s = 2 * wechat.timeout_s + PAUSE_S

    def get(self, *, instead_of: str = "") -> str:
        """Return a token; where WeChat has refused the one that it is asked for `instead_of`, another. Raises NoToken."""
        deadline = time.monotonic() + self.patience_s
        while True:
            token, ours = self._db.run(lambda session: self._look(session, instead_of))
            if token:
                return token
            if ours:
                return self._fetch(instead_of)
            if time.monotonic() > deadline:
                raise NoToken("no token: another process fetches it")
            time.sleep(LOOK_EVERY_S)

    def _look(self, session: Session, instead_of: str) -> tuple[str, bool]:
        """Return the token that is there, or whether to fetch one is now our task."""
        now = self._clock()
        row = self._locked(session)
        if row.sealed is not None and row.good_until is not None and row.good_until > now:
            token = self._sealer.open(row.sealed, about=self._name).decode()
            if token != instead_of:
                return token, False
        if row.fetching_until is not None and row.fetching_until > now:
            return "", False
        row.fetching_until = now + timedelta(seconds=self.patience_s)
        return "", True

    def _locked(self, session: Session) -> ProviderToken:
        query = select(ProviderToken).where(ProviderToken.name == self._name).with_for_update()
        row = session.scalar(query)
        if row is None:
            session.execute(insert(ProviderToken).values(name=self._name).on_conflict_do_nothing())
            row = session.scalars(query).one()
        return row

    def _fetch(self, instead_of: str) -> str:
        try:
            found = self._wechat.stable_token()
            if found.value == instead_of:
                found = self._wechat.stable_token(anew=True)
        except (WeChatRefused, WeChatSilent) as error:
            # The others find out by themselves, one after another and not all at once.
            self._note(fetching_until=self._clock() + timedelta(seconds=PAUSE_S))
            raise NoToken(f"no token: {type(error).__name__} {error.args[0]}") from None
        spare = min(SPARE_S, found.expires_in / 2)
        self._note(
            sealed=self._sealer.seal(found.value.encode(), about=self._name),
            good_until=self._clock() + timedelta(seconds=found.expires_in - spare),
            version=ProviderToken.version + 1,
            fetching_until=None,
        )
        log.info("wechat gave a token", expires_in=found.expires_in)
        return found.value

    def _note(self, **values: object) -> None:
        statement = update(ProviderToken).where(ProviderToken.name == self._name).values(**values)
        self._db.run(lambda session: session.execute(statement))
