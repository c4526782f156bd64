"""Users who are reached by WeChat and mail, over servers of the tests' own, and what became of their notices."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

import httpx2
from sqlalchemy import select

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.wechat import WeChat
from services.notify import ways
from services.notify.channel import Channel
from services.notify.models import Delivery, Grant
from tests.notify.builders import Join, a_join, a_slot, hear, rows, user_headers
from tests.notify.pigeons import carry_all
from tests.notify.servers import MailServer, WeChatServer
from tests.world import World

API = "/api/notify"
TEMPLATE = "tmpl-booked"
VALUES = {"thing1": "{item}", "time2": "{date} {start}", "thing3": "{hall}，{people}"}
PATIENCE_S = 30.0  # of our channels with their providers, however busy the machine is
SILENCE_S = 5.0  # after which a provider that hangs is given up: a busy machine gets as far as that by then
MakeWorld = Callable[..., World]


@dataclass
class Town:
    """A world, and the providers that it knows."""

    world: World
    wechat: WeChatServer = field(default_factory=WeChatServer)
    mail: MailServer = field(default_factory=MailServer)

    def ask(self, method: str, path: str, user_id: str, body: Any = None, language: str = "en") -> httpx2.Response:
        headers = user_headers(self.world, user_id, language)
        return self.world.client.request(method, f"{API}/{path}", json=body, headers=headers)

    def map_wechat(self, kind: str = "booked", template_id: str = TEMPLATE, **more: Any) -> httpx2.Response:
        body = {"template_id": template_id, "values": VALUES, "page": "pages/join/join?id={join_id}"} | more
        path = f"{API}/staff/wechat-templates/{kind}"
        return self.world.client.put(path, json=body, headers=self.world.staff())

    def allow(self, user_id: str, *template_ids: str, openid: str = "") -> httpx2.Response:
        """Let a user tap that they allow one more message of each template, and the client report it."""
        openid = openid or f"openid-{user_id}"
        code = new_id()
        self.wechat.codes[code] = openid
        for template_id in template_ids or (TEMPLATE,):
            self.wechat.grants[openid, template_id] += 1
        return self.ask("POST", "grants", user_id, {"code": code, "accepted": [*(template_ids or (TEMPLATE,))]})

    def confirm_email(self, user_id: str, email: str = "lin@example.com") -> None:
        """Let a user set an address and confirm it by the code that came."""
        assert self.ask("PUT", "me/email", user_id, {"email": email}).status_code == 202
        answer = self.ask("POST", "me/email/confirm", user_id, {"code": self.code()})
        assert answer.status_code == 200, answer.text
        self.mail.received.clear()
        self.mail.were_encrypted.clear()

    def code(self) -> str:
        """Return the code in the last mail."""
        found = re.search(r"\b\d{6}\b", self.mail.received[-1].get_content())
        assert found is not None
        return found[0]

    def tell(self, user_id: str, **differing: Any) -> Join:
        """Let a user be told that they have booked."""
        join = a_join(a_slot(), user_id=user_id, **differing)
        hear(self.world, join.booked())
        return join

    def channel(self, name: str, *, patience_s: float = PATIENCE_S) -> Channel[Any]:
        """Return a channel of a process of its own, with a patience of its own."""
        runtime = self.world.runtimes["notify"]
        known, settings = runtime.resources, runtime.settings
        if patience_s != PATIENCE_S:
            secret, url = settings.wechat_secret.get_secret_value(), settings.wechat_base_url
            wechat = WeChat(settings.wechat_appid, secret, base_url=url, timeout_s=patience_s)
            mail = replace(known.mail, timeout_s=patience_s)
            runtime = replace(runtime, resources=replace(known, wechat=wechat, mail=mail))
        [found] = [one for one in ways.channels(runtime) if one.name == name]
        return found

    def carry(self, channel: str, *, later: timedelta = timedelta(), patience_s: float = PATIENCE_S) -> int:
        """Send what is due at an instant, by a process of its own; return how many attempts that were."""
        return carry_all(self.world, self.channel(channel, patience_s=patience_s), clock=lambda: utcnow() + later)

    def delivery(self, user_id: str, channel: str) -> dict[str, Any]:
        [found] = self.deliveries(user_id=user_id, channel=channel)
        return found

    def deliveries(self, headers: dict[str, str] | None = None, **query: Any) -> list[dict[str, Any]]:
        path = f"{API}/staff/deliveries"
        answer = self.world.client.get(path, params=query, headers=headers or self.world.staff())
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def grants(self, user_id: str) -> dict[str, int]:
        return {row["template_id"]: row["left"] for row in rows(self.world, Grant, user_id=user_id)}

    def states(self) -> list[tuple[str, bool]]:
        with self.world.runtimes["notify"].db.transaction() as session:
            found = session.execute(
                select(Delivery.state, Delivery.possibly_twice).order_by(Delivery.state, Delivery.possibly_twice)
            )
            return [(state, twice) for state, twice in found]


class Providers:
    """WeChat and a mail server, while the block runs."""

    def __init__(self, mail: MailServer | None = None) -> None:
        self.wechat = WeChatServer()
        self.mail = mail or MailServer()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._url = stack.enter_context(self.wechat.running())
            self._port = stack.enter_context(self.mail.running())
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def settings(self) -> dict[str, Any]:
        """Return the settings by which a world finds them."""
        return {
            "wechat_appid": "wx-test",
            "wechat_secret": "a-wechat-secret",
            "wechat_base_url": self._url,
            "wechat_timeout_s": PATIENCE_S,
            "smtp_host": "localhost",
            "smtp_port": self._port,
            "smtp_security": "none",
            "smtp_timeout_s": PATIENCE_S,
            "mail_from": "notices@hallpass.example",
            "mail_rate": "1000/hour",
        }


@contextmanager
def a_town(make_world: MakeWorld, *, mail: MailServer | None = None, **settings: Any) -> Iterator[Town]:
    """Yield a world with WeChat and a mail server, while the block runs."""
    with Providers(mail) as providers:
        yield Town(make_world(**providers.settings() | settings), providers.wechat, providers.mail)
