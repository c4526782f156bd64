"""Admin's settings, and what its exports need beside the common parts."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from libs.common.crypto import Sealer
from libs.common.service import Runtime
from libs.common.settings import SealingSettings
from libs.common.store import Store, check_url
from libs.contracts.principals import Role
from services.admin import exports, imports

if TYPE_CHECKING:
    from celery import Celery

JOB_QUEUE = "exports"  # of imports, too
EXPORT_TASK, IMPORT_TASK = "admin.export", "admin.import"
_PATIENCE_S = 1.0
_ORIGIN = r"^https?://[^/\s]+$"


class AdminSettings(SealingSettings):
    """Admin alone signs staff tokens: its `staff_token_keys` hold a private key, those of the others need none."""

    service_name: ClassVar[str] = "admin"

    exports_url: str = Field(
        default="file:///var/lib/hallpass/exports", description="where files of exports are kept until they expire"
    )
    booking_url: str = Field(
        default="http://booking:8000",
        pattern=_ORIGIN,
        description="where a run of an export reads joins and users, and one of an import books",
    )
    catalog_url: str = Field(
        default="http://catalog:8000",
        pattern=_ORIGIN,
        description="where a run of an import makes halls, items and slots",
    )
    notify_url: str = Field(
        default="http://notify:8000", pattern=_ORIGIN, description="where a run of an export reads stats"
    )
    second_factor_for: Literal["nobody", "super_admins", "everybody"] = Field(
        default="nobody", description="whose accounts do nothing before they have a second factor"
    )
    person_rate: str = Field(default="60/minute", description="exports by person that one member of staff asks for")
    export_lease_s: int = Field(default=60, ge=1, description="silent for so long, a run of an export counts as lost")

    @model_validator(mode="after")
    def _can_sign(self) -> Self:
        if self.mode != "embedded" and not any(key.get("d") for key in self.staff_token_keys):
            raise ValueError("HALLPASS_ADMIN_STAFF_TOKEN_KEYS holds no private key (`d`) to sign with")
        return self

    @model_validator(mode="after")
    def _has_a_place_for_files(self) -> Self:
        try:
            check_url(self.exports_url)
        except ValueError as error:
            raise ValueError(f"HALLPASS_EXPORTS_URL: {error}") from None
        return self


_ROLES: dict[str, frozenset[Role]] = {
    "nobody": frozenset(),
    "super_admins": frozenset({Role.SUPER_ADMIN}),
    "everybody": frozenset(Role),
}


@dataclass
class Resources:
    """The key to second factors, and which roles need one; where files of exports are, where their data come from, and how
    long a run may be silent.
    """

    sealer: Sealer
    second_factor_for: frozenset[Role]
    store: Store
    sources: dict[str, str]
    lease: timedelta


def build(settings: AdminSettings) -> Resources:
    return Resources(
        sealer=Sealer(settings.data_keys),
        second_factor_for=_ROLES[settings.second_factor_for],
        store=Store(settings.exports_url),
        sources={"catalog": settings.catalog_url, "booking": settings.booking_url, "notify": settings.notify_url},
        lease=timedelta(seconds=settings.export_lease_s),
    )


def attach(runtime: Runtime) -> None:
    """Wake the workers of exports and imports after each commit that asked for one; with none awake, their schedule does."""
    if runtime.settings.redis_url is not None:
        runtime.db.on_commit(exports.ASKED, _Waker(runtime, EXPORT_TASK).wake)
        runtime.db.on_commit(imports.ASKED, _Waker(runtime, IMPORT_TASK).wake)


class _Waker:
    def __init__(self, runtime: Runtime, task: str) -> None:
        self._runtime = runtime
        self._task = task

    def wake(self, _: object) -> None:
        from libs.common import tasks

        tasks.send(self._celery, next(task for task in self._runtime.service.tasks if task.name == self._task))

    @cached_property
    def _celery(self) -> "Celery":
        from libs.common import tasks  # 7 MB, for the process alone that is asked for one

        app = tasks.celery_app(self._runtime.settings.redis_url.get_secret_value(), [])
        # Somebody waits for the answer: a Redis that hangs must not keep them.
        app.conf.broker_transport_options |= {
            "socket_timeout": _PATIENCE_S,
            "socket_connect_timeout": _PATIENCE_S,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
        }
        return app
