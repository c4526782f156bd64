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


@dataclass(slots=True)
class Caller:
    """Whoever waits for the answer to a request, as long as they do."""

    waits: bool = True


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
Tokens = tuple[Token[str], Token[Caller | None]]


def caller_waits() -> bool:
    """Tell whether the work at hand still has somebody who waits for it, or never had (events, tasks)."""
    caller = _caller.get()
    return caller is None or caller.waits


def begin(request_id: str, caller: Caller | None) -> Tokens:
    """Work under this request id and for this caller until `end`; where a context manager would cost too much."""
    return _request_id.set(request_id), _caller.set(caller)


def end(tokens: Tokens) -> None:
    _request_id.reset(tokens[0])
    _caller.reset(tokens[1])


@contextmanager
def working_on(request_id: str) -> Iterator[None]:
    """Do the enclosed work under this request id."""
    tokens = begin(request_id, _caller.get())
    try:
        yield
    finally:
        end(tokens)
