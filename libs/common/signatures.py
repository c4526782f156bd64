"""Signatures of what is sent to others, by the Standard Webhooks specification (symmetric, `v1`).

A secret is `whsec_` and base64 of random bytes. What is signed is `{id}.{timestamp}.{body}` with HMAC-SHA256; the header
`webhook-signature` lists a `v1,<base64>` for each secret that is good, separated by spaces.
"""

import base64
import hmac
import os
from collections.abc import Iterable
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a fresh secret as receivers are told it."""
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def headers(secrets: Iterable[str], message_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
    """Return the three headers by which a receiver knows who sent the body, when, and whether it had it before."""
    timestamp = str(int(now.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def is_secret(text: str) -> bool:
    """Tell whether a text is a secret of 24 to 64 bytes, as the specification asks."""
    try:
        return text.startswith(PREFIX) and 24 <= len(_key(text)) <= 64
    except ValueError:
        return False


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def _signature(secret: str, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()
