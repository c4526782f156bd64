"""Encryption of what is kept secret at rest, and the keyed hash by which it can be found."""

import base64
import hashlib
import hmac
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class SealError(Exception):
    """A sealed value can't be opened: its key is gone, or it was altered or moved."""


class Sealer:
    """AES-256-GCM under rotating keys. The first key seals; any of them opens.

    A sealed value is key id (1 byte length + text), 12 bytes nonce, ciphertext with tag. `about` binds a value to
    its place: what was sealed for one row does not open in another. Who has to find what is sealed gives a `hash_key`.
    """

    def __init__(self, keys: list[dict[str, Any]], *, hash_key: str = "") -> None:
        self._keys = {key["kid"]: AESGCM(_decode(key["k"])) for key in keys}
        self._first: str = keys[0]["kid"]
        self._hash_key = _decode(hash_key)

    def seal(self, plain: bytes, *, about: str) -> bytes:
        """Encrypt and bind to `about`."""
        nonce = os.urandom(12)
        kid = self._first.encode()
        cipher: bytes = self._keys[self._first].encrypt(nonce, plain, about.encode())
        return bytes([len(kid)]) + kid + nonce + cipher

    def open(self, sealed: bytes, *, about: str) -> bytes:
        """Decrypt, or raise SealError."""
        length = sealed[0]
        kid, nonce, cipher = (
            sealed[1 : 1 + length].decode(),
            sealed[1 + length : 13 + length],
            sealed[13 + length :],
        )
        if kid not in self._keys:
            raise SealError(f"no key {kid}")
        try:
            plain: bytes = self._keys[kid].decrypt(nonce, cipher, about.encode())
        except InvalidTag:
            raise SealError("altered, or sealed for another place") from None
        return plain

    def digest(self, text: str, *, about: str) -> bytes:
        """Return a keyed hash (HMAC-SHA-256) that equals for equal text and tells nothing without the key."""
        if not self._hash_key:
            raise SealError("no key to hash with")
        return hmac.digest(self._hash_key, f"{about}\x00{text}".encode(), hashlib.sha256)


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def random_key(length: int = 32) -> str:
    """Return fresh random bytes as unpadded base64url."""
    return base64.urlsafe_b64encode(os.urandom(length)).rstrip(b"=").decode()
