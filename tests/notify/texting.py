"""Users who are reached by text messages, over a bridge of the tests' own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from libs.common import signatures
from services.notify.channels.sms import SmsChannel, Templates
from tests.common.receiver import Posted, Receiver, receiver
from tests.notify.builders import Join, user_headers
from tests.world import World

ME = "/api/notify/me"
SECRET = signatures.new_secret()
TEMPLATES: Templates = {"code": "SMS_1", "booked": {"zh": "SMS_2", "en": "SMS_3"}, "revoked": "SMS_4"}
PHONE = "138 0013 8000"
IN_FULL = "+8613800138000"


@contextmanager
def a_bridge() -> Iterator[Receiver]:
    """Run a bridge that takes every message."""
    with receiver(lambda exchange, _: exchange.answer(200, '{"id": "biz-1"}')) as found:
        yield found


def settings(bridge: Receiver, **more: Any) -> dict[str, Any]:
    chosen = {"sms_url": f"{bridge.address}/send", "sms_secret": SECRET, "sms_templates": TEMPLATES}
    return chosen | {"sms_timeout_s": 30} | more


def channel(world: World) -> SmsChannel:
    resources = world.runtimes["notify"].resources
    texting = resources.texting
    return SmsChannel(texting.provider, texting.templates, texting.budget, resources.sealer)


def asked(world: World, user_id: str, method: str, path: str = "", body: Any = None, language: str = "zh") -> Any:
    headers = user_headers(world, user_id, language)
    return world.client.request(method, f"{ME}/phone{path}", json=body, headers=headers)


def code_in(posted: Posted) -> str:
    found: str = json.loads(posted.body)["params"]["code"]
    return found


def another_minute(world: World) -> None:
    """Let the last code to any number have been a minute ago."""
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE sms_uses SET at = at - interval '61 seconds'"))


def confirmed(world: World, bridge: Receiver, join: Join, phone: str = PHONE, language: str = "zh") -> None:
    """Let the user of a join be reached at a number."""
    answer = asked(world, join.user_id, "PUT", body={"phone": phone}, language=language)
    assert answer.status_code == 202, answer.text
    code = code_in(bridge.posted.pop())
    answer = asked(world, join.user_id, "POST", "/confirm", {"code": code}, language)
    assert answer.status_code == 200, answer.text
