"""Settings of a process, read from the environment and checked before anything starts."""

import json
import os
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from libs.common import failpoints
from libs.common.crypto import Sealer

SHORTEST_SECRET = 24


class SettingsError(Exception):
    """The environment can't be used; the text says which variable and why."""


def _from_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Json = BeforeValidator(_from_json)


class Settings(BaseSettings):
    """What every service needs. A field is read from HALLPASS_<SERVICE>_<FIELD>, else from HALLPASS_<FIELD>."""

    model_config = SettingsConfigDict(extra="ignore", enable_decoding=False, frozen=True)
    service_name: ClassVar[str] = ""

    mode: Literal["embedded", "distributed"] = "distributed"
    database_url: SecretStr
    database_pool_size: int = Field(default=20, ge=1, le=200)
    redis_url: SecretStr | None = None
    broker_url: SecretStr | None = None
    staff_token_keys: Annotated[list[dict[str, Any]], Json] = Field(
        default=[], description="JWKs (OKP, Ed25519); the first one that holds a private part signs"
    )
    user_token_keys: Annotated[list[dict[str, Any]], Json] = Field(
        default=[], description="JWKs (oct, HS256), each at least 32 bytes; the first one signs"
    )
    trusted_proxies: str = Field(default="127.0.0.1", description="whose X-Forwarded-For is believed")
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    outbox_poll_ms: int = Field(default=50, ge=5)
    retry_delays_s: Annotated[list[float], Json] = Field(
        default=[1.0, 5.0, 30.0], description="waits before a failing event is tried again; then it is parked"
    )
    user_rate: str = Field(default="240/minute", description="changes that one user may ask for")
    sign_in_rate: str = Field(default="30/minute", description="staff sign-ins from one address")
    user_sign_in_rate: str = Field(default="1200/minute", description="user sign-ins from one address")
    otlp_endpoint: str = Field(
        default="", pattern=r"^(https?://\S+)?$", description="where traces go (OTLP over HTTP); empty: nowhere"
    )
    otlp_share: float = Field(default=1.0, ge=0, le=1, description="of requests that are traced")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        own = EnvSettingsSource(settings_cls, env_prefix=f"HALLPASS_{cls.service_name.upper()}_")
        shared = EnvSettingsSource(settings_cls, env_prefix="HALLPASS_")
        return (init_settings, own, shared)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read and check the environment, or raise SettingsError with one line per fault."""
        try:
            return cls(**overrides)
        except (ValidationError, ValueError) as error:
            raise SettingsError(cls._explain(error)) from None

    @classmethod
    def _explain(cls, error: Exception) -> str:
        if not isinstance(error, ValidationError):
            return f"Settings of {cls.service_name}: {error}"
        lines = []
        for fault in error.errors(include_input=False, include_url=False):
            field = str(fault["loc"][0]) if fault["loc"] else ""
            lines.append(f"HALLPASS_{field.upper()}: {fault['msg']}" if field else fault["msg"])
        return f"Settings of {cls.service_name}: " + "; ".join(lines)

    @model_validator(mode="after")
    def _secrets_are_fit(self) -> Self:
        if self.mode == "embedded":
            return self
        if os.environ.get(failpoints.VARIABLE):
            raise ValueError(f"{failpoints.VARIABLE} is for tests: it kills the process on purpose; unset it")
        for name in ("redis_url", "broker_url"):
            if not getattr(self, name):
                raise ValueError(f"HALLPASS_{name.upper()} is missing (needed outside embedded mode)")
        if not self.staff_token_keys:
            raise ValueError("HALLPASS_STAFF_TOKEN_KEYS is missing; `make secrets` writes it")
        if any(_is_no_staff_key(key) for key in self.staff_token_keys):
            raise ValueError("HALLPASS_STAFF_TOKEN_KEYS holds something else than Ed25519 JWKs with a kid")
        for key in self.user_token_keys:
            require_secret("HALLPASS_USER_TOKEN_KEYS", str(key.get("k", "")), shortest=43)
        return self


class SealingSettings(Settings):
    """What a service needs that keeps something encrypted."""

    data_keys: Annotated[list[dict[str, Any]], Json] = Field(
        default=[], description="[{kid, k}], k 32 random bytes as base64url; the first encrypts, all decrypt"
    )

    @model_validator(mode="after")
    def _data_keys_are_fit(self) -> Self:
        if not self.data_keys:
            raise ValueError("HALLPASS_DATA_KEYS is missing; `make secrets` writes it")
        try:
            Sealer(self.data_keys)
        except (KeyError, TypeError, ValueError, AttributeError):
            # Not the error's text: it may hold a part of the key.
            raise ValueError("HALLPASS_DATA_KEYS is malformed; `make secrets` writes it") from None
        if self.mode != "embedded":
            for key in self.data_keys:
                require_secret("HALLPASS_DATA_KEYS", str(key.get("k", "")), shortest=43)
        return self


def _is_no_staff_key(key: Any) -> bool:
    if not isinstance(key, dict) or key.get("kty") != "OKP" or key.get("crv") != "Ed25519":
        return True
    return not (key.get("kid") and key.get("x"))


def require_secret(name: str, value: str, *, shortest: int = SHORTEST_SECRET) -> None:
    """Raise ValueError where a secret is missing, left at a default, or too short to be one."""
    if not value:
        raise ValueError(f"{name} is missing; `make secrets` writes it")
    if len(value) < shortest or len(set(value)) < 8 or value.lower().startswith(("change", "default", "secret")):
        raise ValueError(f"{name} is too weak: use the random value that `make secrets` writes")
