"""What catalog does about the events of others."""

from sqlalchemy.orm import Session

from libs.common.inbox import Consumer
from libs.common.messages import Message
from libs.contracts.notify import SlotStatChanged
from services.catalog import stats

consumer = Consumer("catalog.events")


@consumer.on(SlotStatChanged)
def keep_the_stat(session: Session, fact: SlotStatChanged, message: Message) -> None:
    """Show what is left and how many came."""
    stats.take_over(session, fact)
