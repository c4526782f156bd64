"""What users say about being reached outside the inbox: where, in which language, about what."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.errors import Language
from libs.common.ids import new_id
from libs.common.inputs import Spelled
from libs.common.mail import ADDRESS, LONGEST_ADDRESS, Mail
from libs.common.service import Runtime
from libs.common.web import Now, ReadersLanguage, RuntimeDep, Schema, Tx
from libs.common.wechat import LoginBlocked, LoginCodeRefused, WeChat, WeChatRefused, WeChatSilent
from libs.contracts.principals import CurrentUser, User
from services.notify import recipients, wechat_templates
from services.notify.channels.email import handed_over
from services.notify.errors import (
    ChannelOff,
    CodeWrong,
    EmailUnfit,
    MailDown,
    TemplateUnknown,
    WeChatBlocked,
    WeChatCodeRefused,
    WeChatDown,
)
from services.notify.outcomes import Refused, Sent
from services.notify.resources import Resources
from services.notify.texts import NoticeKind, confirmation

router = APIRouter(tags=["reaching users"])

PATIENCE_S = 4.0  # a request is given up after five

ChannelName = Literal["wechat", "email", "sms"]
Channels = Annotated[list[ChannelName], Field(max_length=10)]
TemplateId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[!-~]+$")]


class ChannelOut(BaseModel):
    """A way by which notices go out. `templates`: which of the mini-program's templates to ask permission for, by kind."""

    name: ChannelName
    templates: dict[NoticeKind, str] = {}


class ChannelsOut(BaseModel):
    items: list[ChannelOut]


class MeOut(BaseModel):
    """How the user is reached. `choices`: the channels for kinds about which they have chosen; for the others, all.

    `grants`: how many more messages of each template they have allowed.
    """

    language: Language
    choices: dict[str, list[str]]
    email: str | None
    unconfirmed_email: str | None
    phone: str | None
    unconfirmed_phone: str | None
    wechat: bool
    grants: dict[str, int]


class MeIn(Schema):
    """What is to be another; what is left out stays."""

    language: Language | None = None
    choices: dict[Spelled[NoticeKind], Channels] | None = None


class EmailIn(Schema):
    email: Annotated[str, StringConstraints(max_length=LONGEST_ADDRESS, pattern=ADDRESS)]


class CodeIn(Schema):
    code: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]


