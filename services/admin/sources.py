"""The other services as a run of an export reads them: over their staff APIs, by a token that names its owner."""

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import httpx2
from pydantic_core import from_json

from services.admin.errors import SourceAway, SourceRefused

# Some 20 s in all: a process that is started again is back by then. Longer outages are for the next run.
PAUSES_S = (0.3, 1.0, 3.0, 6.0, 10.0)
TIMEOUT_S = 20.0
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

    def _ask(self, path: str, params: dict[str, Any]) -> bytes:
        for pause in (*PAUSES_S, None):
            self._check()
            answer = self._answer(path, params)
            if answer is not None and answer.status_code == 200:
                return answer.content
            if answer is not None and answer.status_code == 401:
                self._token.forget()
            if answer is not None and answer.status_code not in _AGAIN:
                raise SourceRefused(status=answer.status_code, problem=answer.text[:500], path=path)
            if pause is not None:
                time.sleep(pause)
        raise SourceAway(path=path)

    def _answer(self, path: str, params: dict[str, Any]) -> httpx2.Response | None:
        headers = {"Authorization": f"Bearer {self._token.value()}"}
        try:
            return self._http.get(f"{self._prefix}/{path}", params=params, headers=headers)
        except httpx2.TransportError:
            return None
