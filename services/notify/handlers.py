"""What notify hears: every event about joins, the capacity of slots, and staff signed out."""

from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.inbox import Consumer
from libs.common.messages import Message
from libs.contracts.booking import (
    JoinBooked,
    JoinCancelled,
    JoinCheckedIn,
    JoinCheckInUndone,
    JoinExpected,
    JoinMissed,
    JoinMoved,
    JoinRevoked,
)
from libs.contracts.catalog import SlotChanged
from libs.contracts.principals import hear_sign_outs
from services.notify import joins, notices, stats
from services.notify.texts import NoticeKind

consumer = Consumer("notify.events")
hear_sign_outs(consumer)

# Locks are taken in one order in every handler: the join's record, stats by slot, then the notice.


@consumer.on(JoinBooked)
def booked(session: Session, fact: JoinBooked, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())
    notices.tell(session, NoticeKind.RESTORED if fact.restored else NoticeKind.BOOKED, fact, message)


@consumer.on(JoinCancelled)
def cancelled(session: Session, fact: JoinCancelled, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())
    notices.tell(session, NoticeKind.CANCELLED, fact, message)


@consumer.on(JoinRevoked)
def revoked(session: Session, fact: JoinRevoked, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())
    notices.tell(session, NoticeKind.REVOKED, fact, message)


@consumer.on(JoinMoved)
def moved(session: Session, fact: JoinMoved, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())
    notices.tell(session, NoticeKind.MOVED, fact, message)


@consumer.on(JoinCheckedIn)
def checked_in(session: Session, fact: JoinCheckedIn, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())
    notices.tell(session, NoticeKind.CHECKED_IN, fact, message)


@consumer.on(JoinCheckInUndone)
def check_in_undone(session: Session, fact: JoinCheckInUndone, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())


@consumer.on(JoinMissed)
def missed(session: Session, fact: JoinMissed, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())
    notices.tell(session, NoticeKind.MISSED, fact, message)


@consumer.on(JoinExpected)
def expected(session: Session, fact: JoinExpected, message: Message) -> None:
    joins.follow(session, fact, now=utcnow())


@consumer.on(SlotChanged)
def slot_changed(session: Session, fact: SlotChanged, message: Message) -> None:
    stats.define(session, fact, now=utcnow())
