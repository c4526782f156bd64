"""What admin needs before it starts."""

from typing import Any

import pytest

from libs.common.crypto import random_key
from libs.common.settings import SettingsError
from libs.common.tokens import new_shared_key, new_signing_key, public_part
from services.admin.resources import AdminSettings

KEY = new_signing_key("one")


def load(**chosen: Any) -> AdminSettings:
    common = {
        "database_url": "postgresql://x",
        "redis_url": "redis://x",
        "broker_url": "amqp://x",
        "mode": "distributed",
        "data_keys": [{"kid": "data-1", "k": random_key()}],
    }
    return AdminSettings.load(**(common | chosen))


def test_admin_starts_with_a_private_key() -> None:
    assert load(staff_token_keys=[public_part(new_signing_key("next")), KEY]).staff_token_keys


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([], "HALLPASS_STAFF_TOKEN_KEYS is missing"),
        ([public_part(KEY)], "holds no private key"),
        ([new_shared_key("one")], "something else than Ed25519"),
        ([KEY, {**KEY, "kid": ""}], "something else than Ed25519"),
    ],
)
def test_admin_does_not_start_without_one(keys: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load(staff_token_keys=keys)


@pytest.mark.parametrize(
    "keys", [[], [{"kid": "data-1"}], [{"kid": "data-1", "k": "short"}], [{"kid": "d", "k": "A" * 43}]]
)
def test_admin_does_not_start_without_a_key_to_second_factors(keys: list[dict[str, Any]]) -> None:
    with pytest.raises(SettingsError, match="HALLPASS_DATA_KEYS"):
        load(staff_token_keys=[KEY], data_keys=keys)


def test_the_reason_does_not_show_the_key() -> None:
    with pytest.raises(SettingsError) as refusal:
        load(staff_token_keys=[KEY, new_shared_key("one")])

    assert KEY["d"] not in str(refusal.value)
