"""Group commit without a database: who is settled with whom, and what becomes of each."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from libs.common.errors import Unavailable
from libs.common.groups import Groups


class Till:
    """Settles a group when it is let; remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()

    async def settle(self, requests: Sequence[int]) -> list[Any]:
        self.groups.append(list(requests))
        await self.open.wait()
        return [ValueError(request) if request < 0 else request * 10 for request in requests]


async def _all_waiting() -> None:
    for _ in range(5):
        await asyncio.sleep(0)  # let every task that can go on do so


def test_a_lone_request_is_settled_at_once_and_the_next_group_is_what_came_meanwhile() -> None:
    async def story() -> None:
        till = Till()
        groups: Groups[int] = Groups(till.settle)
        first = asyncio.create_task(groups.submit(1))
        await _all_waiting()
        others = [asyncio.create_task(groups.submit(number)) for number in (2, 3, 4)]
        await _all_waiting()

        assert till.groups == [[1]]
        till.open.set()

        assert await first == 10
        assert await asyncio.gather(*others) == [20, 30, 40]
        assert till.groups == [[1], [2, 3, 4]]

    asyncio.run(story())


def test_each_caller_has_its_own_error() -> None:
    async def story() -> None:
        till = Till()
        till.open.set()
        groups: Groups[int] = Groups(till.settle)

        answers = await asyncio.gather(*map(groups.submit, (1, -2, 3)), return_exceptions=True)

        assert answers[0::2] == [10, 30]
        assert isinstance(answers[1], ValueError)

    asyncio.run(story())


def test_a_group_is_no_larger_than_it_may_be() -> None:
    async def story() -> None:
        till = Till()
        till.open.set()
        groups: Groups[int] = Groups(till.settle, largest=2)

        await asyncio.gather(*map(groups.submit, range(5)))

        assert max(map(len, till.groups)) == 2
        assert [request for group in till.groups for request in group] == [0, 1, 2, 3, 4]

    asyncio.run(story())


def test_too_many_waiting_are_refused_and_those_who_wait_are_served() -> None:
    async def story() -> None:
        till = Till()
        groups: Groups[int] = Groups(till.settle, most_waiting=2)
        in_hand = asyncio.create_task(groups.submit(1))
        await _all_waiting()
        waiting = [asyncio.create_task(groups.submit(number)) for number in (2, 3)]
        await _all_waiting()

        with pytest.raises(Unavailable):
            await groups.submit(4)

        till.open.set()
        assert [await in_hand, *[await task for task in waiting]] == [10, 20, 30]

    asyncio.run(story())


def test_who_hangs_up_is_settled_all_the_same() -> None:
    async def story() -> None:
        till = Till()
        groups: Groups[int] = Groups(till.settle)
        first = asyncio.create_task(groups.submit(1))
        await _all_waiting()
        gone, stays = (asyncio.create_task(groups.submit(number)) for number in (2, 3))
        await _all_waiting()

        gone.cancel()
        till.open.set()

        assert [await first, await stays] == [10, 30]
        assert till.groups == [[1], [2, 3]]

    asyncio.run(story())


def test_a_settlement_that_breaks_is_told_to_all_of_its_group_and_the_next_goes_on() -> None:
    async def story() -> None:
        broken = [True]

        async def settle(requests: Sequence[int]) -> list[int]:
            if broken.pop() if broken else False:
                raise OSError("the till is on fire")
            return list(requests)

        groups: Groups[int] = Groups(settle)

        with pytest.raises(OSError, match="on fire"):
            await groups.submit(1)
        assert await groups.submit(2) == 2

    asyncio.run(story())
