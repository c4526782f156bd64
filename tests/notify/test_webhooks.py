"""Webhooks as staff make and keep them: who may, which addresses, and the secrets."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.principals import Role
from services.notify.models import Delivery, Webhook
from services.notify.webhooks import Allowed, HttpsNeeded
from tests.common.receiver import Receiver
from tests.notify.builders import a_hall_known_to, a_join, hear, rows
from tests.notify.hooking import (
    ELSEWHERE,
    HERE,
    HOOKS,
    a_hook,
    admin_of,
    audited,
    carrier,
    carry,
    changed,
    listed,
    ping,
    shown,
    verified,
)
from tests.world import World, simultaneously


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose webhooks may be on this machine."""
    return make_world(**HERE)


# --- making and editing them ---


def test_a_hall_admin_has_webhooks_of_their_halls_alone(world: World) -> None:
    mine, theirs = a_hall_known_to(world), a_hall_known_to(world)
    me = admin_of(world, mine)
    own = a_hook(world, ELSEWHERE, hall_id=mine, headers=me)
    foreign, of_all = a_hook(world, ELSEWHERE, hall_id=theirs), a_hook(world, ELSEWHERE)

    def made(hall_id: str | None) -> tuple[int, str]:
        body = {"hall_id": hall_id, "url": ELSEWHERE, "events": ["join.booked"]}
        answer = world.client.post(HOOKS, json=body, headers=me)
        return answer.status_code, answer.json()["code"]

    seen = [world.client.get(f"{HOOKS}/{hook['id']}/deliveries", headers=me) for hook in (foreign, of_all)]

    assert (made(theirs), made(None)) == ((404, "not_found"), (403, "role_forbids"))
    assert [hook["id"] for hook in world.client.get(HOOKS, headers=me).json()["items"]] == [own["id"]]
    assert [answer.status_code for answer in seen] == [404, 404]
    assert len(world.client.get(HOOKS, headers=world.staff()).json()["items"]) == 3
    by_hall = world.client.get(HOOKS, params={"hall_id": theirs}, headers=world.staff()).json()["items"]
    assert [hook["id"] for hook in by_hall] == [foreign["id"]]


def test_a_delivery_of_another_webhook_is_not_resent(world: World, theirs: Receiver) -> None:
    one, other = a_hook(world, theirs.address), a_hook(world, theirs.address, events=["join.missed"])
    hear(world, a_join().booked())
    [delivery] = listed(world, one, "deliveries")

    answer = world.client.post(f"{HOOKS}/{other['id']}/deliveries/{delivery['id']}/resend", headers=world.staff())

    assert answer.status_code == 404


def test_an_edit_of_what_somebody_else_has_changed_is_refused(world: World) -> None:
    hook = a_hook(world, ELSEWHERE)
    address = f"{HOOKS}/{hook['id']}"
    loaded = world.client.get(address, headers=world.staff()).headers["etag"]

    def edited(**change: Any) -> Any:
        return world.client.patch(address, json=change, headers=world.staff() | {"If-Match": loaded})

    first, second = edited(description="CRM"), edited(description="ERP")
    gone = world.client.delete(address, headers=world.staff() | {"If-Match": loaded})

    assert first.status_code == 200
    assert first.headers["etag"] != loaded
    assert [(answer.status_code, answer.json()["code"]) for answer in (second, gone)] == [
        (412, "changed_meanwhile")
    ] * 2


def test_a_deleted_one_is_gone_with_its_log(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)
    hear(world, a_join().booked(), a_join().booked())
    carrier(world).take()  # one is on its way

    answer = world.client.delete(f"{HOOKS}/{hook['id']}", headers=world.staff())

    assert answer.status_code == 204
    assert rows(world, Delivery) == []
    assert world.client.get(f"{HOOKS}/{hook['id']}", headers=world.staff()).status_code == 404
    assert carry(world) == 0


def test_what_staff_do_is_audited_without_what_may_be_a_secret(world: World) -> None:
    hook = a_hook(world, "https://hooks.example/services/T0/B0/XXXX?key=abc")

    changed(world, hook, url="https://hooks.example/services/T0/B0/YYYY", events=["join.booked"])
    changed(world, hook, events=["join.booked"])  # changes nothing
    world.client.delete(f"{HOOKS}/{hook['id']}", headers=world.staff())

    told = audited(world)
    assert [fact["action"] for fact in told] == ["webhook.created", "webhook.changed", "webhook.deleted"]
    assert told[1]["before"] == {"url": "https://hooks.example", "events": ["join.booked", "join.cancelled"]}
    assert "XXXX" not in json.dumps(told)
    assert "YYYY" not in json.dumps(told)


