"""Standings: what the visits that users have missed come to at a hall that minds them.

Nothing is kept of it: it follows from the joins and from the hall's policy as they are, so that whatever mends a join, or
changes the policy, has mended the standing.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime

from sqlalchemy import ColumnElement, all_, and_, exists, select, tuple_
from sqlalchemy.orm import Session, aliased

from libs.common.errors import NotFound
from libs.contracts.booking import JoinStatus
from libs.contracts.catalog import MissedPolicy
from services.booking import policy
from services.booking.models import Hall, Join, Slot
from services.booking.policy import Standing
from services.booking.rows import HallRow

_came = aliased(Join)
# A visit is a party's in a slot. It was missed where nobody of the party came.
_where_they_came = select(_came.slot_id).where(_came.party_id == Join.party_id, _came.checked_in_at.is_not(None))
MISSED = and_(
    Join.status == JoinStatus.BOOKED,
    Join.missed_at.is_not(None),
    Join.slot_id != all_(_where_they_came.correlate(Join).scalar_subquery()),
)
COUNTS = and_(MISSED, Join.forgiven_at.is_(None))  # what `statements.MISSED` says, too


def weighed(hall: Hall | HallRow, missed: Iterable[date], *, now: datetime) -> Standing | None:
    """Weigh the visits missed at the hall, each by its date; None where it does not mind them."""
    if hall.missed_policy is None:
        return None
    minded = MissedPolicy.model_validate(hall.missed_policy)
    return policy.standing(missed, minded, hall.timezone, now=now)


def at(session: Session, user_id: str, hall: Hall | HallRow, *, now: datetime) -> Standing | None:
    """Return the user's standing at the hall, None where it does not mind what is missed."""
    if hall.missed_policy is None:
        return None
    return weighed(hall, _missed(session, [(user_id, hall.id)])[user_id, hall.id], now=now)


def of_user(
    session: Session, user_id: str, scope: ColumnElement[bool], *, hall_id: str | None, now: datetime
) -> list[tuple[Hall, Standing]]:
    """Return the user's standing at each hall within the scope that minds what is missed and where they have ever booked.

    Or at the one that is named, whether or not they have; raise NotFound where it is not within the scope.
    """
    chosen = exists().where(Join.user_id == user_id, Join.hall_id == Hall.id) if hall_id is None else Hall.id == hall_id
    halls = session.scalars(select(Hall).where(scope, chosen).order_by(Hall.id)).all()
    if hall_id is not None and not halls:
        raise NotFound
    missed = _missed(session, [(user_id, hall.id) for hall in halls if hall.missed_policy is not None])
    found = [(hall, weighed(hall, missed[user_id, hall.id], now=now)) for hall in halls]
    return [(hall, standing) for hall, standing in found if standing is not None]


def pauses(session: Session, joins: Iterable[Join], *, now: datetime) -> dict[tuple[str, str], datetime]:
    """Return until when those who made the joins cool off at the joins' halls, by user and hall; who does not is left out."""
    pairs = {(join.user_id, join.hall_id) for join in joins}
    minding = and_(Hall.id.in_({hall_id for _, hall_id in pairs}), Hall.missed_policy.is_not(None))
    halls = {hall.id: hall for hall in session.scalars(select(Hall).where(minding))}
    missed = _missed(session, [pair for pair in pairs if pair[1] in halls])
    found = {pair: weighed(halls[pair[1]], days, now=now) for pair, days in missed.items()}
    return {pair: one.cooling_off_until for pair, one in found.items() if one and one.cooling_off_until}


def visit(join: Join) -> ColumnElement[bool]:
    """Return the condition that a join is of the same visit."""
    return and_(Join.party_id == join.party_id, Join.slot_id == join.slot_id)


def _missed(session: Session, pairs: list[tuple[str, str]]) -> defaultdict[tuple[str, str], list[date]]:
    """Return the dates of the visits that count, by user and hall."""
    found: defaultdict[tuple[str, str], list[date]] = defaultdict(list)
    if pairs:
        query = (
            select(Join.user_id, Join.hall_id, Join.party_id, Join.slot_id, Slot.date)
            .distinct()
            .join(Slot, Slot.id == Join.slot_id)
            .where(COUNTS, tuple_(Join.user_id, Join.hall_id).in_(pairs))
        )
        for user_id, hall_id, _, _, day in session.execute(query):
            found[user_id, hall_id].append(day)
    return found
