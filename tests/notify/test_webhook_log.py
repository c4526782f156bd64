"""What was sent to a webhook: tried out, sent again, and forgotten."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from services.notify.models import WebhookEvent
from services.notify.tasks import upkeep
from tests.common.receiver import Receiver
from tests.notify.builders import a_join, hear, rows
from tests.notify.hooking import HERE, HOOKS, a_hook, audited, carry, changed, listed, ping, shown, verified
from tests.world import World


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose webhooks may be on this machine."""
    return make_world(**HERE)


def test_a_ping_is_sent_whatever_was_chosen(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)

    pinged = ping(world, hook)
    carry(world)

    event = verified(theirs.posted[0], hook["secret"])
    assert (event["type"], event["data"]) == ("ping", {"webhook_id": hook["id"]})
    assert event == pinged["event"]
    assert [call["delivery_id"] for call in listed(world, hook, "attempts")] == [pinged["id"]]


def test_an_event_is_sent_again_with_its_id_on_request(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())
    carry(world)
    [sent] = listed(world, hook, "deliveries")

    answer = world.client.post(f"{HOOKS}/{hook['id']}/deliveries/{sent['id']}/resend", headers=world.staff())
    carry(world)

    assert answer.status_code == 202
    again = answer.json()
    assert (again["state"], again["event"]) == ("queued", sent["event"])
    first, second = theirs.posted
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [row["id"] for row in listed(world, hook, "deliveries")] == [again["id"], sent["id"]]
    assert [call["delivery_id"] for call in listed(world, hook, "attempts", delivery_id=sent["id"])] == [sent["id"]]
    assert audited(world)[-1]["action"] == "webhook.resent"


def test_a_disabled_one_is_sent_nothing(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())
    changed(world, hook, status="disabled")
    [waiting] = listed(world, hook, "deliveries")
    asked = [f"{HOOKS}/{hook['id']}/ping", f"{HOOKS}/{hook['id']}/deliveries/{waiting['id']}/resend"]

    answers = [world.client.post(path, headers=world.staff()) for path in asked]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "webhook_disabled")] * 2
    assert (waiting["state"], waiting["answer"]) == ("failed", "the webhook was disabled")
    assert carry(world) == 0
    assert shown(world, hook)["disabled_reason"] == "by_staff"


def test_the_log_is_forgotten_after_a_month_but_not_what_waits(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked())
    carry(world)
    hear(world, a_join().booked())
    with world.runtimes["notify"].db.transaction() as session:
        for table in ("deliveries", "webhook_events"):
            session.execute(text(f"UPDATE {table} SET queued_at = queued_at - interval '31 days'"))

    upkeep(world.runtimes["notify"])

    assert [row["state"] for row in listed(world, hook, "deliveries")] == ["queued"]
    assert len(rows(world, WebhookEvent)) == 1
    assert listed(world, hook, "attempts") == []
    assert carry(world) == 1
