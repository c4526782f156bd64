"""What becomes of people who wait is told to them, and what is theirs is shown to nobody as free."""

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from tests.booking.builders import IN_CHINESE, Headers, booked, cancel, code_of
from tests.booking.waiting import accept, ask_to_wait, leave, served, waiting
from tests.catalog.builders import a_day, a_hall, an_item
from tests.world import World, eventually

NAME = {"key": "name", "type": "text", "label": "姓名"}
PERIOD = {"start": "08:00", "end": "20:00"}


class Bookable:
    """A slot of tomorrow, made in catalog, as its page shows it."""

    def __init__(self, world: World, *, capacity: int, waitlist: str, **more: Any) -> None:
        self.world = world
        self.hall = a_hall(world)
        rules = {"waitlist": waitlist, "cancel": "anytime", "party_max": 3, "offer_minutes": 45} | more
        self.item = an_item(world, self.hall, form=[NAME], rules=rules)
        self.tomorrow: date = datetime.now(ZoneInfo(self.hall["timezone"])).date() + timedelta(days=1)
        [slot] = a_day(world, self.item, self.tomorrow, PERIOD | {"capacity": capacity})["slots"]
        self.id: str = slot["id"]
        world.settle()

    def done(self) -> None:
        """Let the line be served, and everybody hear of it."""
        served(self.world)
        self.world.settle()

    def comes_to(self, *wanted: Any) -> None:
        """Expect the page to show what is left, the state and whether people can wait, when all is done."""
        self.done()
        eventually(lambda: self.shown() == wanted)  # the page of a moment ago may be shown once more

    def shown(self) -> tuple[int, str, bool]:
        page = self.world.client.get(f"/api/catalog/items/{self.item['id']}?from={self.tomorrow}").json()
        [slot] = page["days"][0]["slots"]
        return slot["remaining"], slot["state"], slot.get("waitlist", False)


def notices(world: World, user: Headers) -> list[dict[str, Any]]:
    """Return what a user was told, the last first."""
    found: list[dict[str, Any]] = world.client.get("/api/notify/notices", headers=user).json()["items"]
    return found


def test_what_is_held_or_waited_for_is_never_shown_as_free(world: World) -> None:
    slot = Bookable(world, capacity=2, waitlist="offer")
    owner, user, other = world.user("owner"), world.user("user"), world.user("other")
    joins = [*booked(world, owner, slot.id, "张三", "李四")]
    slot.comes_to(0, "full", True)
    waits = [waiting(world, user, slot.id, people=2), waiting(world, other, slot.id)]

    cancel(world, owner, joins[0]["id"])
    slot.comes_to(0, "full", True)  # the smaller party passes, and has an offer
    leave(world, other, waits[1]["id"])
    slot.comes_to(0, "full", True)  # one is free, for the party of two
    leave(world, user, waits[0]["id"])
    slot.comes_to(1, "bookable", False)


def test_nobody_is_told_to_wait_where_the_form_asks_for_files(world: World) -> None:
    slot = Bookable(world, capacity=1, waitlist="take")
    booked(world, world.user("owner"), slot.id)
    slot.comes_to(0, "full", True)

    photo = {"key": "photo", "type": "image", "label": "照片"}
    url = f"/api/catalog/staff/items/{slot.item['id']}"
    answer = world.client.patch(url, json={"form": [NAME, photo]}, headers=world.staff())
    assert answer.is_success, answer.text

    slot.comes_to(0, "full", False)
    assert code_of(ask_to_wait(world, world.user("user"), slot.id)) == (409, "waiting_off")


