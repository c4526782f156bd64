"""Check-ins: an attendee arrives, at most once; by staff from a code, or by the user from the hall's screen."""

import hmac
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError
from libs.common.ids import parse_id
from libs.contracts.booking import JoinCheckedIn, JoinCheckInUndone, JoinStatus
from services.booking import errors, events, inventory, offers, policy, users
from services.booking.models import Join, Slot
from services.booking.offers import Offered
from services.booking.policy import Place

DOOR_PERIOD_S = 30


def check_in(
    session: Session, join_ids: list[str], *, now: datetime, override: bool = False
) -> list[tuple[Offered, Join]]:
    """Check these attendees in, all or none; raise why the first of them can't be."""
    joins = _locked(session, join_ids)
    offered = offers.of_joins(session, {join.slot_id for join in joins})
    for join in joins:
        policy.may_check_in(_place(join), offered[join.slot_id].offer, now=now, override=override)
    return _mark(session, joins, offered, now=now)


def party_of(session: Session, join: Join, *, now: datetime, override: bool) -> list[str]:
    """Return who of the same party and slot can be checked in now, or this join alone where nobody can.

    A join that was given back lets nobody in, its companions included: they have codes of their own.
    """
    if join.status != JoinStatus.BOOKED:
        return [join.id]
    return ready_of(session, join, now=now, override=override) or [join.id]


def ready_of(session: Session, join: Join, *, now: datetime, override: bool = False) -> list[str]:
    """Return who of the same party and slot can be checked in now."""
    others = session.scalars(
        select(Join).where(Join.party_id == join.party_id).where(Join.slot_id == join.slot_id).order_by(Join.id)
    ).all()
    offer = offers.of_joins(session, {join.slot_id})[join.slot_id].offer
    return [other.id for other in others if _is_ready(_place(other), offer, now=now, override=override)]


def undo(session: Session, join_id: str) -> tuple[datetime, Join]:
    """Take a check-in back, or raise NotCheckedIn; return when it was, and the join."""
    [join] = _locked(session, [join_id])
    checked_in_at = join.checked_in_at
    if checked_in_at is None:
        raise errors.NotCheckedIn
    offered = offers.of_joins(session, {join.slot_id})[join.slot_id]
    _set(session, [join], None)
    changed = [(join, offered, inventory.current(offered.slot))]
    outbox.record(session, *events.of_action(JoinCheckInUndone, changed))
    return checked_in_at, join


def at_the_door(
    session: Session, sealer: Sealer, *, user_id: str, code: str, now: datetime
) -> list[tuple[Offered, Join]]:
    """Check in everybody whom this user booked for now in the hall whose screen shows the code."""
    hall_id = read_door_code(sealer, code, now=now)
    candidates = session.scalars(
        select(Join)
        .join(Slot, Slot.id == Join.slot_id)
        .where(Join.user_id == user_id)
        .where(Join.hall_id == hall_id)
        .where(Join.status == JoinStatus.BOOKED)
        .where(Join.checked_in_at.is_(None))
        .where(Slot.ends_at > now)
    ).all()
    offered = offers.of_joins(session, {join.slot_id for join in candidates})
    ready = [join.id for join in candidates if _is_ready(_place(join), offered[join.slot_id].offer, now=now)]
    if not ready:
        raise errors.NothingToCheckIn
    return check_in(session, ready, now=now)


def door_code(sealer: Sealer, hall_id: str, *, now: datetime) -> tuple[str, datetime]:
    """Return the code that the hall's screen shows now, and until when it does."""
    period = int(now.timestamp()) // DOOR_PERIOD_S
    until = datetime.fromtimestamp((period + 1) * DOOR_PERIOD_S, UTC)
    return f"{hall_id}.{period}.{_mac(sealer, hall_id, period)}", until


def read_door_code(sealer: Sealer, code: str, *, now: datetime) -> str:
    """Return the hall of a code shown now or in the period before, or raise DoorCodeInvalid."""
    hall_text, _, rest = code.partition(".")
    period_text, _, mac = rest.partition(".")
    hall_id = parse_id(hall_text)
    if hall_id is None or not (period_text.isascii() and period_text.isdigit() and len(period_text) < 15):
        raise errors.DoorCodeInvalid
    genuine = hmac.compare_digest(mac.encode(), _mac(sealer, hall_id, int(period_text)).encode())
    age = int(now.timestamp()) // DOOR_PERIOD_S - int(period_text)
    if not genuine or age not in (0, 1):
        raise errors.DoorCodeInvalid
    return hall_id


def _mac(sealer: Sealer, hall_id: str, period: int) -> str:
    return sealer.digest(f"{hall_id}.{period}", about="door").hex()[:24]


def _locked(session: Session, join_ids: list[str]) -> list[Join]:
    """Lock these joins, or raise why nothing can be done to them: JoinNotFound, UserErased."""
    joins = session.scalars(
        select(Join)
        .where(Join.id.in_(join_ids))
        .order_by(Join.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    if len(joins) < len(set(join_ids)):
        raise errors.JoinNotFound
    if users.is_any_erased(session, {join.user_id for join in joins}):
        raise errors.UserErased
    return list(joins)


def _place(join: Join) -> Place:
    return Place(status=JoinStatus(join.status), checked_in_at=join.checked_in_at)


def _is_ready(place: Place, offer: policy.Offer, *, now: datetime, override: bool = False) -> bool:
    try:
        policy.may_check_in(place, offer, now=now, override=override)
    except HallpassError:
        return False
    return True


def _mark(
    session: Session, joins: list[Join], offered: dict[str, Offered], *, now: datetime
) -> list[tuple[Offered, Join]]:
    _set(session, joins, now)
    done = [(offered[join.slot_id], join) for join in joins]
    changed = [(join, place, inventory.current(place.slot)) for place, join in done]
    outbox.record(session, *events.of_action(JoinCheckedIn, changed))
    return done


def _set(session: Session, joins: list[Join], instant: datetime | None) -> None:
    session.execute(
        update(Join)
        .where(Join.id.in_([join.id for join in joins]))
        .values(checked_in_at=instant, missed_at=None, forgiven_at=None, version=Join.version + 1)
        .execution_options(synchronize_session=False)
    )
    for join in joins:
        session.refresh(join)
