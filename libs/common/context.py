"""What travels with a piece of work through HTTP, events and tasks: its request id, and who waits for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass

from libs.common.ids import new_id

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_id() -> str:
    """Return the id of the work at hand, empty outside any."""
    return _request_id.get()


def acceptable(text: str | None) -> str:
    """Return a caller's request id when it is short and harmless, else a new one."""
    return text if text and _ACCEPTABLE.fullmatch(text) else new_id()


def begin(request_id: str) -> Token[str]:
    """Work under this request id until `end` gets the token; for what is done too often for a context manager."""
    return _request_id.set(request_id)


def end(token: Token[str]) -> None:
    _request_id.reset(token)


@contextmanager
def working_on(request_id: str) -> Iterator[None]:
    """Do the enclosed work under this request id."""
    token = begin(request_id)
    try:
        yield
    finally:
        end(token)


@dataclass
class Caller:
    """Whoever waits for the answer to a request, as long as they do."""

    waits: bool = True


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def caller_waits() -> bool:
    """Tell whether the work at hand still has somebody who waits for it, or never had (events, tasks)."""
    caller = _caller.get()
    return caller is None or caller.waits


@contextmanager
def working_for(caller: Caller) -> Iterator[None]:
    """Do the enclosed work for a caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
