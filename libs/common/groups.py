"""Group commit: what waits in one process is settled together, so that many share the cost of one transaction."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from libs.common import failpoints
from libs.common.errors import Unavailable
from libs.common.logs import logger

log = logger(__name__)

Request = TypeVar("Request")

LARGEST = 256  # more gain nothing: what a transaction costs by itself is spread thin by then
MOST_WAITING = 4096
AT_A_TIME = 16


class Groups(Generic[Request]):
    """Hands whatever waits to `settle`, one group at a time, on the event loop of whoever submits.

    `settle` returns a result for each request, in order; an exception among them is raised to that one's caller.
    There is no waiting for company: a lone request is settled at once, and the next group is what has come meanwhile.
    """

    def __init__(
        self,
        settle: Callable[[Sequence[Request]], Awaitable[Sequence[Any]]],
        *,
        largest: int = LARGEST,
        most_waiting: int = MOST_WAITING,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._settle = settle
        self._largest = largest
        self._most_waiting = most_waiting
        self._observe = observe
        self._waiting: deque[tuple[Request, asyncio.Future[Any]]] = deque()
        self._settled: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Any:
        """Return what `settle` says of the request, or raise it; Unavailable where too many wait already.

        A caller that hangs up leaves its request to be settled all the same.
        """
        if len(self._waiting) >= self._most_waiting:
            raise Unavailable
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            return await answer
        finally:
            del answer  # it holds the error that it raises, whose traceback holds this frame

    async def _run(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
            self._observe(len(group))
            results = await self._results([request for request, _ in group])
            failpoints.reach("settle.before_answer")
            self._settled.extend(zip((answer for _, answer in group), results, strict=True))
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Give the answers a few at a time: who has one asks again, and the group in hand waits for all that is said."""
        while self._settled:
            for _ in range(min(AT_A_TIME, len(self._settled))):
                answer, result = self._settled.popleft()
                if answer.done():  # its caller has hung up
                    continue
                if isinstance(result, BaseException):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
            failpoints.reach("settle.after_answer")
            await asyncio.sleep(0)

    async def _results(self, requests: Sequence[Request]) -> Sequence[Any]:
        try:
            results = await self._settle(requests)
            if len(results) != len(requests):
                raise ValueError(f"{len(requests)} requests and {len(results)} results")
            return results
        except Exception as error:  # noqa: BLE001  # told to every caller; the loop has to go on for those who wait
            return [error] * len(requests)
