"""A channel of the tests' own: pigeons, which a test sends, loses or lets hang."""

import threading
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from services.notify import deliveries
from services.notify.channel import Channel, Delivering, Told, Wanted
from services.notify.models import Delivery, Notice
from services.notify.outcomes import Outcome, Refused, Sent
from services.notify.sender import Sender
from tests.notify.builders import a_join, hear, rows
from tests.world import World


class Pigeons:
    """Each message is a pigeon; `fly` says what becomes of it."""

    at_once = 2
    longest_s = 5.0

    def __init__(
        self, fly: Callable[[Delivering], Outcome] = lambda delivering: Sent("coo"), *, name: str = "pigeon"
    ) -> None:
        self.name = name
        self.flown: list[str] = []
        self.settled: list[Outcome] = []
        self._fly = fly
        self._lock = threading.Lock()

    def prepare(self, session: Session, delivering: Delivering) -> Delivering | Refused:
        return delivering

    def send(self, letter: Delivering) -> Outcome:
        with self._lock:
            self.flown.append(letter.id)
        return self._fly(letter)

    def settle(self, session: Session, delivering: Delivering, letter: Delivering, outcome: Outcome) -> None:
        self.settled.append(outcome)


def told(world: World, how_many: int = 1) -> list[str]:
    """Let so many users be told that they have booked; return the ids of the notices."""
    joins = [a_join() for _ in range(how_many)]
    hear(world, *(join.booked() for join in joins), at_once=100)
    return [rows(world, Notice, user_id=join.user_id)[0]["id"] for join in joins]


def queued(world: World, *notice_ids: str, channel: str = "pigeon", **more: Any) -> None:
    """Let notices go out by a channel."""
    names = [field.name for field in fields(Told)]
    found = [row for notice_id in notice_ids for row in rows(world, Notice, id=notice_id)]
    wanted = [Wanted(Told(**{name: row[name] for name in names}), channel, **more) for row in found]
    with world.runtimes["notify"].db.transaction() as session:
        deliveries.queue(session, wanted, now=utcnow())


def sender(world: World, channel: Channel[Any], **more: Any) -> Sender[Any]:
    return Sender(world.runtimes["notify"].db, channel, **more)


def carry_all(world: World, channel: Channel[Any], *, clock: Callable[[], datetime] = utcnow) -> int:
    """Carry what is due by a channel at this instant until nothing is; return how many attempts that were."""
    now = clock()  # the same for all of them: what failed does not come due again while the others are carried
    carrier, attempts = sender(world, channel, clock=lambda: now), 0
    while (taken := carrier.take()) is not None:
        carrier.carry(taken)
        attempts += 1
    return attempts


def delivery_of(world: World, notice_id: str, channel: str = "pigeon") -> dict[str, Any]:
    [found] = rows(world, Delivery, notice_id=notice_id, channel=channel)
    return found
