"""The other services as a run of a job asks them: over their staff APIs, by a token that names its owner."""

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import httpx2
from pydantic_core import from_json

from libs.contracts.imports import ImportFaulty
from services.admin.errors import SourceAway, SourceRefused

# Some 20 s in all: a process that is started again is back by then. Longer outages are for the next run.
PAUSES_S = (0.3, 1.0, 3.0, 6.0, 10.0)
TIMEOUT_S = 20.0
LOOK_S = 0.5  # while it rests, whether the run is over
FIRST_PAGE = 200
LARGEST_PAGE = 1000
PAGE_BYTES = 1_000_000
_AGAIN = frozenset({401, 429, 500, 502, 503, 504})


class Token(Protocol):
    """By whom a run is known to the other services."""

    def value(self) -> str:
        """Return a token that is not about to expire."""
        ...

    def forget(self) -> None:
        """Have the next one made anew: the last was refused. It may have been voided, and its owner be as before."""
        ...


class Source:
    """One service. `check` raises where the run is over."""

    def __init__(self, name: str, base_url: str, *, token: Token, request_id: str, check: Callable[[], None]) -> None:
        self._prefix = f"/api/{name}/staff"
        self._token = token
        self._check = check
        headers = {"X-Request-ID": request_id, "Accept-Encoding": "identity"}
        self._http = httpx2.Client(base_url=base_url, timeout=TIMEOUT_S, headers=headers, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, params: dict[str, Any]) -> Any:
        """Return the answer; SourceAway where there is none after some tries, SourceRefused where it is a refusal."""
        return from_json(self._ask(path, params))

    def pages(self, path: str, params: dict[str, Any]) -> Generator[list[Any], None, None]:
        """Yield a list page by page, each one fetched while the one before is worked on."""
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self._page, path, params | {"limit": FIRST_PAGE})
            while True:
                items, cursor, size = waiting.result()
                if cursor is None:
                    yield items
                    return
                waiting = pool.submit(self._page, path, params | {"limit": size, "cursor": cursor})
                yield items

    def _page(self, path: str, params: dict[str, Any]) -> tuple[list[Any], str | None, int]:
        """Return a page, its cursor, and how long the next one should be: rows may be long, and memory is bounded."""
        content = self._ask(path, params)
        page = from_json(content)
        items: list[Any] = page["items"]
        row_bytes = len(content) // max(len(items), 1)
        return items, page["next_cursor"], max(1, min(LARGEST_PAGE, PAGE_BYTES // max(row_bytes, 1)))

    def post(self, path: str, body: dict[str, Any], *, language: str) -> Any:
        """Return the answer, also where it says which faults the body has; else as `get`. It may be sent more than once."""
        answer = self._settled("POST", path, json=body, headers={"Accept-Language": language})
        if answer.status_code not in (200, 422):
            raise _refused(answer, path)
        found = from_json(answer.content)
        if answer.status_code == 422 and found["code"] != ImportFaulty.code:
            raise _refused(answer, path)
        return found

    def _ask(self, path: str, params: dict[str, Any]) -> bytes:
        answer = self._settled("GET", path, params=params)
        if answer.status_code != 200:
            raise _refused(answer, path)
        return answer.content

    def _settled(self, method: str, path: str, **request: Any) -> httpx2.Response:
        for pause in (*PAUSES_S, None):
            self._check()
            answer = self._answer(method, path, **request)
            if answer is not None and answer.status_code not in _AGAIN:
                return answer
            if answer is not None and answer.status_code == 401:
                self._token.forget()
            if pause is not None:
                self._rest(pause)
        raise SourceAway(path=path)

    def _rest(self, pause: float) -> None:
        over = time.monotonic() + pause
        while (left := over - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, LOOK_S))

    def _answer(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **request: Any
    ) -> httpx2.Response | None:
        headers = {"Authorization": f"Bearer {self._token.value()}"} | (headers or {})
        try:
            return self._http.request(method, f"{self._prefix}/{path}", headers=headers, **request)
        except httpx2.TransportError:
            return None


def _refused(answer: httpx2.Response, path: str) -> SourceRefused:
    return SourceRefused(status=answer.status_code, problem=answer.text[:500], path=path)