def test_there_are_so_many_of_a_hall_at_most(world: World) -> None:
    hall, staff = a_hall_known_to(world), world.staff()
    for _ in range(18):
        a_hook(world, ELSEWHERE, hall_id=hall)
    body = {"hall_id": hall, "url": ELSEWHERE, "events": ["join.booked"]}

    answers = simultaneously([lambda: world.client.post(HOOKS, json=body, headers=staff)] * 8)

    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 6
    assert {answer.json()["code"] for answer in answers if answer.is_error} == {"too_many_webhooks"}
    assert len(rows(world, Webhook, hall_id=hall)) == 20


def test_a_hall_that_nobody_has_heard_of_has_no_webhooks(world: World) -> None:
    body = {"hall_id": new_id(), "url": ELSEWHERE, "events": ["join.booked"]}

    assert world.client.post(HOOKS, json=body, headers=world.staff()).status_code == 404


def test_addresses_and_events_that_can_not_be_are_refused(world: World) -> None:
    urls = [
        "",
        "hooks.example",
        "ftp://hooks.example/",
        "https://",
        "https:///path",
        "https://user:pass@hooks.example/",
        "https://hooks.example/#part",
        "https://hooks.example:99999/",
        "https://hooks.example:0/",
        "https://[::1",
        "https://0177.0.0.1/",
        "https://hooks.example/a b",
        "https://hooks.example/" + "a" * 2000,
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/latest/meta-data",
    ]
    events: list[Any] = [[], ["join.unheard"], ["ping"], ["join.booked", "join.booked"], None, "join.booked"]
    odd = [{"url": url} for url in urls] + [{"events": kinds} for kinds in events] + [{"description": "a\nb"}]
    hook = a_hook(world, ELSEWHERE)

    found = {}
    for differing in odd:
        whole = {"hall_id": None, "url": ELSEWHERE, "events": ["join.booked"]} | differing
        made = world.client.post(HOOKS, json=whole, headers=world.staff())
        edited = world.client.patch(f"{HOOKS}/{hook['id']}", json=differing, headers=world.staff())
        found[json.dumps(differing)[:60]] = (made.status_code, edited.status_code)

    assert found == dict.fromkeys(found, (422, 422))


def test_outside_embedded_mode_addresses_have_to_be_of_https() -> None:
    strict = Allowed(http=False, permitted=())
    strict.require("https://hooks.example/")
    with pytest.raises(HttpsNeeded):
        strict.require("http://hooks.example/")


def test_a_verifier_has_nothing_to_do_with_webhooks(world: World) -> None:
    answer = world.client.get(HOOKS, headers=world.staff(Role.VERIFIER, [new_id()]))

    assert answer.status_code == 403


# --- secrets ---


def test_the_secret_is_shown_once_and_lies_sealed(world: World) -> None:
    hook = a_hook(world, ELSEWHERE)

    listing = world.client.get(HOOKS, headers=world.staff())

    assert hook["secret"].startswith("whsec_")
    assert "whsec_" not in listing.text
    assert "secret" not in shown(world, hook)
    [row] = rows(world, Webhook)
    assert hook["secret"].encode() not in row["secret_sealed"]
    assert hook["secret"] not in json.dumps(audited(world))


def test_both_secrets_sign_while_they_overlap(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)

    answer = world.client.post(f"{HOOKS}/{hook['id']}/secret", json={}, headers=world.staff())
    ping(world, hook)
    carry(world)

    new = answer.json()["secret"]
    assert new != hook["secret"]
    verified(theirs.posted[0], new, hook["secret"])
    until = datetime.fromisoformat(shown(world, hook)["old_secret_until"]) - utcnow()
    assert timedelta(hours=23) < until <= timedelta(hours=24)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE webhooks SET old_secret_until = now() - interval '1 second'"))
    ping(world, hook)
    carry(world)
    verified(theirs.posted[1], new)


def test_a_secret_that_is_known_to_others_ends_at_once(world: World, theirs: Receiver) -> None:
    hook = a_hook(world, theirs.address)

    answer = world.client.post(f"{HOOKS}/{hook['id']}/secret", json={"overlap_hours": 0}, headers=world.staff())
    ping(world, hook)
    carry(world)

    verified(theirs.posted[0], answer.json()["secret"])
    assert audited(world)[-1]["action"] == "webhook.secret_rotated"
