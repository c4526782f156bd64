"""The events of booking: a join, its slot, and the inventory as one fact."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, TypeVar

from libs.common.ids import new_id
from libs.contracts.booking import JoinEvent, JoinStatus, SlotTaken
from services.booking.models import Join
from services.booking.offers import Offered
from services.booking.rows import JoinRow

E = TypeVar("E", bound=JoinEvent)


def of(
    kind: type[E], join: Join | JoinRow, offered: Offered, taken: SlotTaken, *, action_id: str, people: int, **more: Any
) -> E:
    """Describe what became of a join, as it is now, with the inventory as it is at commit."""
    return kind(
        version=join.version,
        join_id=join.id,
        party_id=join.party_id,
        user_id=join.user_id,
        action_id=action_id,
        people=people,
        hall_id=join.hall_id,
        hall_name=offered.hall.name,
        item_id=join.item_id,
        item_title=offered.item.title,
        slot_id=join.slot_id,
        date=offered.slot.date,
        start=offered.slot.start,
        end=offered.slot.end,
        starts_at=offered.slot.starts_at,
        ends_at=offered.slot.ends_at,
        timezone=offered.hall.timezone,
        definition_version=offered.slot.definition_version,
        status=JoinStatus(join.status),
        reason=join.reason,
        checked_in_at=join.checked_in_at,
        missed_at=join.missed_at,
        booked_at=join.created_at,
        slot=taken,
        **more,
    )


def of_action(kind: type[E], changed: Iterable[tuple[Join | JoinRow, Offered, SlotTaken]], **more: Any) -> list[E]:
    """Describe one action on several joins: those of one user in one slot share an action id and say how many they are."""
    changed = list(changed)
    people = Counter(_together(join) for join, _, _ in changed)
    actions: defaultdict[tuple[str, str], str] = defaultdict(new_id)
    return [
        of(kind, join, offered, taken, action_id=actions[_together(join)], people=people[_together(join)], **more)
        for join, offered, taken in changed
    ]


def _together(join: Join | JoinRow) -> tuple[str, str]:
    return join.user_id, join.slot_id
