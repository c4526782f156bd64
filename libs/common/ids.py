"""Identifiers: UUIDv7 as opaque text, so that new rows land at the end of an index."""

import uuid

import uuid_utils


def new_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562) in canonical text form."""
    return str(uuid_utils.uuid7())


def parse_id(text: str) -> str | None:
    """Return the canonical form of an id, or None where the text is no id (and so names nothing)."""
    try:
        parsed = uuid.UUID(text)
    except (ValueError, AttributeError):
        return None
    return str(parsed) if len(text) == 36 else None
