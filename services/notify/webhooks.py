"""Webhooks: the addresses of integrators that are told of events, as staff make and edit them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Unpack

import httpx2
from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from libs.common import etags, pages, signatures
from libs.common.crypto import Sealer
from libs.common.errors import Conflict, Invalid, NotFound, Stale, Texts
from libs.common.ids import new_id
from libs.common.outward import Network, is_public, literal
from libs.contracts import audit
from libs.contracts.principals import Role, RoleForbids, Staff
from services.notify import copies, deliveries
from services.notify.models import Webhook

ACTIVE, DISABLED = "active", "disabled"
BY_STAFF = "by_staff"
MOST_OF_A_HALL = 20
NEWEST_FIRST = (pages.Key(Webhook.id, "id", descending=True),)


class HttpsNeeded(Invalid):
    code = "https_needed"
    texts = Texts(en="The address has to begin with https://.", zh="地址必须以 https:// 开头")


class AddressPrivate(Invalid):
    code = "address_private"
    texts = Texts(en="Webhooks are never sent to private addresses.", zh="不能向内网地址推送")


class TooManyWebhooks(Conflict):
    """Raised with `most`."""

    code = "too_many_webhooks"
    texts = Texts(
        en="There may be {most} webhooks here; delete one first.", zh="最多可设置{most}个推送地址，请先删除一个"
    )


class WebhookDisabled(Conflict):
    code = "webhook_disabled"
    texts = Texts(en="The webhook is disabled; make it active first.", zh="该推送地址已停用，请先启用")


@dataclass(frozen=True)
class Allowed:
    """Which addresses may be named: with `http` those without TLS, too, and private ones in the permitted networks."""

    http: bool
    permitted: Sequence[Network]

    def require(self, url: str) -> None:
        """Raise HttpsNeeded or AddressPrivate. What a name stands for is looked at each time it is called."""
        target = httpx2.URL(url)
        if target.scheme != "https" and not self.http:
            raise HttpsNeeded
        address = literal(target.host)
        if address is not None and not is_public(address) and not any(address in one for one in self.permitted):
            raise AddressPrivate


def page_of(
    session: Session, staff: Staff, *, hall_id: str | None, status: str | None, limit: int, cursor: str | None
) -> tuple[list[Webhook], str | None]:
    """Return a page of the webhooks within the scope of the account, newest first."""
    query = select(Webhook).where(staff.sees(Webhook.hall_id))
    if hall_id is not None:
        query = query.where(Webhook.hall_id == hall_id)
    if status is not None:
        query = query.where(Webhook.status == status)
    return pages.fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def seen(session: Session, staff: Staff, webhook_id: str) -> Webhook:
    """Return a webhook within the scope of the account, or raise NotFound."""
    return _one(session, _in_scope(staff, webhook_id))


def active(session: Session, staff: Staff, webhook_id: str) -> Webhook:
    """Return a webhook that is in use, kept from being deleted or disabled meanwhile; or raise WebhookDisabled."""
    found = _locked(session, staff, webhook_id, None)
    if found.status != ACTIVE:
        raise WebhookDisabled
    return found


def create(
    session: Session,
    sealer: Sealer,
    staff: Staff,
    hall_id: str | None,
    *,
    url: str,
    description: str,
    events: Sequence[str],
    allowed: Allowed,
    now: datetime,
) -> tuple[Webhook, str]:
    """Make a webhook, and return it with its secret; one for all halls takes a super admin, a foreign hall, or none, is NotFound."""
    if hall_id is not None:
        staff.require_hall(hall_id)
        copies.require_hall(session, hall_id)
    elif staff.role != Role.SUPER_ADMIN:
        raise RoleForbids(role=staff.role)
    allowed.require(url)
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("webhooks", 0))))  # nobody else is counting
    if _count(session, hall_id) >= MOST_OF_A_HALL:
        raise TooManyWebhooks(most=MOST_OF_A_HALL)
    secret, webhook_id = signatures.new_secret(), new_id()
    made = Webhook(
        id=webhook_id,
        hall_id=hall_id,
        url=url,
        description=description,
        events=sorted(events),
        status=ACTIVE,
        secret_sealed=sealer.seal(secret.encode(), about=_about(webhook_id)),
        failures=0,
        created_at=now,
        changed_at=now,
        version=1,
    )
    session.add(made)
    session.flush()
    _audit(session, staff, "webhook.created", made, after=_plain(made))
    return made, secret


def edit(
    session: Session,
    staff: Staff,
    webhook_id: str,
    values: dict[str, Any],
    *,
    allowed: Allowed,
    if_match: str | None,
    now: datetime,
) -> Webhook:
    """Change what differs. Another address, and who is made active, begins with a clean slate; disabling gives up what waits."""
    webhook = _locked(session, staff, webhook_id, if_match)
    before = _plain(webhook)
    if "events" in values:
        values["events"] = sorted(values["events"])
    differing = {name: value for name, value in values.items() if value != getattr(webhook, name)}
    if not differing:
        return webhook
    if "url" in differing:
        allowed.require(differing["url"])
    for name, value in differing.items():
        setattr(webhook, name, value)
    if differing.keys() & {"url", "status"}:
        webhook.failures, webhook.failing_since, webhook.rest_until, webhook.last_ms = 0, None, None, None
    if "status" in differing:
        webhook.disabled_reason = BY_STAFF if webhook.status == DISABLED else None
        if webhook.status == DISABLED:
            deliveries.give_up(session, webhook.id, now=now)
    webhook.version, webhook.changed_at = webhook.version + 1, now
    after = _plain(webhook)
    changed = {name for name in after if after[name] != before[name]} | ({"url"} & differing.keys())
    _audit(
        session,
        staff,
        "webhook.changed",
        webhook,
        before={name: before[name] for name in changed},
        after={name: after[name] for name in changed},
    )
    session.flush()
    return webhook


def remove(session: Session, staff: Staff, webhook_id: str, *, if_match: str | None) -> None:
    """Delete a webhook with all that was sent to it; the audit trail keeps that there was one.

    It can meet a delivery that is just being recorded in a deadlock, and is then to be tried again.
    """
    webhook = _locked(session, staff, webhook_id, if_match)
    before = _plain(webhook)
    _audit(session, staff, "webhook.deleted", webhook, before=before)
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))


def rotate(
    session: Session, sealer: Sealer, staff: Staff, webhook_id: str, *, overlap: timedelta, now: datetime
) -> tuple[Webhook, str]:
    """Give a webhook another secret, and return it; the one before signs beside it for as long as the overlap."""
    webhook = _locked(session, staff, webhook_id, None)
    secret = signatures.new_secret()
    webhook.old_secret_sealed = webhook.secret_sealed if overlap else None
    webhook.old_secret_until = now + overlap if overlap else None
    webhook.secret_sealed = sealer.seal(secret.encode(), about=_about(webhook.id))
    webhook.version, webhook.changed_at = webhook.version + 1, now
    session.flush()
    until = webhook.old_secret_until.isoformat() if webhook.old_secret_until else None
    _audit(session, staff, "webhook.secret_rotated", webhook, after={"old_secret_until": until})
    return webhook, secret


def secrets(sealer: Sealer, webhook: Webhook, *, now: datetime) -> list[str]:
    """Return the secrets that sign what the webhook is sent now, the newest first."""
    sealed = [webhook.secret_sealed]
    if webhook.old_secret_sealed and webhook.old_secret_until and webhook.old_secret_until > now:
        sealed.append(webhook.old_secret_sealed)
    return [sealer.open(one, about=_about(webhook.id)).decode() for one in sealed]


def disable(session: Session, webhook: Webhook, reason: Literal["gone", "failing"], *, now: datetime) -> None:
    """Send a locked webhook nothing any more, and give up what waits for it; the audit trail says why."""
    webhook.status, webhook.disabled_reason = DISABLED, reason
    webhook.version, webhook.changed_at = webhook.version + 1, now
    deliveries.give_up(session, webhook.id, now=now)
    _audit(session, _HALLPASS, "webhook.disabled", webhook, after={"status": DISABLED, "disabled_reason": reason})


# Nobody who has an account did it.
_HALLPASS = Staff(id="hallpass", name="hallpass", role=Role.SUPER_ADMIN, halls=None, session_id="")


def _about(webhook_id: str) -> str:
    return f"webhook:{webhook_id}"


def _count(session: Session, hall_id: str | None) -> int:
    of_hall = Webhook.hall_id.is_(None) if hall_id is None else Webhook.hall_id == hall_id
    return session.scalar(select(func.count()).select_from(Webhook).where(of_hall)) or 0


def _in_scope(staff: Staff, webhook_id: str) -> Select[Any]:
    return select(Webhook).where(Webhook.id == webhook_id, staff.sees(Webhook.hall_id))


def _one(session: Session, query: Select[Any]) -> Webhook:
    found: Webhook | None = session.scalars(query, execution_options={"populate_existing": True}).first()
    if found is None:
        raise NotFound
    return found


def _locked(session: Session, staff: Staff, webhook_id: str, if_match: str | None) -> Webhook:
    present = _one(session, _in_scope(staff, webhook_id).with_for_update(key_share=True))
    if if_match is not None and not etags.matches(if_match, etags.of(present)):
        raise Stale
    return present


def _plain(webhook: Webhook) -> dict[str, Any]:
    """What the audit trail keeps. Path and query of an address are often a secret of its owner."""
    target = httpx2.URL(webhook.url)
    return {
        "url": f"{target.scheme}://{target.netloc.decode()}",
        "description": webhook.description,
        "events": webhook.events,
        "status": webhook.status,
    }


def _audit(session: Session, staff: Staff, action: str, webhook: Webhook, **details: Unpack[audit.Details]) -> None:
    audit.record(
        session, staff, action, object_type="webhook", object_id=webhook.id, hall_id=webhook.hall_id, **details
    )
