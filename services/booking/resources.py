"""Booking's settings, and what its routes need beside the common parts."""

import re
from dataclasses import dataclass, field
from functools import partial
from threading import BoundedSemaphore
from typing import Annotated, ClassVar, Self

from fastapi import Depends, Header
from pydantic import Field, SecretStr, model_validator

from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.service import Runtime
from libs.common.settings import SealingSettings, require_secret
from libs.common.store import Store, check_url
from libs.common.web import RuntimeDep
from libs.common.wechat import WeChat
from libs.contracts.catalog import USUAL_UPLOAD_BYTES, UploadMaxBytes
from libs.contracts.principals import CurrentUser
from services.booking import lines, metrics, sign_in
from services.booking.counters import CHANGED, Counters, State
from services.booking.desk import Desk
from services.booking.errors import KeyRequired
from services.booking.files import Files
from services.booking.steward import Steward

AROUND_A_FILE = 64 * 1024  # what stands around it in the body of an upload
_KEY = re.compile(r"[!-~]{1,200}")


class BookingSettings(SealingSettings):
    service_name: ClassVar[str] = "booking"

    hash_key: SecretStr = Field(description="32 random bytes as base64url, for finding what is encrypted")
    dev_sign_in: bool = Field(default=False, description="lets anybody sign in under any name: never in production")
    crowd: int = Field(
        default=32,
        ge=1,
        description="so many bookings at once in a process, and the atomic counters are asked about them",
    )
    person_rate: str = Field(default="60/minute", description="searches for a person by one member of staff")
    unmask_rate: str = Field(
        default="30/minute", description="records that one member of staff is shown in clear, one by one"
    )
    clash_rate: str = Field(
        default="5/day", description="imports by one member of staff that fail because people are booked already"
    )
    uploads_url: str = Field(
        default="file:///var/lib/hallpass/uploads", description="where files are kept that users answer forms with"
    )
    upload_max_bytes: UploadMaxBytes = USUAL_UPLOAD_BYTES
    upload_max_pixels: int = Field(
        default=25_000_000,
        ge=10_000,
        le=80_000_000,
        description="of an image; each takes up to eight bytes while it is checked",
    )
    wechat_appid: str = ""
    wechat_secret: SecretStr = SecretStr("")
    wechat_base_url: str = "https://api.weixin.qq.com"

    @model_validator(mode="after")
    def _has_a_place_for_files(self) -> Self:
        try:
            check_url(self.uploads_url)
        except ValueError as error:
            raise ValueError(f"HALLPASS_UPLOADS_URL: {error}") from None
        return self

    @model_validator(mode="after")
    def _keys_are_fit(self) -> Self:
        if not self.user_token_keys:
            raise ValueError("HALLPASS_USER_TOKEN_KEYS is missing; `make secrets` writes it")
        if self.wechat_appid and not self.wechat_secret.get_secret_value():
            raise ValueError("HALLPASS_WECHAT_SECRET is missing: it belongs to HALLPASS_WECHAT_APPID")
        try:
            Sealer(self.data_keys, hash_key=self.hash_key.get_secret_value())
        except (KeyError, TypeError, ValueError, AttributeError):
            # Not the error's text: it may hold a part of the key.
            raise ValueError("HALLPASS_HASH_KEY is malformed; `make secrets` writes it") from None
        if self.mode == "embedded":
            return self
        require_secret("HALLPASS_HASH_KEY", self.hash_key.get_secret_value(), shortest=43)
        if self.wechat_appid:
            require_secret("HALLPASS_WECHAT_SECRET", self.wechat_secret.get_secret_value())
        return self


@dataclass(frozen=True)
class Resources:
    """The key to personal data, files, the ways to sign in, the atomic counters, and who gives out places: desk and steward.

    `turns_to_wait` bounds how many people at once lock slots to stand in their lines: a part of the pool's connections.
    """

    sealer: Sealer
    files: Files
    counters: Counters
    providers: sign_in.Providers
    desk: Desk
    turns_to_wait: BoundedSemaphore
    steward: Steward = field(default_factory=Steward)


def build(settings: BookingSettings) -> Resources:
    wechat = None
    if settings.wechat_appid:
        secret = settings.wechat_secret.get_secret_value()
        wechat = WeChat(settings.wechat_appid, secret, base_url=settings.wechat_base_url)
    database_url = settings.database_url.get_secret_value()
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    sealer = Sealer(settings.data_keys, hash_key=settings.hash_key.get_secret_value())
    counters = Counters(redis_url, database_url)
    return Resources(
        sealer=sealer,
        files=Files(
            Store(settings.uploads_url),
            sealer,
            most_bytes=settings.upload_max_bytes,
            most_pixels=settings.upload_max_pixels,
        ),
        counters=counters,
        providers=sign_in.providers(dev=settings.dev_sign_in, wechat=wechat),
        desk=Desk(database_url, sealer, counters, crowd=settings.crowd),
        turns_to_wait=BoundedSemaphore(max(1, settings.database_pool_size // 4)),
    )


def body_limits(settings: BookingSettings) -> dict[str, int]:
    """Return how large the bodies of routes may be that take more than others."""
    most = settings.upload_max_bytes + AROUND_A_FILE
    return {"/uploads": most, "/staff/uploads": most}


def attach(runtime: Runtime) -> None:
    """Let the counters and the steward of lines follow every commit of this runtime, those of the desk too."""
    resources: Resources = runtime.resources
    resources.counters.follow(runtime.db)
    resources.desk.on_commit = runtime.db.committed
    runtime.db.on_commit(CHANGED, resources.steward.hear)
    resources.steward.serve = lambda slot_id: lines.serve(runtime, slot_id, now=utcnow())


def start(runtime: Runtime) -> None:
    """Let the counters learn at once what a process before this one may not have told them."""
    resources: Resources = runtime.resources
    resources.counters.start()
    for state in State:
        metrics.COUNTER_STATE.labels("booking", state).set_function(partial(_is_in, resources.counters, state))


def _is_in(counters: Counters, state: State) -> float:
    return float(counters.state == state)


def detach(runtime: Runtime) -> None:
    resources: Resources = runtime.resources
    resources.steward.close()
    resources.counters.close()
    resources.desk.end()


def _sealer(runtime: RuntimeDep) -> Sealer:
    resources: Resources = runtime.resources
    return resources.sealer


def _files(runtime: RuntimeDep) -> Files:
    resources: Resources = runtime.resources
    return resources.files


def _providers(runtime: RuntimeDep) -> sign_in.Providers:
    resources: Resources = runtime.resources
    return resources.providers


def _desk(runtime: RuntimeDep) -> Desk:
    resources: Resources = runtime.resources
    return resources.desk


def _limited(runtime: RuntimeDep, user: CurrentUser) -> None:
    runtime.tally.hit(runtime.settings.user_rate, "user", user.id)


def _key(idempotency_key: Annotated[str | None, Header(description="new for each booking")] = None) -> str:
    key = idempotency_key or ""
    if not is_key(key):
        raise KeyRequired
    return key


def is_key(text: str) -> bool:
    """Whether a text can be an idempotency key: 1 to 200 visible ASCII characters."""
    return bool(_KEY.fullmatch(text))


DeskDep = Annotated[Desk, Depends(_desk)]
FilesDep = Annotated[Files, Depends(_files)]
SealerDep = Annotated[Sealer, Depends(_sealer)]
ProvidersDep = Annotated[sign_in.Providers, Depends(_providers)]
IdempotencyKey = Annotated[str, Depends(_key)]
Limited = Depends(_limited)
