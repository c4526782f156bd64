"""What has waited to be sent is looked at once more: what is not true or not wanted any more stays in the house."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from prometheus_client import REGISTRY

from libs.common.clock import utcnow
from libs.contracts.booking import WaitEnded, WaitOffered, WaitOutcome
from libs.contracts.catalog import HallStatus, ItemStatus, QuietHours, SlotStatus
from services.notify.models import EndedWait
from services.notify.tasks import KEEP_DELIVERIES
from tests.notify.builders import Join, Slot, a_join, a_slot, hear, notices_of, rows
from tests.notify.reaching import MakeWorld, Town, a_town
from tests.notify.test_announcements import STAFF, written
from tests.notify.test_quiet_hours import an_offer
from tests.world import World

pytestmark = pytest.mark.usefixtures("noon")

MORNING = timedelta(hours=2, minutes=30)  # the quiet hours that are on are over by then
REMINDER = "Your booking is coming up"
NOT_EXPECTED = "not true any more: the user is not expected there at that time"
TAKEN_BACK = "not true any more: the announcement was taken back"
ENDED = "not true any more: the wait has ended"
NOT_WANTED = "not wanted any more: the user has chosen otherwise"


@pytest.fixture
def town(make_world: MakeWorld) -> Iterator[Town]:
    with a_town(make_world) as town:
        yield town


def quiet_now() -> QuietHours:
    """Return quiet hours that have begun and end in two hours."""
    local = utcnow().astimezone(ZoneInfo("Asia/Shanghai")).replace(second=0, microsecond=0)
    return QuietHours(start=(local - timedelta(hours=1)).time(), end=(local + timedelta(hours=2)).time())


def a_quiet_hall(world: World, *, starts_in: timedelta = timedelta(days=2), quiet: bool = True, **item: Any) -> Slot:
    """Return a slot of a hall in which it is night."""
    slot = a_slot(starts_at=utcnow().replace(microsecond=0) + starts_in)
    hours = quiet_now() if quiet else None
    hear(world, slot.hall(quiet_hours=hours), slot.item(**item), slot.defined(version=1))
    slot.definition = 1
    return slot


def do(world: World, task: str) -> None:
    runtime = world.runtimes["notify"]
    next(each for each in runtime.service.tasks if each.name == task).run(runtime)


def reminded(town: Town, *, joins: int = 1, quiet: bool = True) -> list[Join]:
    """Let a user with so many joins of a slot be reminded of it, by a notice that has not gone out yet."""
    world = town.world
    slot = a_quiet_hall(world, starts_in=timedelta(hours=5), quiet=quiet, reminders=[299])
    first = a_join(slot, booked_at=utcnow() - timedelta(days=1))
    mine = [first, *(a_join(slot, user_id=first.user_id, booked_at=first.booked_at) for _ in range(joins - 1))]
    town.confirm_email(first.user_id)
    only: dict[str, list[str]] = {
        "booked": [],
        "cancelled": [],
        "revoked": [],
        "moved": [],
        "checked_in": [],
        "slot_changed": [],
    }
    assert town.ask("PATCH", "me", first.user_id, {"choices": only}).status_code == 200
    hear(world, *(join.booked() for join in mine))
    with time_machine.travel(utcnow() + timedelta(minutes=2), tick=False):
        do(world, "notify.remind")
    return mine


def mailed(town: Town, *, later: timedelta = MORNING) -> list[str]:
    """Send what is due by then; return the subjects of all mails so far."""
    town.carry("email", later=later)
    return [str(mail["Subject"]) for mail in town.mail.received]


def end_of(town: Town, user_id: str) -> tuple[str, str]:
    found = town.delivery(user_id, "email")
    return found["state"], found["answer"]


# --- reminders ---


def closed_by_the_hall(join: Join) -> Any:
    return join.slot.defined(version=2, status=SlotStatus.CLOSED)


def moved_by_the_hall(join: Join) -> Any:
    return join.slot.defined(version=2, starts_at=join.slot.starts_at + timedelta(days=3))


@pytest.mark.parametrize(
    "change",
    [
        Join.cancelled,
        Join.revoked,
        Join.checked_in,
        lambda join: join.moved(a_slot(starts_at=join.slot.starts_at + timedelta(days=1))),
        moved_by_the_hall,
        closed_by_the_hall,
        lambda join: join.slot.item(version=2, status=ItemStatus.CLOSED),
        lambda join: join.slot.hall(version=2, status=HallStatus.CLOSED),
    ],
    ids=[
        "cancelled",
        "revoked",
        "checked in",
        "moved by its user",
        "moved by the hall",
        "closed by the hall",
        "item",
        "hall",
    ],
)
def test_nobody_is_reminded_of_what_has_changed_in_the_night(town: Town, change: Callable[[Join], Any]) -> None:
    [join] = reminded(town)

    hear(town.world, change(join))

    assert mailed(town) == []
    assert end_of(town, join.user_id) == ("failed", NOT_EXPECTED)


def test_a_reminder_that_is_still_true_goes_out_in_the_morning(town: Town) -> None:
    [join] = reminded(town)

    assert mailed(town) == [REMINDER]
    assert end_of(town, join.user_id) == ("sent", "")


def test_a_reminder_of_a_slot_that_is_open_again_by_then_goes_out(town: Town) -> None:
    [join] = reminded(town)

    hear(town.world, closed_by_the_hall(join), join.slot.defined(version=3))

    assert mailed(town) == [REMINDER]


def test_a_reminder_is_true_as_long_as_its_user_is_expected_by_any_join(town: Town) -> None:
    first, _ = reminded(town, joins=2)

    hear(town.world, first.cancelled())

    assert mailed(town) == [REMINDER]


def test_a_reminder_that_the_mail_server_put_off_is_looked_at_again(town: Town) -> None:
    [join] = reminded(town, quiet=False)
    town.mail.next = ["451"]
    assert mailed(town, later=timedelta(minutes=2, seconds=1)) == []

    hear(town.world, join.cancelled())

    assert mailed(town, later=timedelta(minutes=30)) == []
    assert end_of(town, join.user_id) == ("failed", NOT_EXPECTED)


def test_what_was_told_in_the_night_goes_out_in_the_order_in_which_it_happened(town: Town) -> None:
    join = a_join(a_quiet_hall(town.world), booked_at=utcnow())
    town.confirm_email(join.user_id)

    hear(town.world, join.booked(), join.revoked(), join.restored(), join.cancelled(), at_once=10)

    assert mailed(town) == ["Booked", "Booking revoked by the hall", "Booking restored", "Booking cancelled"]


# --- announcements ---


def announced(town: Town) -> tuple[str, str]:
    """Let a user be told of an announcement at night; return their id and its address."""
    slot = a_quiet_hall(town.world)
    join = a_join(slot, booked_at=utcnow())
    town.confirm_email(join.user_id)
    assert town.ask("PATCH", "me", join.user_id, {"choices": {"booked": []}}).status_code == 200
    hear(town.world, join.booked())
    made = written(town.world, hall_id=slot.hall_id, tell={"upcoming": True})
    do(town.world, "notify.announce")
    return join.user_id, f"{STAFF}/{made['id']}"


def shown(town: Town, user_id: str) -> tuple[list[str], int]:
    """Return the titles of the announcements in an inbox, and how many of all its notices are unread."""
    inbox = notices_of(town.world, user_id)
    return [each["title"] for each in inbox["items"] if each["kind"] == "announcement"], inbox["unread"]


@pytest.mark.parametrize("how", ["withdrawn", "postponed", "deleted"])
def test_news_that_was_taken_back_is_neither_sent_nor_shown(town: Town, how: str) -> None:
    user_id, address = announced(town)
    tomorrow = (utcnow() + timedelta(days=1)).isoformat()
    before = shown(town, user_id)

    if how == "deleted":
        assert town.world.client.delete(address, headers=town.world.staff()).status_code == 204
    else:
        change = {"status": "draft"} if how == "withdrawn" else {"publish_at": tomorrow}
        assert town.world.client.patch(address, json=change, headers=town.world.staff()).status_code == 200

    assert mailed(town) == []
    assert end_of(town, user_id) == ("failed", TAKEN_BACK)
    assert (before, shown(town, user_id)) == ((["国庆放假安排"], 2), ([], 1))


def test_news_that_is_out_again_is_shown_again_and_unread_if_it_was(town: Town) -> None:
    user_id, address = announced(town)

    town.world.client.patch(address, json={"status": "draft"}, headers=town.world.staff())
    read = town.ask("POST", "notices/read", user_id, {"all": True})
    town.world.client.patch(address, json={"status": "published"}, headers=town.world.staff())

    assert read.json() == {"unread": 0}
    assert shown(town, user_id) == (["国庆放假安排"], 1)
    assert mailed(town) == ["国庆放假安排"]


def test_news_is_told_as_it_was_put_right(town: Town) -> None:
    user_id, address = announced(town)
    right = {"title": "中秋放假安排", "summary": "中秋节期间各服务厅照常开放。"}

    assert town.world.client.patch(address, json=right, headers=town.world.staff()).status_code == 200

    assert mailed(town) == ["中秋放假安排"]
    assert "照常开放" in town.mail.received[0].get_content()
    assert shown(town, user_id)[0] == ["中秋放假安排"]


# --- offers ---


def ended(offer: WaitOffered, outcome: WaitOutcome) -> WaitEnded:
    about = offer.model_dump(include=WaitEnded.model_fields.keys() & WaitOffered.model_fields.keys() - {"version"})
    return WaitEnded(**about, version=offer.version + 1, outcome=outcome)


@pytest.mark.parametrize("outcome", [WaitOutcome.LEFT, WaitOutcome.BOOKED, WaitOutcome.REMOVED])
@pytest.mark.parametrize("first", ["offered", "ended"])
def test_an_offer_that_has_ended_is_not_sent_whatever_is_heard_first(
    town: Town, outcome: WaitOutcome, first: str
) -> None:
    slot = a_quiet_hall(town.world)
    offer = an_offer(slot, utcnow() + timedelta(hours=8))
    town.confirm_email(offer.user_id)
    assert town.ask("PATCH", "me", offer.user_id, {"choices": {"waiting_ended": []}}).status_code == 200
    facts = [offer, ended(offer, outcome)]

    hear(town.world, *(facts if first == "offered" else reversed(facts)))

    assert mailed(town) == []
    assert end_of(town, offer.user_id) == ("failed", ENDED)


def test_an_offer_that_stands_goes_out_and_what_has_ended_is_forgotten(town: Town) -> None:
    slot = a_quiet_hall(town.world)
    offer, other = (an_offer(slot, utcnow() + timedelta(hours=8)) for _ in range(2))
    town.confirm_email(offer.user_id)

    hear(town.world, offer, ended(other, WaitOutcome.LEFT))

    assert mailed(town) == ["A place for you"]
    assert len(rows(town.world, EndedWait)) == 1
    with time_machine.travel(utcnow() + KEEP_DELIVERIES + timedelta(days=1)):
        do(town.world, "notify.upkeep")
    assert rows(town.world, EndedWait) == []


# --- choices ---


def test_what_its_user_wants_no_more_is_not_sent_and_costs_no_grant(town: Town) -> None:
    slot = a_quiet_hall(town.world)
    join = a_join(slot, booked_at=utcnow())
    town.confirm_email(join.user_id)
    town.map_wechat()
    town.allow(join.user_id)
    hear(town.world, join.booked())

    assert town.ask("PATCH", "me", join.user_id, {"choices": {"booked": ["email"]}}).status_code == 200
    town.carry("wechat", later=MORNING)

    found = town.delivery(join.user_id, "wechat")
    assert (found["state"], found["answer"]) == ("failed", NOT_WANTED)
    assert (town.wechat.received, town.grants(join.user_id)) == ([], {"tmpl-booked": 1})
    assert mailed(town) == ["Booked"]


def test_what_stays_in_the_house_is_counted_as_no_failure(town: Town) -> None:
    def count(result: str) -> float:
        labels = {"service": "notify", "channel": "email", "result": result}
        return REGISTRY.get_sample_value("hallpass_deliveries_total", labels) or 0.0

    before = [count("overtaken"), count("failed")]
    [join] = reminded(town)
    hear(town.world, join.cancelled())

    mailed(town)

    assert [count("overtaken") - before[0], count("failed") - before[1]] == [1, 0]
