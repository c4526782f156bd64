"""ETags of what staff edit, and what If-Match and If-None-Match say about them (RFC 9110, 13.1)."""

import re
from typing import Annotated, Protocol

from fastapi import Header

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=500, description="the ETag that was loaded")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=500)]


class Versioned(Protocol):
    @property
    def id(self) -> object: ...
    @property
    def version(self) -> object: ...


def of(row: Versioned) -> str:
    """Return the ETag of a row's present version. With the id in it, what was deleted and made anew differs."""
    return f'"{row.id}.{row.version}"'


def matches(header: str, etag: str) -> bool:
    """Whether one of the tags in the header is this one, or it is `*`.

    Weak ones are taken for If-Match, too: our tags name versions and no bytes, and a gateway that compresses weakens them.
    """
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def none_match(header: str | None, etag: str) -> bool:
    """Whether If-None-Match says that the caller has this already."""
    return header is not None and matches(header, etag)


def version_in(header: str, row: Versioned) -> int | None:
    """Return which version of the row a header names, as far as it is one that there ever was."""
    found = re.search(rf'"{re.escape(str(row.id))}\.(\d{{1,9}})"', header, re.ASCII)
    return int(found[1]) if found else None
