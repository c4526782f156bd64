"""WeChat subscription messages: one grant of the user, one message."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from libs.common import wechat
from libs.common.crypto import Sealer
from libs.common.service import Runtime
from libs.common.wechat import WeChat, WeChatRefused, WeChatSilent
from services.notify import recipients, wechat_templates
from services.notify.channel import Delivering, Told, Wanted
from services.notify.models import Grant, Recipient, WeChatTemplate
from services.notify.outcomes import Later, Outcome, Refused, Sent, Unknown
from services.notify.wechat_tokens import NoToken, Tokens

NAME = "wechat"
TOO_MANY_WAIT_S = 60.0


@dataclass(frozen=True)
class NotAllowed(Refused):
    """The user has taken the permission back, or there was none left."""


@dataclass(frozen=True)
class Letter:
    template_id: str
    openid: str
    message: dict[str, Any]


class WeChatChannel:
    """Sends by the mini-program's templates, as staff have filled them in."""

    name = NAME
    at_once = 4

    def __init__(self, wechat: WeChat, tokens: Tokens, sealer: Sealer) -> None:
        self._wechat = wechat
        self._tokens = tokens
        self._sealer = sealer
        request_s = 3 * wechat.timeout_s  # in connecting, writing and reading
        token_s = tokens.patience_s + 2 * request_s
        self.longest_s = 2 * (token_s + request_s)  # where WeChat refuses the token

    def prepare(self, session: Session, delivering: Delivering) -> Letter | Refused:
        told = delivering.told
        recipient = session.get(Recipient, told.user_id)
        template = session.get(WeChatTemplate, told.kind)
        openid = "" if recipient is None else recipients.openid_of(self._sealer, recipient)
        if template is None or not openid:
            return Refused("nobody to send it to" if template else "no template for this kind of notice")
        try:
            message = wechat_templates.message(template, told)
        except ValueError as error:
            return Refused(f"the notice does not fit the template: {error}")
        # One whose answer was lost keeps the grant that it has: it may have been used up.
        if not delivering.possibly_twice and not _take_grant(session, told.user_id, template.template_id):
            return Refused("no grant left")
        return Letter(template.template_id, openid, {"touser": openid, **message})

    def send(self, letter: Letter) -> Outcome:
        try:
            token = self._tokens.get()
            try:
                return self._sent(letter, token)
            except WeChatRefused as refusal:
                if refusal.errcode not in wechat.TOKEN_REFUSED:
                    raise
                return self._sent(letter, self._tokens.get(instead_of=token))
        except NoToken as error:
            return Later(str(error))
        except WeChatSilent as error:
            said = f"no answer ({error})"
            return Later(said) if error.surely_unsent else Unknown(said)
        except WeChatRefused as refusal:
            return _meant(refusal, letter)

    def settle(self, session: Session, delivering: Delivering, letter: Letter, outcome: Outcome) -> None:
        grant = (Grant.user_id == delivering.told.user_id, Grant.template_id == letter.template_id)
        if isinstance(outcome, NotAllowed):
            session.execute(update(Grant).where(*grant).values(left=0))
        elif isinstance(outcome, (Refused, Later)) and not delivering.possibly_twice:
            session.execute(update(Grant).where(*grant).values(left=Grant.left + 1))

    def _sent(self, letter: Letter, token: str) -> Outcome:
        return Sent(self._wechat.send_subscribed(token, letter.message))


def channel(runtime: Runtime) -> WeChatChannel | None:
    client: WeChat | None = runtime.resources.wechat
    if client is None:
        return None
    sealer: Sealer = runtime.resources.sealer
    return WeChatChannel(client, Tokens(runtime.db, sealer, client), sealer)


def wanted(session: Session, told: Sequence[Told], by_user: Mapping[str, Recipient]) -> Iterable[Wanted]:
    """Notices of kinds that have a template, to users who have a grant of it."""
    wanting = recipients.who_want(told, NAME, by_user, lambda row: row.openid_sealed)
    if not wanting:
        return []
    has_grant = select(WeChatTemplate.kind, Grant.user_id).join(
        Grant, (Grant.template_id == WeChatTemplate.template_id) & (Grant.left > 0)
    )
    users = {one.user_id for one in wanting}
    granted = {(kind, user_id) for kind, user_id in session.execute(has_grant.where(Grant.user_id.in_(users)))}
    return [Wanted(one, NAME) for one in wanting if (one.kind, one.user_id) in granted]


def _take_grant(session: Session, user_id: str, template_id: str) -> bool:
    one_less = (
        update(Grant)
        .where(Grant.user_id == user_id, Grant.template_id == template_id, Grant.left > 0)
        .values(left=Grant.left - 1)
        .returning(Grant.left)
    )
    return session.scalar(one_less) is not None


def _meant(refusal: WeChatRefused, letter: Letter) -> Outcome:
    said = f"{refusal.errcode} {refusal.said.replace(letter.openid, '…')}".strip()[:300]
    if refusal.errcode == wechat.NOT_ALLOWED_BY_USER:
        return NotAllowed(said)
    if refusal.errcode == wechat.BUSY or refusal.errcode in wechat.TOKEN_REFUSED:
        return Later(said)
    if refusal.errcode in wechat.TOO_MANY:
        return Later(said, after_s=TOO_MANY_WAIT_S)
    return Refused(said)
