"""What admin does about the events of all services, its own included."""

from sqlalchemy.orm import Session

from libs.common.inbox import Consumer
from libs.common.messages import Message
from libs.contracts.admin import AuditRecorded
from libs.contracts.booking import UserErased
from libs.contracts.catalog import HallChanged
from services.admin import copies, trail

consumer = Consumer("admin.events")


@consumer.on(AuditRecorded)
def _(session: Session, fact: AuditRecorded, message: Message) -> None:
    trail.add(session, fact, service=message.source)


@consumer.on(UserErased)
def _(session: Session, fact: UserErased, message: Message) -> None:
    trail.erase(session, [fact.user_id, *fact.join_ids, *fact.wait_ids])


@consumer.on(HallChanged)
def _(session: Session, fact: HallChanged, message: Message) -> None:
    copies.keep_hall(session, fact.hall_id)
