"""Mail by SMTP: one message in one conversation, with one deadline for all of it."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponseException

from libs.common.logs import logger

log = logger(__name__)

Security = Literal["starttls", "tls", "none"]

# What a server of ours takes for an address: no quotes, comments or control characters, so that it can't be two; no "?", so
# that nothing in it can be an encoded word, which headers would say as another address. Domains of other scripts (.中国) are
# spelled as DNS has them: xn--….
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ADDRESS = (
    r"^[A-Za-z0-9!#$%&'*+/=^_`{|}~.-]{1,64}"
    rf"@(?:{_LABEL}\.)+(?:[A-Za-z]{{2,63}}|[Xx][Nn]--[A-Za-z0-9-]{{0,58}}[A-Za-z0-9])$"
)
LONGEST_ADDRESS = 254
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True)
class Server:
    """A mail server, and how to talk to it. `timeout_s` is for a whole conversation."""

    host: str
    port: int
    security: Security
    user: str
    password: str
    sender: str
    timeout_s: float


@dataclass(frozen=True)
class Mail:
    to: str
    subject: str
    body: str
    id: str
    written_at: datetime


class MailRefused(Exception):
    """The server will not take the mail: for good, or (`for_now`) not at this time. `said` holds no address."""

    def __init__(self, said: str, *, for_now: bool) -> None:
        super().__init__(said)
        self.said = said
        self.for_now = for_now


class MailSilent(Exception):
    """The server did not answer to its end. `surely_unsent`: it was not given the message by then."""

    def __init__(self, what: str, *, surely_unsent: bool) -> None:
        super().__init__(what)
        self.surely_unsent = surely_unsent


def send(server: Server, mail: Mail) -> str:
    """Hand a mail to the server and return what it said to that. Raises MailRefused or MailSilent."""
    talk = _Talk(server, mail)
    try:
        return asyncio.run(asyncio.wait_for(talk.over(), server.timeout_s))
    except (SMTPException, OSError, TimeoutError, ValueError) as error:
        if isinstance(error, SMTPResponseException) and 400 <= error.code < 600:
            said = talk.masked(f"{error.code} {error.message}")
            raise MailRefused(said, for_now=not talk.is_about_mail or error.code < 500) from None
        # Other codes are no refusals, nor is what can't be read: once it has the message, the server may have taken it.
        kind = type(error).__name__
        log.warning("the mail server does not answer", error=kind, written=talk.is_written)
        raise MailSilent(kind, surely_unsent=not talk.is_written) from None


class _Resolver(ThreadPoolExecutor):
    """Where the server's name is looked up; nobody waits for a lookup that outlasts the conversation."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)


class _Talk:
    """One conversation, and how far it has come."""

    def __init__(self, server: Server, mail: Mail) -> None:
        self._server = server
        self._mail = mail
        self.is_about_mail = False  # signed in, and known as the sender: from here on a refusal is about this mail
        self.is_written = False

    async def over(self) -> str:
        server, mail = self._server, self._mail
        asyncio.get_running_loop().set_default_executor(_Resolver(1, "resolver"))  # its own is waited for at the end
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            username=server.user or None,
            password=server.password or None,
            timeout=server.timeout_s,
        )
        try:
            await client.connect()
            await client.mail(server.sender)
            self.is_about_mail = True
            await client.rcpt(mail.to)
            self.is_written = True  # from here on nobody knows, should the connection be lost
            response = await client.data(_rendered(server, mail))
            return self.masked(response.message)
        finally:
            client.close()

    def masked(self, said: str) -> str:
        to, name = re.escape(self._mail.to), re.escape(self._mail.to.partition("@")[0])
        without = re.sub(rf"{to}|(?<!\w){name}(?!\w)", "…", said, flags=re.IGNORECASE)  # servers write it as they like
        return " ".join(_CONTROL.sub(" ", without).split())[:300]


def _rendered(server: Server, mail: Mail) -> bytes:
    """The message as it is written: no part of it can add a header, a recipient or an end."""
    message = EmailMessage(policy=SMTP)
    message["From"] = server.sender
    message["To"] = mail.to
    message["Subject"] = " ".join(_CONTROL.sub(" ", mail.subject).split())
    message["Date"] = format_datetime(mail.written_at)
    message["Message-ID"] = f"<{mail.id}@{server.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body, charset="utf-8", cte="base64")
    return message.as_bytes()
