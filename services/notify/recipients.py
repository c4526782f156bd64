"""Recipients: how each user wants to be reached outside the inbox, and may be."""

import hmac
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.errors import Language, Unauthenticated
from services.notify.channel import Told
from services.notify.errors import NothingToConfirm
from services.notify.models import ErasedUser, Grant, Recipient, Unconfirmed

CODE_GOOD_FOR = timedelta(minutes=15)
WRONG_CODES = 5
MOST_GRANTS = 100  # of one template and user: more than anybody taps

Choices = dict[str, list[str]]
Way = Literal["email", "phone"]
_COLUMNS: dict[Way, str] = {"email": "email_sealed", "phone": "phone_sealed"}


@dataclass(frozen=True)
class Reachable:
    """What a user has said about being reached; addresses in clear, empty where there is none."""

    language: Language = "zh"
    choices: Choices = field(default_factory=dict)
    email: str = ""
    unconfirmed_email: str = ""
    phone: str = ""
    unconfirmed_phone: str = ""
    wechat: bool = False
    grants: dict[str, int] = field(default_factory=dict)


def of(session: Session, sealer: Sealer, user_id: str, *, now: datetime) -> Reachable:
    """Return what is known of a user; who never said anything is reached by nothing."""
    row = session.get(Recipient, user_id)
    if row is None:
        return Reachable()
    grants = session.scalars(select(Grant).where(Grant.user_id == user_id, Grant.left > 0))
    return Reachable(
        language=language_of(row),
        choices=row.choices,
        email=email_of(sealer, row),
        unconfirmed_email=_waiting(session, sealer, user_id, "email", now)[0],
        phone=phone_of(sealer, row),
        unconfirmed_phone=_waiting(session, sealer, user_id, "phone", now)[0],
        wechat=row.openid_sealed is not None,
        grants={grant.template_id: grant.left for grant in grants},
    )


def choose(session: Session, user_id: str, *, language: Language | None, choices: Choices | None) -> None:
    """Change the language of messages, or the channels for some kinds of notices; None leaves it."""
    row = _own(session, user_id)
    if language is not None:
        row.language = language
    if choices is not None:
        row.choices = row.choices | choices


def set_address(
    session: Session, sealer: Sealer, user_id: str, way: Way, address: str, *, language: Language, now: datetime
) -> str:
    """Keep an address until its owner confirms it; return the code that proves that what is sent there is read."""
    _own(session, user_id, language)
    code = f"{secrets.randbelow(10**6):06d}"
    waiting = {
        "sealed": sealer.seal(json.dumps([address, code]).encode(), about=f"unconfirmed {way}:{user_id}"),
        "until": now + CODE_GOOD_FOR,
        "wrong_codes": 0,
    }
    session.execute(
        insert(Unconfirmed)
        .values(user_id=user_id, way=way, **waiting)
        .on_conflict_do_update(index_elements=["user_id", "way"], set_=waiting)
    )
    return code


def confirm_address(session: Session, sealer: Sealer, user_id: str, way: Way, code: str, *, now: datetime) -> bool:
    """Let notices go to the address that the code was sent to; False for a wrong code, of which five are too many."""
    row = _own(session, user_id)
    address, expected = _waiting(session, sealer, user_id, way, now)
    if not expected:
        raise NothingToConfirm
    waiting = session.get_one(Unconfirmed, (user_id, way))
    if not hmac.compare_digest(code.encode(), expected.encode()):
        waiting.wrong_codes += 1
        return False
    setattr(row, _COLUMNS[way], sealer.seal(address.encode(), about=f"{way}:{user_id}"))
    session.delete(waiting)
    return True


def remove_address(session: Session, user_id: str, way: Way) -> None:
    """Forget the user's address of this kind, and one that waits to be confirmed."""
    row = _own(session, user_id)
    setattr(row, _COLUMNS[way], None)
    session.execute(delete(Unconfirmed).where(Unconfirmed.user_id == user_id, Unconfirmed.way == way))


