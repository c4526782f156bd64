"""The desk: where one process settles bookings, cancellations and moves, whatever waits of them together."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

from libs.common.crypto import Sealer
from libs.common.groups import Groups
from services.booking import metrics
from services.booking.asks import Ask, Booking, Cancelling, Moving
from services.booking.counters import Counters
from services.booking.drafts import Draft
from services.booking.schemas import JoinOut
from services.booking.settle import Request, Settler


class Desk:
    """Takes requests on any event loop of the process; each loop has a connection and groups of its own.

    `on_commit` is called after each transaction with the notes that a session would have left.
    """

    def __init__(self, url: str, sealer: Sealer, atomic: Counters, *, crowd: int) -> None:
        self.on_commit: Callable[[Mapping[str, Any]], None] = lambda notes: None
        self._url = url
        self._sealer = sealer
        self._atomic = atomic
        self._crowd = crowd
        self._counters: WeakKeyDictionary[asyncio.AbstractEventLoop, _Counter] = WeakKeyDictionary()

    async def book(self, asked: Booking) -> bytes:
        """Take places for everybody named, or for nobody; return the answer (PartyOut as JSON).

        Raises the first rule broken, or Unavailable where nothing can be said now: the same key finds out later.
        """
        counter = self._here()
        return cast(bytes, await counter.settled(asked, counter.settler.drafted(asked)))

    async def cancel(self, asked: Cancelling) -> JoinOut:
        """Give the place back."""
        return cast(JoinOut, await self._here().settled(asked, None))

    async def move(self, asked: Moving) -> JoinOut:
        """Exchange the place for one in another slot of the same item: both happen, or neither."""
        return cast(JoinOut, await self._here().settled(asked, None))

    def _here(self) -> "_Counter":
        loop = asyncio.get_running_loop()
        found = self._counters.get(loop)
        if found is None:
            settler = Settler(
                self._url,
                self._sealer,
                self._atomic,
                crowd=self._crowd,
                on_commit=lambda notes: self.on_commit(notes),
            )
            found = self._counters[loop] = _Counter(settler)
        return found


class _Counter:
    """The desk as one event loop has it."""

    def __init__(self, settler: Settler) -> None:
        self.settler = settler
        self._groups: Groups[Request] = Groups(settler.settle, observe=metrics.GROUP_SIZE.observe)

    async def settled(self, asked: Ask, drafted: Draft | None) -> object:
        return await self._groups.submit((asked, drafted))
