"""The ways by which notices leave the house: which there are, and which notice is wanted by which."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy.orm import Session

from libs.common.service import Runtime
from services.notify import recipients
from services.notify.channel import Channel, Off, Told, Wanted
from services.notify.channels import email, sms, webhook, wechat
from services.notify.models import Recipient


class Way(Protocol):
    """A module of `channels`, whose name is in the deliveries."""

    NAME: str

    def wanted(self, session: Session, told: Sequence[Told], by_user: Mapping[str, Recipient]) -> Iterable[Wanted]:
        """Say which of these new notices are to go this way; how users are reached is at hand, where they said."""
        ...

    def channel(self, runtime: Runtime) -> Channel[Any] | None:
        """Return the channel by its settings, or None where it has none."""
        ...


WAYS: tuple[Way, ...] = (wechat, email, sms, webhook)


def wanted(session: Session, told: Sequence[Told]) -> list[Wanted]:
    """Return by which ways these new notices are to go out, besides lying in their users' inboxes."""
    by_user = recipients.known(session, {one.user_id for one in told})
    return [one for way in WAYS for one in way.wanted(session, told, by_user)]


def channels(runtime: Runtime) -> list[Channel[Any]]:
    """Return the channel of every way; those without settings end what was queued while they had some."""
    return [way.channel(runtime) or Off(way.NAME) for way in WAYS]