class GrantsIn(Schema):
    """`code`: of wx.login, new for each report. `accepted`: the templates that the user has just allowed one message of."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
    accepted: Annotated[list[TemplateId], Field(min_length=1, max_length=10)]


@router.get("/channels")
def list_channels(session: Tx, runtime: RuntimeDep) -> ChannelsOut:
    """The ways that this installation offers beside the inbox."""
    items = [ChannelOut(name=name) for name in _offered(runtime.resources)]
    for one in items:
        if one.name == "wechat":
            one.templates = {NoticeKind(row.kind): row.template_id for row in wechat_templates.all_of_them(session)}
    return ChannelsOut(items=items)


def _offered(resources: Resources) -> list[ChannelName]:
    by_name: dict[ChannelName, object] = {
        "wechat": resources.wechat,
        "email": resources.mail,
        "sms": resources.texting,
    }
    return [name for name, provider in by_name.items() if provider is not None]


@router.get("/me")
def me(session: Tx, user: CurrentUser, runtime: RuntimeDep, now: Now) -> MeOut:
    return shown(recipients.of(session, _sealer(runtime), user.id, now=now))


@router.patch("/me")
def edit_me(session: Tx, user: CurrentUser, runtime: RuntimeDep, now: Now, body: MeIn) -> MeOut:
    """Choose the language of messages, and the channels of some kinds of notices; the inbox gets them all.

    What is chosen has to be among the channels that there are.
    """
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)
    choices: recipients.Choices | None = None
    if body.choices is not None:
        choices = {kind.value: _chosen(runtime.resources, chosen) for kind, chosen in body.choices.items()}
    recipients.choose(session, user.id, language=body.language, choices=choices)
    return shown(recipients.of(session, _sealer(runtime), user.id, now=now))


def _chosen(resources: Resources, channels: Sequence[ChannelName]) -> list[str]:
    """Return the channels that are named, each once; raises ChannelOff."""
    offered = _offered(resources)
    for channel in channels:
        if channel not in offered:
            raise ChannelOff(channel=channel)
    return [*dict.fromkeys(channels)]


@router.put("/me/email", status_code=202)
def set_email(user: CurrentUser, runtime: RuntimeDep, language: ReadersLanguage, now: Now, body: EmailIn) -> MeOut:
    """Send a code to an address: notices go there when it comes back to `email/confirm`, within a quarter of an hour."""
    resources: Resources = runtime.resources
    if resources.mail is None:
        raise ChannelOff(channel="email")
    address = sha256(body.email.lower().encode()).hexdigest()  # Redis is told no addresses
    for subject in (("email-user", user.id), ("email", address)):
        runtime.limiter.hit(runtime.settings.mail_rate, *subject)
    sealer = resources.sealer
    with runtime.db.transaction() as session:
        code = recipients.set_address(session, sealer, user.id, "email", body.email, language=language, now=now)
        found = recipients.of(session, sealer, user.id, now=now)
    # No connection is held while the mail server is asked.
    _send_code(resources, body.email, code, language)
    return shown(found)


def _send_code(resources: Resources, email: str, code: str, language: Language) -> None:
    """Send a code while its user waits. Raises EmailUnfit or MailDown.

    Each conversation holds a thread of the server: mail that hangs must leave enough of them for everybody else.
    """
    title, text = confirmation(code, language)
    letter = Mail(to=email, subject=title, body=text, id=new_id(), written_at=utcnow())
    if resources.mail is None or not resources.codes_at_once.acquire(blocking=False):
        raise MailDown
    try:
        outcome = handed_over(replace(resources.mail, timeout_s=min(resources.mail.timeout_s, PATIENCE_S)), letter)
    finally:
        resources.codes_at_once.release()
    if isinstance(outcome, Refused):
        raise EmailUnfit
    if not isinstance(outcome, Sent):
        raise MailDown


@router.post("/me/email/confirm")
def confirm_email(user: CurrentUser, runtime: RuntimeDep, now: Now, body: CodeIn) -> MeOut:
    """Prove by the code that mail to the address is read. After five wrong ones it takes a new code."""
    return confirmed(runtime, user, "email", body.code, now=now)


@router.delete("/me/email", status_code=204)
def remove_email(session: Tx, user: CurrentUser, runtime: RuntimeDep) -> None:
    """Send no mail any more, and forget the address."""
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)
    recipients.remove_address(session, user.id, "email")


@router.post("/grants", status_code=201)
def report_grants(user: CurrentUser, runtime: RuntimeDep, language: ReadersLanguage, now: Now, body: GrantsIn) -> MeOut:
    """Report that the user allows one more message of each of these templates.

    A code of wx.login is good once, so that a report that is repeated counts once.
    """
    wechat: WeChat | None = runtime.resources.wechat
    if wechat is None:
        raise ChannelOff(channel="wechat")
    runtime.limiter.hit(runtime.settings.wechat_code_rate, "wechat-code", user.id)
    with runtime.db.transaction() as session:
        known = {row.template_id for row in wechat_templates.all_of_them(session)}
    for template_id in body.accepted:
        if template_id not in known:
            raise TemplateUnknown(template_id=template_id)
    openid = _openid(wechat, body.code)
    sealer = _sealer(runtime)
    with runtime.db.transaction() as session:
        recipients.grant(session, sealer, user.id, openid, set(body.accepted), language=language)
        found = recipients.of(session, sealer, user.id, now=now)
    return shown(found)


def _openid(wechat: WeChat, code: str) -> str:
    try:
        return wechat.openid_of(code)
    except LoginCodeRefused:
        raise WeChatCodeRefused from None
    except LoginBlocked:
        raise WeChatBlocked from None
    except (WeChatRefused, WeChatSilent):
        raise WeChatDown from None


def _sealer(runtime: Runtime) -> Sealer:
    sealer: Sealer = runtime.resources.sealer
    return sealer


def confirmed(runtime: Runtime, user: User, way: recipients.Way, code: str, *, now: datetime) -> MeOut:
    """Confirm an address by the code that was sent there, or raise CodeWrong."""
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)
    sealer = _sealer(runtime)
    with runtime.db.transaction() as session:  # a wrong code is refused after it was counted
        is_right = recipients.confirm_address(session, sealer, user.id, way, code, now=now)
        found = recipients.of(session, sealer, user.id, now=now)
    if not is_right:
        raise CodeWrong
    return shown(found)


def shown(found: recipients.Reachable) -> MeOut:
    return MeOut(
        language=found.language,
        choices=found.choices,
        email=found.email or None,
        unconfirmed_email=found.unconfirmed_email or None,
        phone=found.phone or None,
        unconfirmed_phone=found.unconfirmed_phone or None,
        wechat=found.wechat,
        grants=found.grants,
    )
