"""Text messages: notices to the mobile number that a user has confirmed, by templates that the provider has registered."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.crypto import Sealer
from libs.common.errors import Language
from libs.common.service import Runtime
from services.notify import recipients, sms_budget, texts
from services.notify.channel import Delivering, Told, Wanted
from services.notify.models import Recipient
from services.notify.outcomes import Later, Nothing, Outcome, Refused
from services.notify.sms import Provider, Sms
from services.notify.sms_budget import Budget

NAME = "sms"
CODE = "code"  # the template that confirms numbers

Templates = Mapping[str, str | Mapping[Language, str]]


class SmsChannel:
    """Sends a message under the id of its delivery, so that the bridge knows a repetition. What it costs is counted first.

    A message counts once, however often it is tried; one that was surely not sent does not.
    """

    name = NAME
    at_once = 4

    def __init__(self, provider: Provider, templates: Templates, budget: Budget, sealer: Sealer) -> None:
        self._provider = provider
        self._templates = templates
        self._budget = budget
        self._sealer = sealer
        self.longest_s = provider.longest_s

    def prepare(self, session: Session, delivering: Delivering) -> Sms | Refused | Nothing:
        told = delivering.told
        recipient = session.get(Recipient, told.user_id)
        to = "" if recipient is None else recipients.phone_of(self._sealer, recipient)
        if recipient is None or not to:
            return Refused("nobody to send it to")
        language = recipients.language_of(recipient)
        template = template_of(self._templates, told.kind, language)
        if template is None:
            return Nothing()
        spent = sms_budget.spend(session, self._budget, delivering.id, told.user_id, to, is_code=False, now=utcnow())
        if spent is not None:
            return Refused(f"too many {spent.limit} within 24 hours")
        params = texts.words(told.params, people=told.people, language=language)
        return Sms(id=delivering.id, to=to, template=template, params=params, language=language)

    def send(self, letter: Sms) -> Outcome:
        return self._provider.send(letter)

    def settle(self, session: Session, delivering: Delivering, letter: Sms, outcome: Outcome) -> None:
        """Give back what a message would have cost that was not sent; one that may have been stays spent."""
        if isinstance(outcome, (Later, Refused)) and not delivering.possibly_twice:
            sms_budget.give_back(session, delivering.id)


def template_of(templates: Templates, kind: str, language: Language) -> str | None:
    """Return the provider's id of the template for a kind of notice, in the language or in the one that there is."""
    found = templates.get(kind)
    if found is None or isinstance(found, str):
        return found
    return found.get(language) or next(iter(found.values()), None)


def channel(runtime: Runtime) -> SmsChannel | None:
    texting = runtime.resources.texting
    if texting is None:
        return None
    return SmsChannel(texting.provider, texting.templates, texting.budget, runtime.resources.sealer)


def wanted(session: Session, told: Sequence[Told], by_user: Mapping[str, Recipient]) -> Iterable[Wanted]:
    """Notices to users who have confirmed a number; for kinds without a template there is nothing to send after all."""
    wanting = recipients.who_want(told, NAME, by_user, lambda row: row.phone_sealed)
    return [Wanted(one, NAME) for one in wanting]
