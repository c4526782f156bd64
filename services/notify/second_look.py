"""The second look: whether a notice that has waited is still to be sent now."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notify import news, policy, recipients, reminders
from services.notify.channel import Told
from services.notify.models import AWAITED, Announcement, EndedWait, Hall, Item, JoinRecord, Recipient, SlotStat
from services.notify.policy import Present
from services.notify.texts import NoticeKind


def objection(session: Session, told: Told, channel: str, *, now: datetime) -> str | None:
    """Return why a notice is not to go out by this channel any more, or None: it is."""
    return policy.objection(told.kind, _present(session, told, channel, now))


def note_ended(session: Session, wait_ids: Iterable[str], *, now: datetime) -> None:
    """Take note that parties wait no more: what was offered to them is told to nobody from now on, should it be heard late."""
    rows = [{"wait_id": wait_id, "ended_at": now} for wait_id in sorted(set(wait_ids))]
    if rows:
        session.execute(insert(EndedWait).on_conflict_do_nothing(), rows)


def forget(session: Session, *, before: datetime) -> None:
    """Forget waits that had ended by then."""
    session.execute(delete(EndedWait).where(EndedWait.ended_at < before))


def _present(session: Session, told: Told, channel: str, now: datetime) -> Present:
    is_wanted = _is_wanted(session, told, channel)
    match told.kind:
        case NoticeKind.REMINDER:
            return Present(is_wanted, is_expected=_is_expected(session, told))
        case NoticeKind.ANNOUNCEMENT:
            return Present(is_wanted, is_out=_is_out(session, told, now))
        case NoticeKind.WAITING_OFFERED:
            return Present(is_wanted, has_ended=_has_ended(session, told))
        case _:
            return Present(is_wanted)


def _is_wanted(session: Session, told: Told, channel: str) -> bool:
    recipient = session.get(Recipient, told.user_id)
    return recipient is None or recipients.wants(recipient, told.kind, channel)


def _is_expected(session: Session, told: Told) -> bool:
    """Whether the user of a reminder, by any of their joins, is awaited in its slot when it says, and nothing is closed."""
    slot_id, starts_at, _ = told.action_id.split()
    awaited = (
        select(JoinRecord.join_id)
        .outerjoin(SlotStat, SlotStat.slot_id == JoinRecord.slot_id)
        .join(Item, Item.id == JoinRecord.item_id)
        .join(Hall, Hall.id == JoinRecord.hall_id)
        .where(
            JoinRecord.slot_id == slot_id,
            JoinRecord.user_id == told.user_id,
            JoinRecord.starts_at == datetime.fromisoformat(starts_at),
            reminders.IS_OPEN,
            *AWAITED,
        )
    )
    return session.scalar(select(awaited.exists())) is True


def _is_out(session: Session, told: Told, now: datetime) -> bool:
    found = select(Announcement.id).where(Announcement.id == told.action_id, *news.is_out(now))
    return session.scalar(found) is not None


def _has_ended(session: Session, told: Told) -> bool:
    return session.get(EndedWait, told.action_id) is not None