@pytest.mark.parametrize(("rules", "before"), [({}, 0), ({"cancel": "before_start", "cancel_minutes_before": 90}, 90)])
def test_nobody_is_told_to_wait_where_the_line_has_closed(world: World, rules: dict[str, Any], before: int) -> None:
    slot = Bookable(world, capacity=1, waitlist="take", **rules)
    booked(world, world.user("owner"), slot.id)
    closes = datetime.combine(slot.tomorrow, time(8), ZoneInfo(slot.hall["timezone"])) - timedelta(minutes=before)

    with time_machine.travel(closes - timedelta(hours=1), tick=True):
        slot.comes_to(0, "full", True)
        leave(world, world.user("user"), waiting(world, world.user("user"), slot.id)["id"])
    with time_machine.travel(closes - timedelta(milliseconds=1), tick=False):
        assert slot.shown() == (0, "full", True)
    with time_machine.travel(closes, tick=False):
        assert slot.shown() == (0, "full", False), "not by the page of a moment ago, either"
        assert code_of(ask_to_wait(world, world.user("user"), slot.id)) == (409, "waiting_off")


def test_a_slot_whose_line_can_not_use_a_larger_capacity_yet_stays_full(world: World) -> None:
    slot = Bookable(world, capacity=2, waitlist="take")
    owner = world.user("owner")
    [join, _] = booked(world, owner, slot.id, "张三", "李四")
    waiting(world, world.user("user"), slot.id, people=2)
    cancel(world, owner, join["id"])
    slot.comes_to(0, "full", True)

    answer = world.client.post(
        "/api/catalog/staff/slots/capacity",
        json={
            "item_ids": [slot.item["id"]],
            "from": slot.tomorrow.isoformat(),
            "to": slot.tomorrow.isoformat(),
            "capacity": 4,
        },
        headers=world.staff(),
    )
    assert answer.is_success, answer.text

    slot.comes_to(1, "bookable", False)  # three are taken: the line is served, and the rest is for all


def test_an_offer_is_told_with_the_time_until_when_it_stands(world: World) -> None:
    slot = Bookable(world, capacity=1, waitlist="offer")
    owner, user = world.user("owner"), world.user("user")
    [join] = booked(world, owner, slot.id)
    wait = waiting(world, user, slot.id)

    cancel(world, owner, join["id"])
    slot.done()

    [told] = notices(world, user)
    until = datetime.fromisoformat(wait_of(world, user)["offered_until"])
    assert (told["kind"], told["people"]) == ("waiting_offered", 1)
    assert f"until {until.day} {until.strftime('%b %Y %H:%M')}." in told["body"]
    assert accept(world, user, wait["id"]).status_code == 200
    slot.done()
    assert [one["kind"] for one in notices(world, user)] == ["booked", "waiting_offered"]


def wait_of(world: World, user: Headers) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get("/api/booking/waits", headers=user).json()["items"][0]
    return found


@pytest.mark.parametrize(("language", "words"), [({}, "Reason: 重复候补"), (IN_CHINESE, "原因：重复候补")])
def test_who_is_removed_is_told_why(world: World, language: Headers, words: str) -> None:
    slot = Bookable(world, capacity=1, waitlist="take")
    booked(world, world.user("owner"), slot.id)
    user = world.user("user")
    wait = waiting(world, user, slot.id)

    path = f"/api/booking/staff/waits/{wait['id']}/remove"
    assert world.client.post(path, json={"reason": "重复候补"}, headers=world.staff()).is_success
    slot.done()

    [told] = notices(world, user | language)
    assert told["kind"] == "waiting_ended"
    assert words in told["body"]


def test_who_leaves_or_gets_the_place_is_not_told_that_the_wait_is_over(world: World) -> None:
    slot = Bookable(world, capacity=1, waitlist="take")
    owner, first, second = world.user("owner"), world.user("first"), world.user("second")
    [join] = booked(world, owner, slot.id)
    waiting(world, first, slot.id)
    leave(world, second, waiting(world, second, slot.id)["id"])

    cancel(world, owner, join["id"])
    slot.done()

    assert [[one["kind"] for one in notices(world, user)] for user in (first, second)] == [["booked"], []]
