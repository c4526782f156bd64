"""Signed tokens (JWT) with key ids, under keys that rotate: the first that can sign does, each of them verifies."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey, OKPKey
from pydantic_core import from_json

from libs.common.errors import Texts, Unauthenticated

ISSUER = "hallpass"


class TokenExpired(Unauthenticated):
    code = "token_expired"
    texts = Texts(en="Your sign-in has expired. Sign in again.", zh="登录已过期，请重新登录")


class TokenInvalid(Unauthenticated):
    code = "token_invalid"
    texts = Texts(en="This token is not valid here.", zh="登录凭证无效，请重新登录")


class TokenKeys:
    """One family of tokens: its algorithm, its audience, its keys."""

    def __init__(self, keys: list[dict[str, Any]], *, algorithm: str, audience: str) -> None:
        self._set = KeySet.import_key_set({"keys": keys}) if keys else KeySet([])
        self._algorithm = algorithm
        self._audience = audience
        # HS256 only: a MAC under each key, ready for what is to be signed, by the head that a token under it begins with.
        self._macs = {
            jwt.encode({"alg": algorithm, "kid": key.kid}, {}, key, algorithms=[algorithm]).partition(".")[0]: hmac.new(
                key.raw_value, digestmod="sha256"
            )
            for key in self._set.keys
            if isinstance(key, OctKey) and algorithm == "HS256"
        }

    def sign(self, claims: dict[str, Any], *, now: datetime, lifetime: timedelta) -> str:
        """Return a token with these claims that expires `lifetime` after `now`."""
        key = next(key for key in self._set.keys if key.is_private)
        issued = int(now.timestamp())
        expires = issued + int(lifetime.total_seconds())
        registered = {"iss": ISSUER, "aud": self._audience, "iat": issued, "exp": expires}
        return jwt.encode(
            {"alg": self._algorithm, "kid": key.kid}, claims | registered, key, algorithms=[self._algorithm]
        )

    def verify(self, token: str, *, now: datetime) -> dict[str, Any]:
        """Return the claims of a token of ours, or raise TokenExpired or TokenInvalid."""
        claims = self._known_head(token)
        if claims is None:
            claims = self._decoded(token)
        if claims.get("iss") != ISSUER or claims.get("aud") != self._audience or not isinstance(claims.get("exp"), int):
            raise TokenInvalid
        if claims["exp"] <= now.timestamp():
            raise TokenExpired
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(token, self._set, algorithms=[self._algorithm]).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise TokenInvalid from None
        return claims

    def _known_head(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token that begins as `sign` begins one and bears the signature, None of any other.

        The library takes three times as long, most of it for reading a head that is always the same.
        """
        head, _, rest = token.partition(".")
        ready = self._macs.get(head)
        if ready is None:
            return None
        payload, _, signature = rest.partition(".")
        mac = ready.copy()
        try:
            mac.update(f"{head}.{payload}".encode())
            expected = urlsafe_b64encode(mac.digest()).rstrip(b"=")
            if not hmac.compare_digest(signature.encode(), expected):
                return None
            claims = from_json(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except ValueError:
            return None
        return claims if isinstance(claims, dict) else None


def new_signing_key(kid: str) -> dict[str, Any]:
    """Return a fresh Ed25519 key as a private JWK."""
    return dict(OKPKey.generate_key("Ed25519", {"kid": kid}).as_dict(private=True))


def public_part(key: dict[str, Any]) -> dict[str, Any]:
    """Return a JWK without its private part."""
    return {name: value for name, value in key.items() if name != "d"}


def new_shared_key(kid: str) -> dict[str, Any]:
    """Return a fresh 256-bit HMAC key as a JWK."""
    return dict(OctKey.generate_key(256, {"kid": kid}).as_dict(private=True))
