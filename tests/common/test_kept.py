"""What is kept for a moment: made by one, never too old, and never against the clock."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from libs.common import kept as kept_module
from libs.common.clock import utcnow
from libs.common.errors import NotFound, Unavailable
from libs.common.kept import LIFETIME_S, Kept, Made

FOR_LONG: dict[str, Any] = {"fresh_s": 60, "lifetime_s": 60}


class Maker:
    """Makes 1, 2, 3, ...; while `gate` is closed it hangs, and while `error` is set it fails."""

    def __init__(self, *, size: int = 1, lasts: timedelta | None = None) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self._size = size
        self._lasts = lasts

    def __call__(self, now: datetime) -> Made[int]:
        self.count += 1
        count = self.count
        self.gate.wait(60)
        if self.error is not None:
            raise self.error
        return Made(count, size=self._size, since=now, until=None if self._lasts is None else now + self._lasts)


def numbers(**settings: Any) -> Kept[str, int]:
    return Kept("test", **settings)


async def made_anew(maker: Maker, times: int) -> None:
    """Wait until it has been made so many times."""
    while maker.count < times:
        await asyncio.sleep(0.005)


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


def test_fifty_who_ask_at_once_have_it_made_once() -> None:
    async def story() -> None:
        kept, maker = numbers(**FOR_LONG), Maker()

        found = await asyncio.gather(*(kept.get("a", maker) for _ in range(50)))

        assert (set(found), maker.count) == ({1}, 1)

    run(story)


def test_keys_are_apart() -> None:
    async def story() -> None:
        kept, one, other = numbers(), Maker(), Maker()

        await asyncio.gather(kept.get("a", one), kept.get("b", other))

        assert (one.count, other.count) == (1, 1)

    run(story)


class Clock:
    """What this module takes for the time, so that a value is as old as a test says, however busy the machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_nobody_is_ever_handed_what_was_too_old_when_they_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(kept_module, "time", clock)

    async def story() -> None:
        kept, maker = numbers(), Maker()
        assert await kept.get("a", maker) == 1
        clock.now = 0.9 * LIFETIME_S
        maker.gate.clear()
        assert await kept.get("a", maker) == 1
        await made_anew(maker, 2)

        clock.now = LIFETIME_S
        late = asyncio.create_task(kept.get("a", maker))
        done, _ = await asyncio.wait([late], timeout=0.1)
        maker.gate.set()

        assert not done, "the first is too old, and the second not made yet"
        assert await late == 2
        clock.now = 2 * LIFETIME_S
        assert await kept.get("a", maker) == 3

    run(story)


def test_it_is_made_anew_while_nobody_waits() -> None:
    async def story() -> None:
        kept, maker = numbers(fresh_s=0.05, lifetime_s=60), Maker()
        await kept.get("a", maker)
        maker.gate.clear()
        await asyncio.sleep(0.05)

        during = [await kept.get("a", maker) for _ in range(10)]
        await made_anew(maker, 2)
        assert (during, maker.count) == ([1] * 10, 2)

        maker.gate.set()
        while await kept.get("a", maker) == 1:
            await asyncio.sleep(0.005)

    run(story)


def test_an_error_goes_to_those_who_waited_and_is_not_kept() -> None:
    async def story() -> None:
        kept, maker = numbers(), Maker()
        maker.error = NotFound()
        maker.gate.clear()
        waiting = [asyncio.create_task(kept.get("a", maker)) for _ in range(5)]
        await made_anew(maker, 1)  # by now all five have asked: they were started before
        maker.gate.set()

        refused = await asyncio.gather(*waiting, return_exceptions=True)
        maker.error = None

        assert [type(error) for error in refused] == [NotFound] * 5
        assert await kept.get("a", maker) == 2

    run(story)


def test_who_would_wait_too_long_is_told_to_come_again_whatever_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        kept, maker = numbers(), Maker()
        await kept.get("a", maker)
        maker.gate.clear()
        await asyncio.sleep(LIFETIME_S)

        started = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(kept_module, "PATIENCE_S", 0.2)
            with pytest.raises(Unavailable):
                await kept.get("a", maker)
        waited = time.monotonic() - started
        maker.gate.set()

        assert waited >= 0.2
        assert maker.count <= 2
        assert await kept.get("a", maker) in (2, 3)

    run(story)


def test_it_ends_to_the_millisecond_when_it_stops_being_true() -> None:
    start = datetime(2027, 3, 8, 0, 59, 59, tzinfo=UTC)

    async def story() -> None:
        kept, maker = numbers(**FOR_LONG), Maker(lasts=timedelta(seconds=1))
        with time_machine.travel(start, tick=False) as clock:
            assert await kept.get("a", maker) == 1
            clock.move_to(start + timedelta(milliseconds=999))
            assert await kept.get("a", maker) == 1
            clock.move_to(start + timedelta(seconds=1))
            assert await kept.get("a", maker) == 2

    run(story)


def test_what_stopped_being_true_while_it_was_made_is_made_again() -> None:
    async def story() -> None:
        kept, maker = numbers(**FOR_LONG), Maker(lasts=timedelta(seconds=1))
        start = utcnow()
        with time_machine.travel(start, tick=False) as clock:
            maker.gate.clear()
            asking = asyncio.create_task(kept.get("a", maker))
            await made_anew(maker, 1)
            clock.move_to(start + timedelta(seconds=2))
            maker.gate.set()

            assert await asking == 2

    run(story)


def test_what_is_forgotten_is_not_brought_back_by_who_was_making_it() -> None:
    async def story() -> None:
        kept, maker = numbers(**FOR_LONG), Maker()
        maker.gate.clear()
        before = asyncio.create_task(kept.get("a", maker))
        await made_anew(maker, 1)

        kept.forget()
        after = asyncio.create_task(kept.get("a", maker))
        await made_anew(maker, 2)
        maker.gate.set()

        assert (await before, await after) == (1, 2)
        assert await kept.get("a", maker) == 2

    run(story)


def test_what_takes_too_much_room_pushes_the_oldest_out() -> None:
    async def story() -> None:
        kept, maker = numbers(most_bytes=100, **FOR_LONG), Maker(size=40)

        for key in ("a", "b", "c"):
            await kept.get(key, maker)

        assert await kept.get("c", maker) == 3
        assert await kept.get("a", maker) == 4

    run(story)
