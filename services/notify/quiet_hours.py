"""Quiet hours: what leaves the house waits until those of its hall are over, unless it would be of no use by then."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.contracts.catalog import QuietHours
from services.notify import policy
from services.notify.channel import Wanted
from services.notify.models import Hall
from services.notify.texts import NoticeKind

PASSING = {NoticeKind.REMINDER, NoticeKind.WAITING_OFFERED}  # what is told too late is not told at all


def respected(
    session: Session, wanted: Iterable[Wanted], visited: Mapping[str, str | None], *, now: datetime
) -> list[Wanted]:
    """Return when these new notices are to go out: by the hours of their halls, or of those that users of others have visited.

    A reminder is good for nothing when its slot has started, an offer when it is over.
    """
    wanted = list(wanted)
    if not wanted:
        return []
    of_notices = {one.told.id: one.told.hall_id or visited.get(one.told.user_id) for one in wanted}
    hall_ids = set(of_notices.values()) - {None}
    halls = {hall.id: hall for hall in session.scalars(select(Hall).where(Hall.id.in_(hall_ids)))}
    return [_timed(one, halls.get(of_notices[one.told.id] or ""), now) for one in wanted]


def _timed(wanted: Wanted, hall: Hall | None, now: datetime) -> Wanted:
    if hall is None:
        return wanted
    useful_until = policy.useful_until(wanted.told.params, hall.timezone, now=now)
    quiet = None if hall.quiet_hours is None else QuietHours.model_validate(hall.quiet_hours)
    due_at = policy.send_at(wanted.due_at or now, quiet, hall.timezone, useful_until)
    good_until = useful_until if wanted.told.kind in PASSING else wanted.good_until
    return replace(wanted, due_at=due_at, good_until=good_until)
