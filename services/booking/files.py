"""Files that answer forms, as they lie in the store: sealed under the keys of personal data."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from libs.common.crypto import Sealer
from libs.common.errors import Unavailable
from libs.common.store import Store

AT_ONCE = 2  # a process has so many files in memory: whole, unfolded and sealed
PATIENCE_S = 3.0


class Files:
    """Files by the ids of their uploads. `most_bytes` and `most_pixels` bound what is taken."""

    def __init__(self, store: Store, sealer: Sealer, *, most_bytes: int, most_pixels: int) -> None:
        self.most_bytes = most_bytes
        self.most_pixels = most_pixels
        self._store = store
        self._sealer = sealer
        self._rooms = BoundedSemaphore(AT_ONCE)

    @contextmanager
    def room(self) -> Iterator[None]:
        """Wait until there is memory for a file, or raise Unavailable."""
        if not self._rooms.acquire(timeout=PATIENCE_S):
            raise Unavailable
        try:
            yield
        finally:
            self._rooms.release()

    def put(self, upload_id: str, data: bytes) -> None:
        """Keep a file."""
        self._store.put(_key(upload_id), self._sealer.seal(data, about=_about(upload_id)))

    def get(self, upload_id: str) -> bytes | None:
        """Return a file, None where there is none."""
        stored = self._store.get(_key(upload_id))
        return None if stored is None else self._sealer.open(b"".join(stored.pieces), about=_about(upload_id))

    def delete(self, upload_ids: Iterable[str]) -> None:
        """Delete these files; what is gone already is no fault."""
        self._store.delete(map(_key, upload_ids))

    def sweep(self) -> int:
        """Delete what writers left behind that died."""
        return self._store.sweep()


def _key(upload_id: str) -> str:
    return f"uploads/{upload_id}"


def _about(upload_id: str) -> str:
    return f"file:{upload_id}"
