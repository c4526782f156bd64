"""E-mail: notices to the address that a user has confirmed."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from libs.common import mail
from libs.common.crypto import Sealer
from libs.common.mail import Mail, MailRefused, MailSilent, Server
from libs.common.service import Runtime
from services.notify import recipients, templates
from services.notify.channel import Delivering, Told, Wanted
from services.notify.models import Recipient
from services.notify.outcomes import Later, Outcome, Refused, Sent, Unknown
from services.notify.texts import NoticeKind

NAME = "email"


class EmailChannel:
    """Sends plain text; the id of a message is that of its delivery, so that a second copy is known as one."""

    name = NAME
    at_once = 4

    def __init__(self, server: Server, sealer: Sealer) -> None:
        self._server = server
        self._sealer = sealer
        self.longest_s = server.timeout_s + 1

    def prepare(self, session: Session, delivering: Delivering) -> Mail | Refused:
        told = delivering.told
        recipient = session.get(Recipient, told.user_id)
        to = "" if recipient is None else recipients.email_of(self._sealer, recipient)
        if recipient is None or not to:
            return Refused("nobody to send it to")
        book = templates.book(session, {told.hall_id})
        language = recipients.language_of(recipient)
        title, body = book.render(
            NoticeKind(told.kind), told.hall_id, told.params, people=told.people, language=language
        )
        return Mail(to=to, subject=title, body=body, id=delivering.id, written_at=told.happened_at)

    def send(self, letter: Mail) -> Outcome:
        return handed_over(self._server, letter)

    def settle(self, session: Session, delivering: Delivering, letter: Mail, outcome: Outcome) -> None:
        """Mail uses nothing up."""


def handed_over(server: Server, letter: Mail) -> Outcome:
    """Send a mail and say how that ended."""
    try:
        return Sent(mail.send(server, letter))
    except MailRefused as refusal:
        return Later(refusal.said) if refusal.for_now else Refused(refusal.said)
    except MailSilent as silence:
        said = f"no answer ({silence})"
        return Later(said) if silence.surely_unsent else Unknown(said)


def channel(runtime: Runtime) -> EmailChannel | None:
    server: Server | None = runtime.resources.mail
    return None if server is None else EmailChannel(server, runtime.resources.sealer)


def wanted(session: Session, told: Sequence[Told], by_user: Mapping[str, Recipient]) -> Iterable[Wanted]:
    """Notices to users who have confirmed an address."""
    wanting = recipients.who_want(told, NAME, by_user, lambda row: row.email_sealed)
    return [Wanted(one, NAME) for one in wanting]
