"""What the routes about webhooks take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal

import httpx2
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from libs.common.inputs import OneLine, Spelled, unfit
from libs.common.web import Id, Schema
from services.notify.outcomes import DeliveryState
from services.notify.webhook_events import EventKind

WebhookStatus = Literal["active", "disabled"]
DisabledReason = Literal["by_staff", "gone", "failing"]


def _an_address(text: str) -> str:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise unfit("not_a_url") from None
    is_callable = url.scheme in ("http", "https") and url.host and 0 < (443 if url.port is None else url.port) < 65536
    if not is_callable or url.userinfo or url.fragment:
        raise unfit("not_a_url")
    return text


def _each_once(kinds: list[EventKind]) -> list[EventKind]:
    if len(set(kinds)) != len(kinds):
        raise unfit("repeated")
    return kinds


Address = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000, pattern=r"^[!-~]+$"),
    AfterValidator(_an_address),
    Field(description="https; without user, password and fragment"),
]
Description = Annotated[str, StringConstraints(max_length=200), OneLine]
Kinds = Annotated[list[Spelled[EventKind]], Field(min_length=1, max_length=50), AfterValidator(_each_once)]


class NewWebhook(Schema):
    hall_id: Id | None = Field(description="null: told of all halls, which takes a super admin")
    url: Address
    description: Description = ""
    events: Kinds


class WebhookChange(Schema):
    """What is to be another; what is left out stays. Disabling it gives up what waits for it."""

    url: Address = ""
    description: Description = ""
    events: Kinds = []
    status: WebhookStatus = "active"


class SecretChange(Schema):
    overlap_hours: Annotated[int, Field(ge=0, le=168)] = Field(
        default=24, description="how long the secret before signs as well; 0 where it is known to others"
    )


class WebhookOut(BaseModel):
    """A webhook as staff see it. Disabled `by_staff`, or by itself: `gone` after it answered 410, `failing` for three days.

    `failing_since` is when the first of its failures in a row was, null while it answers.
    """

    id: str
    hall_id: str | None
    url: str
    description: str
    events: list[EventKind]
    status: WebhookStatus
    disabled_reason: DisabledReason | None
    failures: int
    failing_since: datetime | None
    old_secret_until: datetime | None
    created_at: datetime
    changed_at: datetime


class WebhookWithSecret(WebhookOut):
    secret: str = Field(description="what it verifies signatures by; shown this once")


class WebhookDelivery(BaseModel):
    """An event on its way to a webhook. `answer` is in short what came of the last call."""

    id: str
    state: DeliveryState
    attempts: int
    possibly_twice: bool
    answer: str
    queued_at: datetime
    due_at: datetime
    ended_at: datetime | None
    event: dict[str, Any] = Field(description="the body that is sent")


class WebhookCall(BaseModel):
    """One call: `status` and the beginning of the answer, or the reason why there is none."""

    id: str
    delivery_id: str
    number: int
    at: datetime
    duration_ms: int
    status: int | None
    reason: str
    answer: str