def grant(
    session: Session, sealer: Sealer, user_id: str, openid: str, template_ids: Iterable[str], *, language: Language
) -> None:
    """Note who the user is at WeChat, and that they allow one more message of each of these templates."""
    row = _own(session, user_id, language)
    row.openid_sealed = sealer.seal(openid.encode(), about=f"openid:{user_id}")
    for template_id in sorted(template_ids):
        made = insert(Grant).values(user_id=user_id, template_id=template_id, left=1)
        more = {"left": Grant.left + 1}
        session.execute(
            made.on_conflict_do_update(
                index_elements=["user_id", "template_id"], set_=more, where=Grant.left < MOST_GRANTS
            )
        )


def erase(session: Session, user_id: str) -> None:
    """Forget how the user was reached, for good: `ErasedUser` is written by then, in this transaction."""
    _lock(session, user_id)
    session.execute(delete(Grant).where(Grant.user_id == user_id))
    session.execute(delete(Unconfirmed).where(Unconfirmed.user_id == user_id))
    session.execute(delete(Recipient).where(Recipient.user_id == user_id))


# --- what channels ask ---


def email_of(sealer: Sealer, row: Recipient) -> str:
    return _opened(sealer, row.email_sealed, f"email:{row.user_id}")


def phone_of(sealer: Sealer, row: Recipient) -> str:
    return _opened(sealer, row.phone_sealed, f"phone:{row.user_id}")


def openid_of(sealer: Sealer, row: Recipient) -> str:
    return _opened(sealer, row.openid_sealed, f"openid:{row.user_id}")


def language_of(row: Recipient) -> Language:
    return "en" if row.language == "en" else "zh"


def wants(row: Recipient, kind: str, channel: str) -> bool:
    """Whether the user wants notices of this kind by this channel: all of them, unless they chose."""
    return channel in row.choices.get(kind, [channel])


def known(session: Session, user_ids: Iterable[str]) -> dict[str, Recipient]:
    """Return how these users are reached, those of them who have said so."""
    return {row.user_id: row for row in session.scalars(select(Recipient).where(Recipient.user_id.in_(user_ids)))}


def who_want(
    told: Sequence[Told], channel: str, by_user: Mapping[str, Recipient], address: Callable[[Recipient], bytes | None]
) -> list[Told]:
    """Return which of these notices go to users who have such an address and want them by this channel."""
    return [
        one
        for one in told
        if (row := by_user.get(one.user_id)) and address(row) is not None and wants(row, one.kind, channel)
    ]


def _own(session: Session, user_id: str, language: Language | None = None) -> Recipient:
    """Lock what is known of a user, made where there was nothing; nothing is kept of who was erased."""
    _lock(session, user_id)
    if session.get(ErasedUser, user_id) is not None:
        raise Unauthenticated
    session.execute(insert(Recipient).values(user_id=user_id, language=language or "zh").on_conflict_do_nothing())
    return session.get_one(Recipient, user_id, populate_existing=True)


def _lock(session: Session, user_id: str) -> None:
    """Let nobody write about a user while they are erased: a row that is just being made can't be locked itself."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"recipient:{user_id}", 0))))


def _opened(sealer: Sealer, sealed: bytes | None, about: str) -> str:
    return "" if sealed is None else sealer.open(sealed, about=about).decode()


def _waiting(session: Session, sealer: Sealer, user_id: str, way: Way, now: datetime) -> tuple[str, str]:
    """Return the address that waits to be confirmed, and its code; both empty where none does any more."""
    row = session.get(Unconfirmed, (user_id, way), populate_existing=True)
    if row is None or row.until < now or row.wrong_codes >= WRONG_CODES:
        return "", ""
    address, code = json.loads(sealer.open(row.sealed, about=f"unconfirmed {way}:{user_id}"))
    return address, code
