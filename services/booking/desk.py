"""The desk: where one process settles bookings, cancellations and moves, whatever waits of them together."""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

from libs.common import failpoints, traces
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, Unavailable
from libs.common.groups import Groups
from libs.common.problems import Broken
from services.booking import metrics, policy
from services.booking.asks import Ask, Booking, Cancelling, Moving
from services.booking.counters import Counters
from services.booking.counts import Ask as Asked
from services.booking.counts import Full
from services.booking.drafts import Draft, draft_if_fit
from services.booking.policy import Held
from services.booking.schemas import JoinOut
from services.booking.seen import Seen
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
        self._counters: WeakKeyDictionary[asyncio.AbstractEventLoop, Counter] = WeakKeyDictionary()

    async def book(self, asked: Booking) -> bytes:
        """Take places for everybody named, or for nobody; return the answer (PartyOut as JSON).

        Raises the first rule broken, or Unavailable where nothing can be said now: the same key finds out later.
        """
        return cast(bytes, await self.here().answer(asked))

    async def cancel(self, asked: Cancelling) -> JoinOut:
        """Give the place back."""
        return cast(JoinOut, await self.here().answer(asked))

    async def move(self, asked: Moving) -> JoinOut:
        """Exchange the place for one in another slot of the same item: both happen, or neither."""
        return cast(JoinOut, await self.here().answer(asked))

    def here(self) -> "Counter":
        """Return the counter of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._counters.get(loop)
        if found is None:
            settler = Settler(
                self._url,
                self._sealer,
                Seen(),
                on_commit=lambda notes: self.on_commit(notes),
                on_doubt=self._atomic.doubt,
            )
            found = self._counters[loop] = Counter(settler, self._sealer, self._atomic, crowd=self._crowd)
        return found

    def end(self) -> None:
        """Let go of the connections of every loop; none of them runs any more."""
        for counter in self._counters.values():
            counter.end()


class Counter:
    """The desk as one event loop has it."""

    def __init__(self, settler: Settler, sealer: Sealer, atomic: Counters, *, crowd: int) -> None:
        self._settler = settler
        self._seen = settler.seen
        self._sealer = sealer
        self._atomic = atomic
        self._crowd = crowd
        self._groups: Groups[Request] = Groups(self.settle, observe=metrics.GROUP_SIZE.observe)

    async def answer(self, asked: Ask) -> object:
        """Return the answer, or raise it."""
        return await self._groups.submit((asked, self._drafted(asked)))

    async def settle(self, requests: Sequence[Request]) -> list[Any]:
        """Return for each request of a group its answer, or the exception that says why not."""
        if not traces.is_on():
            return await self._settled(requests)
        with traces.span_of_all(
            "settle", (asked.request_id for asked, _ in requests), **{"hallpass.group": len(requests)}
        ):
            return await self._settled(requests)

    async def _settled(self, requests: Sequence[Request]) -> list[Any]:
        crowd = self._crowd_of([asked for asked, _ in requests if isinstance(asked, Booking)])
        turned_away = await self._turned_away(crowd) if crowd else {}
        let_in = [request for request in requests if id(request[0]) not in turned_away]
        settled = await self._settler.settle(let_in)
        results = turned_away | {id(asked): result for (asked, _), result in zip(let_in, settled, strict=True)}
        refused = [
            asked for asked in crowd if id(asked) not in turned_away and isinstance(results[id(asked)], HallpassError)
        ]
        self._atomic.release(map(_at_the_counter, refused))
        _count([(asked, results[id(asked)]) for asked, _ in requests])
        return [results[id(asked)] for asked, _ in requests]

    async def close(self) -> None:
        """Let go of the connection; another group makes one."""
        await self._settler.close()

    def end(self) -> None:
        """Let go of the connection when the loop runs no more."""
        self._settler.end()

    def _drafted(self, asked: Ask) -> Draft | None:
        """Make a booking ready before it is decided, upon what was last seen of its slot; None where that is no use."""
        if not isinstance(asked, Booking) or self._seen.looks_full(asked):
            return None
        offered = self._seen.get(asked.slot_id)
        return None if offered is None else draft_if_fit(self._sealer, asked, offered)

    def _crowd_of(self, asks: Sequence[Booking]) -> list[Booking]:
        """Return about whom the atomic counters are asked: these alone get leases.

        Only a crowd is worth that: what they say may be a moment old, while PostgreSQL is exact, and quick for a few.
        Nor are they asked where so many places are left that nothing they say can be "full".
        """
        asks = [asked for asked in asks if not self._seen.is_roomy(asked.slot_id)]
        return asks if len(asks) >= self._crowd else []

    async def _turned_away(self, asks: Sequence[Booking]) -> dict[int, HallpassError]:
        """Return who is refused by the atomic counters alone: where they say full, and no earlier rule can be broken."""
        failpoints.reach("settle.before_admit")
        verdicts = await self._atomic.admit([_at_the_counter(asked) for asked in asks])
        failpoints.reach("settle.after_admit")
        return {
            id(asked): refused
            for asked, full in zip(asks, verdicts, strict=True)
            if full is not None and (refused := self._refusal_by(asked, full)) is not None
        }

    def _refusal_by(self, asked: Booking, full: Full) -> HallpassError | None:
        """Ask the rules about the slot as the counter has it, if that is how it was seen here a moment ago.

        Who is not known to hold a place holds none in this slot.
        """
        seen = self._seen.get(asked.slot_id)
        if seen is None or seen.slot.version != full.version or not self._seen.is_fresh(asked.slot_id):
            return None
        if seen.rules.max_per_day is not None or seen.rules.max_ahead is not None or seen.slot.deleted:
            return None  # what the user holds in other slots is known to PostgreSQL alone
        people = len(asked.attendees)
        try:
            policy.may_book(
                seen.offer,
                Held(),
                people=people,
                left=seen.left,
                user_is_disabled=False,
                at_the_desk=asked.at_the_desk,
                now=asked.now,
            )
        except HallpassError as refused:
            return refused.with_traceback(None)
        return None


_OUTCOMES = {Booking: "booked", Cancelling: "cancelled", Moving: "moved"}


def _count(settled: Iterable[tuple[Ask, object]]) -> None:
    """Count what became of the requests of a group."""
    for (outcome, code), times in Tally(_outcome(asked, result) for asked, result in settled).items():
        metrics.joins(outcome, code).inc(times)


def _outcome(asked: Ask, result: object) -> tuple[str, str]:
    if not isinstance(result, BaseException):
        return _OUTCOMES[type(asked)], ""
    if isinstance(result, HallpassError):
        return "failed" if isinstance(result, Unavailable) else "refused", result.code
    return "failed", Broken.code


def _at_the_counter(asked: Booking) -> Asked:
    return Asked(asked.slot_id, asked.user_id, len(asked.attendees))
