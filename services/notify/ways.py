"""The ways by which notices leave the house: which there are, and which notice is wanted by which."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy.orm import Session

from libs.common.service import Runtime
from services.notify.channel import Channel, Off, Told, Wanted
from services.notify.channels import email, sms, webhook, wechat


class Way(Protocol):
    """A module of `channels`, whose name is in the deliveries."""

    NAME: str

    def wanted(self, session: Session, told: Sequence[Told]) -> Iterable[Wanted]:
        """Say which of these new notices are to go this way, with as few queries as there are tables to look at."""
        ...

    def channel(self, runtime: Runtime) -> Channel[Any] | None:
        """Return the channel by its settings, or None where it has none."""
        ...


WAYS: tuple[Way, ...] = (wechat, email, sms, webhook)


def wanted(session: Session, told: Sequence[Told]) -> list[Wanted]:
    """Return by which ways these new notices are to go out, besides lying in their users' inboxes."""
    return [one for way in WAYS for one in way.wanted(session, told)]


def channels(runtime: Runtime) -> list[Channel[Any]]:
    """Return the channel of every way; those without settings end what was queued while they had some."""
    return [way.channel(runtime) or Off(way.NAME) for way in WAYS]
