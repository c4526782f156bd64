"""Webhooks as staff make them, a world in which they may be called on this machine, and what they are sent."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.common.clock import utcnow
from libs.common.outbox import OutboxRow
from libs.contracts.principals import Role
from services.notify.channels.webhook import WebhookChannel
from services.notify.sender import Sender
from tests.common.receiver import Posted
from tests.notify.builders import rows
from tests.notify.pigeons import carry_all, sender
from tests.world import World

HOOKS = "/api/notify/staff/webhooks"
ELSEWHERE = "https://hooks.example/hallpass"
HERE = {"webhook_networks": ["127.0.0.0/8"], "webhook_timeout_s": 60}


def a_hook(world: World, url: str, *, headers: dict[str, str] | None = None, **differing: Any) -> dict[str, Any]:
    body = {"hall_id": None, "url": url, "events": ["join.booked", "join.cancelled"]} | differing
    answer = world.client.post(HOOKS, json=body, headers=headers or world.staff())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def shown(world: World, hook: dict[str, Any]) -> dict[str, Any]:
    answer = world.client.get(f"{HOOKS}/{hook['id']}", headers=world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def changed(world: World, hook: dict[str, Any], **change: Any) -> dict[str, Any]:
    answer = world.client.patch(f"{HOOKS}/{hook['id']}", json=change, headers=world.staff())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def listed(world: World, hook: dict[str, Any], what: str, **query: Any) -> list[dict[str, Any]]:
    """Return what the log of a webhook shows: its deliveries or its attempts, newest first."""
    answer = world.client.get(f"{HOOKS}/{hook['id']}/{what}", params=query, headers=world.staff())
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def ping(world: World, hook: dict[str, Any]) -> dict[str, Any]:
    answer = world.client.post(f"{HOOKS}/{hook['id']}/ping", headers=world.staff())
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def admin_of(world: World, *halls: str) -> dict[str, str]:
    return world.staff(Role.HALL_ADMIN, list(halls))


def channel(world: World) -> WebhookChannel:
    resources = world.runtimes["notify"].resources
    return WebhookChannel(resources.sealer, resources.outward)


def carrier(world: World, **more: Any) -> Sender[Any]:
    return sender(world, channel(world), **more)


def carry(world: World, *, clock: Callable[[], datetime] = utcnow) -> int:
    """Call webhooks one after another until none is due at this instant; return how many calls that were."""
    return carry_all(world, channel(world), clock=clock)


def later(after: timedelta) -> Callable[[], datetime]:
    return lambda: utcnow() + after


def audited(world: World) -> list[dict[str, Any]]:
    found = rows(world, OutboxRow, type="audit.recorded")
    return [row["data"] for row in sorted(found, key=lambda row: row["position"])]


def verified(posted: Posted, *secrets: str) -> dict[str, Any]:
    """Return the event as a receiver reads it: written from the specification alone, and from nothing of ours."""
    message_id, timestamp = posted.headers["webhook-id"], posted.headers["webhook-timestamp"]
    assert abs(datetime.now(UTC).timestamp() - int(timestamp)) < 300, "an old message may be somebody's repetition"
    content = b".".join([message_id.encode(), timestamp.encode(), posted.body])
    good = set()
    for secret in secrets:
        key = base64.b64decode(secret[len("whsec_") :])
        good.add(base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode())
    sent = [entry.split(",", 1) for entry in posted.headers["webhook-signature"].split(" ")]
    assert {scheme for scheme, _ in sent} == {"v1"}
    assert {signature for _, signature in sent} == good
    event: dict[str, Any] = json.loads(posted.body)
    return event
