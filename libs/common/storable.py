"""What PostgreSQL can store of that which JSON and addresses can spell."""

from typing import Any


def text(value: str) -> str:
    """Return the text as it is; ValueError where it holds NUL or half of a surrogate pair."""
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("text may not hold NUL or half of a surrogate pair")
    return value


def every_text(value: Any) -> None:
    """Raise ValueError where any text within what JSON made can't be stored."""
    waiting = [value]  # no recursion: how deep a body nests is the sender's choice
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            text(found)
        elif isinstance(found, dict):
            waiting.extend(found)
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
