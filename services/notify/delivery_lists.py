"""Deliveries as staff see them: those of notices of their halls."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common import pages
from libs.contracts.principals import Staff
from services.notify.models import Delivery, JoinRecord, Notice

NEWEST_FIRST = (pages.Key(Delivery.id, "id", descending=True),)


@dataclass(frozen=True)
class Filter:
    notice_id: str | None = None
    join_id: str | None = None
    user_id: str | None = None
    hall_id: str | None = None
    channel: str | None = None
    state: str | None = None


def page_of(
    session: Session, staff: Staff, wanted: Filter, *, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """Return a page of (delivery, its notice), newest first."""
    query = select(Delivery, Notice).join(Notice, Notice.id == Delivery.notice_id).where(staff.sees(Delivery.hall_id))
    if wanted.join_id is not None:
        # Who books for several is told once, about one of the joins.
        party = select(JoinRecord.party_id).where(JoinRecord.join_id == wanted.join_id).scalar_subquery()
        query = query.where(Notice.party_id == party)
    same = {
        Delivery.notice_id: wanted.notice_id,
        Notice.user_id: wanted.user_id,
        Delivery.hall_id: wanted.hall_id,
        Delivery.channel: wanted.channel,
        Delivery.state: wanted.state,
    }
    for column, value in same.items():
        if value is not None:
            query = query.where(column == value)
    return pages.fetch(session, query, keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def plain(delivery: Delivery, notice: Notice) -> dict[str, Any]:
    """Return what staff may see: no address, and nothing that the notice says."""
    return {
        "id": delivery.id,
        "notice_id": notice.id,
        "kind": notice.kind,
        "user_id": notice.user_id,
        "join_id": notice.join_id,
        "hall_id": notice.hall_id,
        "channel": delivery.channel,
        "target": delivery.target,
        "state": delivery.state,
        "possibly_twice": delivery.possibly_twice,
        "attempts": delivery.attempts,
        "answer": delivery.answer,
        "provider_id": delivery.provider_id,
        "queued_at": delivery.queued_at,
        "due_at": delivery.due_at,
        "ended_at": delivery.ended_at,
    }
