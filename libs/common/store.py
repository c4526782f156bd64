"""Files that several processes share, in a folder or in S3: written whole or not at all, and read in pieces."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from libs.common.errors import Unavailable
from libs.common.logs import logger

log = logger(__name__)

PIECE_BYTES = 1024 * 1024
PART_BYTES = 8 * 1024 * 1024  # two of them are in memory while a file is written
ABANDONED_S = 24 * 3600
MOST_RETRIES = 3
RETRIES_END_AFTER = timedelta(seconds=5)  # the library's own is three minutes, while somebody waits


@dataclass(frozen=True)
class Stored:
    """A file that was found: its size, and its content to be read once."""

    size: int
    pieces: Iterator[bytes]


def check_url(url: str) -> str:
    """Return the URL of a store, or raise ValueError where it is none: file:///a/folder or s3://bucket/prefix."""
    parts = urlsplit(url)
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and len(parts.path) > 1
    is_bucket = parts.scheme == "s3" and parts.netloc
    if not is_folder and not is_bucket:
        raise ValueError(f"{url!r} is no place for files: write file:///a/folder or s3://bucket/prefix")
    return url


class Store:
    """Files by keys such as `exports/one.xlsx`. A folder is made when the first file comes.

    Whatever is asked of a store that is away, or refuses us, raises Unavailable within seconds.
    How to reach S3 is said by the variables that its other clients read: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT ...
    """

    def __init__(self, url: str) -> None:
        self._url = check_url(url)

    @cached_property
    def _store(self) -> ObjectStore:
        if self._folder is not None:
            return LocalStore(self._folder, automatic_cleanup=True, mkdir=True)
        return from_url(self._url, retry_config={"max_retries": MOST_RETRIES, "retry_timeout": RETRIES_END_AFTER})

    @property
    def _folder(self) -> Path | None:
        parts = urlsplit(self._url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def put(self, key: str, content: Path | bytes) -> int:
        """Store a file or bytes under a key and return the size. Nobody sees it before all of it is there."""
        with _answering():
            obstore.put(self._store, key, content, chunk_size=PART_BYTES, max_concurrency=2)
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def get(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""
        try:
            with _answering():
                found = obstore.get(self._store, key)
        except FileNotFoundError:
            return None
        return Stored(found.meta["size"], (bytes(piece) for piece in found.stream(min_chunk_size=PIECE_BYTES)))

    def keys(self, prefix: str, *, before: datetime | None = None) -> list[str]:
        """Return the keys below a prefix; with `before`, of what was stored earlier."""
        with _answering():
            found = [one for page in obstore.list(self._store, prefix) for one in page]
        return [one["path"] for one in found if before is None or one["last_modified"] < before]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete what lies under these keys; what is gone already is no fault."""
        for key in keys:
            try:
                with _answering():
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def sweep(self) -> int:
        """Delete what writers left behind that died in a folder more than a day ago; return how many files that were.

        A bucket needs a lifecycle rule for unfinished uploads in its place.
        """
        if self._folder is None or not self._folder.exists():
            return 0
        before = time.time() - ABANDONED_S
        left = [path for path in self._folder.rglob("*#*") if path.is_file() and path.stat().st_mtime < before]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (BaseError, PermissionError) as error:
        log.warning("the store of files is away", error=repr(error))
        raise Unavailable from error
