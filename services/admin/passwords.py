"""Passwords: how they are hashed, compared and made up."""

import secrets
import threading
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)  # OWASP's argon2id; about 20 ms
_AT_ONCE = threading.BoundedSemaphore(4)  # each takes 19 MB: a flood of sign-ins waits here and not for memory

_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is mistaken for something else when read aloud


def hashed(password: str) -> str:
    """Return the argon2id hash of a password, salt and parameters included."""
    with _AT_ONCE:
        return _hasher.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Whether the password is the one that was stored; takes as long where nothing is stored."""
    with _AT_ONCE:
        try:
            return _hasher.verify(stored or _nobodys(), password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


@lru_cache
def _nobodys() -> str:
    return _hasher.hash(secrets.token_urlsafe())


def readable(*, groups: int = 5) -> str:
    """Return a random password that can be typed from paper, in groups of four characters with 19.8 bits each."""
    return "-".join("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(groups))


_nobodys()  # at import: the first unknown name must not take longer than the others
