"""The health of the whole installation: what each service says of itself, asked at once and put together."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

import httpx2

Found = dict[str, Any]
Ask = Callable[[], Awaitable[Found]]

FRESH_S = 1.0  # everybody may ask, so an answer is given out for that long
TIMEOUT_S = 2.0


class Health:
    """Asks every service by its `asks`, and answers {status, parts: {service: {status, detail}}}.

    `down` where no service can serve, `ok` where all are, `degraded` in between.
    """

    def __init__(self, asks: Mapping[str, Ask]) -> None:
        self._asks = asks
        self._found: Found = {}
        self._found_at = float("-inf")
        self._asking: asyncio.Lock | None = None

    async def look(self) -> Found:
        if self._asking is None:
            self._asking = asyncio.Lock()
        async with self._asking:
            if time.monotonic() - self._found_at > FRESH_S:
                found = await asyncio.gather(*(_part(ask) for ask in self._asks.values()))
                parts = dict(zip(self._asks, found, strict=True))
                self._found = {"status": _together([part["status"] for part in found]), "parts": parts}
                self._found_at = time.monotonic()
            return self._found


def over_http(url: str) -> Ask:
    """Ask a service that another process serves, at its own address."""

    async def ask() -> Found:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=_trust()) as client:
            answer = await client.get(f"{url.rstrip('/')}/readyz")
            found: Found = answer.json()
            return found

    return ask


@cache
def _trust() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # reads hundreds of certificates, for longer than the services take to answer


async def _part(ask: Ask) -> dict[str, str]:
    try:
        found = await asyncio.wait_for(ask(), TIMEOUT_S)
        status = found["status"]
        lacking = [f"{name}: {part['detail']}" for name, part in found["parts"].items() if part["status"] != "ok"]
    except TimeoutError:
        return {"status": "down", "detail": "did not answer in time"}
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        return {"status": "down", "detail": f"does not answer ({type(error).__name__})"}
    if status not in ("ok", "degraded", "down"):
        return {"status": "down", "detail": "does not answer as a service of ours does"}
    return {"status": status, "detail": "; ".join(lacking) or "ready"}


def _together(statuses: list[str]) -> str:
    if all(status == "down" for status in statuses):
        return "down"
    return "ok" if all(status == "ok" for status in statuses) else "degraded"
