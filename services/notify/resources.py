"""Notify's settings, and what its routes and channels need beside the common parts."""

import re
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Annotated, ClassVar, Self

from fastapi import Depends
from pydantic import Field, IPvAnyNetwork, SecretStr, model_validator

from libs.common import mail, signatures
from libs.common.crypto import Sealer
from libs.common.mail import Security, Server
from libs.common.outward import Outward
from libs.common.settings import Json, SealingSettings, require_secret
from libs.common.web import RuntimeDep
from libs.common.wechat import WeChat
from services.notify.channels.sms import Templates
from services.notify.live import Live
from services.notify.sms import Bridge, Provider
from services.notify.sms_budget import Budget
from services.notify.texts import NoticeKind
from services.notify.webhooks import Allowed

CODES_AT_ONCE = 8
CODE_PATIENCE_S = 4.0  # a request is given up after five


class NotifySettings(SealingSettings):
    """A channel without settings is off."""

    service_name: ClassVar[str] = "notify"

    live_listeners: int = Field(default=200, ge=0, description="streams of live stats that one process holds open")
    live_poll_ms: int = Field(default=300, ge=10, description="how often it looks for changes while anybody listens")
    live_heartbeat_s: float = Field(default=10, gt=0, description="between signs of life where nothing changes")
    live_for_s: float = Field(default=900, ge=0, description="after which a listener has to come again")
    wechat_appid: str = ""
    wechat_secret: SecretStr = SecretStr("")
    wechat_base_url: str = "https://api.weixin.qq.com"
    wechat_timeout_s: float = Field(default=5.0, gt=0, le=30)
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Security = Field(default="starttls", description="starttls, tls (from the first byte) or none")
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_timeout_s: float = Field(default=20.0, gt=0, le=120, description="for a whole conversation")
    mail_from: str = Field(default="", description="the address that notices come from")
    mail_rate: str = Field(default="5/hour", description="codes to one user, and to one address")
    wechat_code_rate: str = Field(default="30/minute", description="reports of grants by one user")
    webhook_http: bool = Field(
        default=False, description="webhooks may be called without TLS outside embedded mode, too"
    )
    webhook_networks: Annotated[list[IPvAnyNetwork], Json] = Field(
        default=[], description="private networks in which webhooks may be called all the same"
    )
    webhook_timeout_s: float = Field(default=10.0, gt=0, le=60, description="how long the call of a webhook may take")

    sms_url: str = Field(default="", description="where the bridge to the provider of text messages is")
    sms_secret: SecretStr = Field(default=SecretStr(""), description="whsec_..., what the bridge verifies us by")
    sms_templates: Annotated[Templates, Json] = Field(
        default={}, description="the provider's templates: of `code`, and of kinds of notices"
    )
    sms_timeout_s: float = Field(default=10.0, gt=0, le=60)
    sms_regions: Annotated[list[str], Json] = Field(default=["CN"], min_length=1, description="ISO 3166 of countries")
    sms_per_user: int = Field(default=10, ge=1, description="text messages to one user within 24 hours")
    sms_per_number: int = Field(
        default=10, ge=1, description="codes to one number within 24 hours, and as many notices"
    )
    sms_per_day: int = Field(default=2000, ge=1, description="text messages within 24 hours in all")

    @model_validator(mode="after")
    def _text_messages_are_whole(self) -> Self:
        if not self.sms_url:
            return self
        if not re.match(r"https?://[^/\s]+", self.sms_url):
            raise ValueError("HALLPASS_SMS_URL is no address of a web server")
        if not signatures.is_secret(self.sms_secret.get_secret_value()):
            raise ValueError("HALLPASS_SMS_SECRET has to be whsec_ and base64 of 24 to 64 random bytes")
        if "code" not in self.sms_templates:
            raise ValueError("HALLPASS_SMS_TEMPLATES names no template for `code`, by which numbers are confirmed")
        if unknown := sorted(self.sms_templates.keys() - {"code", *NoticeKind}):
            raise ValueError(f"HALLPASS_SMS_TEMPLATES: there are no notices of kind {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _channels_are_whole(self) -> Self:
        if self.wechat_appid and not self.wechat_secret.get_secret_value():
            raise ValueError("HALLPASS_WECHAT_SECRET is missing: it belongs to HALLPASS_WECHAT_APPID")
        if self.wechat_appid and self.mode != "embedded":
            require_secret("HALLPASS_WECHAT_SECRET", self.wechat_secret.get_secret_value())
        if self.smtp_host and not re.fullmatch(mail.ADDRESS, self.mail_from):
            raise ValueError("HALLPASS_MAIL_FROM is no address: it belongs to HALLPASS_SMTP_HOST")
        if self.smtp_user and not self.smtp_password.get_secret_value():
            raise ValueError("HALLPASS_SMTP_PASSWORD is missing: it belongs to HALLPASS_SMTP_USER")
        return self


@dataclass(frozen=True)
class Texting:
    """How text messages are sent (codes while somebody waits for it), by which templates, where to and how many."""

    provider: Provider
    for_codes: Provider
    templates: Templates
    budget: Budget
    regions: frozenset[str]


@dataclass(frozen=True)
class Resources:
    """The key to addresses and secrets, the providers of the channels that are on, and who listens to stats; which webhooks
    may be named, and how they are called.
    """

    sealer: Sealer
    live: Live
    allowed: Allowed
    outward: Outward
    wechat: WeChat | None
    mail: Server | None
    texting: Texting | None
    codes_at_once: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(CODES_AT_ONCE))


def build(settings: NotifySettings) -> Resources:
    permitted = settings.webhook_networks
    return Resources(
        sealer=Sealer(settings.data_keys),
        live=Live(settings),
        allowed=Allowed(http=settings.webhook_http or settings.mode == "embedded", permitted=permitted),
        outward=Outward(permitted=permitted, total_s=settings.webhook_timeout_s),
        wechat=_wechat(settings),
        mail=_mail(settings),
        texting=_texting(settings),
    )


def _wechat(settings: NotifySettings) -> WeChat | None:
    if not settings.wechat_appid:
        return None
    return WeChat(
        settings.wechat_appid,
        settings.wechat_secret.get_secret_value(),
        base_url=settings.wechat_base_url,
        timeout_s=settings.wechat_timeout_s,
    )


def _texting(settings: NotifySettings) -> Texting | None:
    if not settings.sms_url:
        return None
    secret = settings.sms_secret.get_secret_value()
    patience_s = min(settings.sms_timeout_s, CODE_PATIENCE_S)
    return Texting(
        provider=Bridge(settings.sms_url, secret, timeout_s=settings.sms_timeout_s),
        for_codes=Bridge(settings.sms_url, secret, timeout_s=patience_s),
        templates=settings.sms_templates,
        budget=Budget(
            per_user=settings.sms_per_user,
            per_number=settings.sms_per_number,
            per_day=settings.sms_per_day,
            key=secret.encode(),
        ),
        regions=frozenset(settings.sms_regions),
    )


def _mail(settings: NotifySettings) -> Server | None:
    if not settings.smtp_host:
        return None
    return Server(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value(),
        sender=settings.mail_from,
        timeout_s=settings.smtp_timeout_s,
    )


def _sealer(runtime: RuntimeDep) -> Sealer:
    resources: Resources = runtime.resources
    return resources.sealer


def _allowed(runtime: RuntimeDep) -> Allowed:
    resources: Resources = runtime.resources
    return resources.allowed


SealerDep = Annotated[Sealer, Depends(_sealer)]
AllowedDep = Annotated[Allowed, Depends(_allowed)]
