"""What catalog does about the events of others."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from libs.common.inbox import Consumer, Heard
from libs.contracts.notify import SlotStatChanged
from services.catalog import stats

consumer = Consumer("catalog.events")


@consumer.on_all(SlotStatChanged)
def keep_the_stats(session: Session, heard: Sequence[Heard]) -> None:
    """Show what is left and how many came."""
    stats.take_over(session, [fact for fact, _ in heard])
