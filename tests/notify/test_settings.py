"""The settings of channels: whole, or refused in a sentence that shows no secret."""

from typing import Any

import pytest

from libs.common.crypto import random_key
from libs.common.settings import SettingsError
from services.notify.resources import NotifySettings
from tests.world import KEYS

PLAIN: dict[str, Any] = {"mode": "embedded", "database_url": "postgresql+psycopg://x", **KEYS}
DISTRIBUTED = PLAIN | {"mode": "distributed", "redis_url": "redis://x", "broker_url": "amqp://x"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"wechat_appid": "wx"}, "HALLPASS_WECHAT_SECRET is missing"),
        ({"smtp_host": "mail"}, "HALLPASS_MAIL_FROM is no address"),
        ({"smtp_host": "mail", "mail_from": "a@b.cd\nBcc: e@f.gh"}, "HALLPASS_MAIL_FROM is no address"),
        ({"smtp_user": "lin"}, "HALLPASS_SMTP_PASSWORD is missing"),
        ({"smtp_security": "maybe"}, "HALLPASS_SMTP_SECURITY"),
        ({"data_keys": []}, "HALLPASS_DATA_KEYS is missing"),
    ],
)
def test_half_a_channel_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        NotifySettings.load(**PLAIN | given)


def test_a_short_secret_is_refused_outside_the_embedded_run() -> None:
    with pytest.raises(SettingsError, match="HALLPASS_WECHAT_SECRET is too weak") as refused:
        NotifySettings.load(**DISTRIBUTED | {"wechat_appid": "wx", "wechat_secret": "short-one"})

    assert "short-one" not in str(refused.value)


def test_no_channel_needs_no_settings() -> None:
    assert NotifySettings.load(**PLAIN | {"data_keys": [{"kid": "one", "k": random_key()}]}).smtp_host == ""
