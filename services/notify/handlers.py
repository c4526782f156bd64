"""What notify hears: every event about joins, halls, items and slots, and users erased."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.inbox import Consumer, Heard
from libs.common.messages import Message
from libs.contracts.booking import (
    JoinBooked,
    JoinCancelled,
    JoinCheckedIn,
    JoinCheckInUndone,
    JoinEvent,
    JoinExpected,
    JoinMissed,
    JoinMoved,
    JoinRevoked,
    LineChanged,
    UserErased,
    WaitEnded,
    WaitEvent,
    WaitOffered,
    WaitOutcome,
)
from libs.contracts.catalog import HallChanged, ItemChanged, SlotChanged
from services.notify import (
    copies,
    joins,
    notices,
    readers,
    recipients,
    reminders,
    second_look,
    slot_changes,
    sms_budget,
    stats,
    webhook_events,
)
from services.notify.stats import Inventory, Place
from services.notify.texts import NoticeKind

consumer = Consumer("notify.events")

KINDS: dict[type[JoinEvent], NoticeKind] = {
    JoinBooked: NoticeKind.BOOKED,
    JoinCancelled: NoticeKind.CANCELLED,
    JoinRevoked: NoticeKind.REVOKED,
    JoinMoved: NoticeKind.MOVED,
    JoinCheckedIn: NoticeKind.CHECKED_IN,
    JoinMissed: NoticeKind.MISSED,
}


@consumer.on_all(*KINDS, JoinCheckInUndone, JoinExpected)
def follow_joins(session: Session, heard: Sequence[Heard]) -> None:
    """Keep the record, count, and tell people; a rush into one slot is one change of its stat."""
    # Locks are taken in one order: items, the records of joins, stats by slot, totals, webhooks, then notices.
    joins.follow(session, heard, now=utcnow())
    webhook_events.of_joins(session, heard)
    notices.tell(session, [(_kind(fact), fact, message) for fact, message in heard if type(fact) in KINDS])


def _kind(fact: JoinEvent) -> NoticeKind:
    if isinstance(fact, JoinBooked) and fact.restored:
        return NoticeKind.RESTORED
    if isinstance(fact, JoinMissed) and fact.cooling_off_until is not None:
        return NoticeKind.COOLING_OFF
    return KINDS[type(fact)]


@consumer.on_all(WaitOffered, WaitEnded)
def follow_waits(session: Session, heard: Sequence[Heard]) -> None:
    """Tell people who wait what became of it; of a place that they got, the join's notice tells."""
    ended = [fact.wait_id for fact, _ in heard if isinstance(fact, WaitEnded)]
    second_look.note_ended(session, ended, now=utcnow())
    notices.tell(session, [(_about_waiting(fact), fact, message) for fact, message in heard if _is_news(fact)])


def _about_waiting(fact: WaitEvent) -> NoticeKind:
    return NoticeKind.WAITING_OFFERED if isinstance(fact, WaitOffered) else NoticeKind.WAITING_ENDED


def _is_news(fact: WaitEvent) -> bool:
    told_or_known = (WaitOutcome.BOOKED, WaitOutcome.LEFT, WaitOutcome.ERASED)
    return not (isinstance(fact, WaitEnded) and fact.outcome in told_or_known)


@consumer.on(LineChanged)
def line_changed(session: Session, fact: LineChanged, message: Message) -> None:
    place = Place(item_id=fact.item_id, hall_id=fact.hall_id, day=fact.date, hour=fact.start.hour)
    stats.apply(session, {}, {fact.slot_id: Inventory.of(fact.slot, place)}, now=utcnow())


@consumer.on_all(SlotChanged)
def follow_slots(session: Session, heard: Sequence[Heard]) -> None:
    slot_changes.take_over(session, heard, now=utcnow())


@consumer.on(HallChanged)
def hall_changed(session: Session, fact: HallChanged, message: Message) -> None:
    copies.keep_hall(session, fact, message)


@consumer.on(ItemChanged)
def item_changed(session: Session, fact: ItemChanged, message: Message) -> None:
    copies.keep_item(session, fact, message)


@consumer.on(UserErased)
def user_erased(session: Session, fact: UserErased, message: Message) -> None:
    # Who reminds or tells of announcements locks joins or readers, then writes notices: so do we.
    reminders.erase(session, fact.join_ids)
    readers.erase(session, fact.user_id)
    notices.erase(session, fact.user_id)
    recipients.erase(session, fact.user_id)
    sms_budget.erase(session, fact.user_id)
