"""The events of booking: a join or a wait, its slot, and the inventory as one fact."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, TypeVar

from libs.common.ids import new_id
from libs.contracts.booking import JoinEvent, JoinStatus, SlotTaken, WaitEvent
from services.booking.models import Join, Wait
from services.booking.offers import Offered
from services.booking.rows import JoinRow

E = TypeVar("E", bound=JoinEvent)


def of(
    kind: type[E], join: Join | JoinRow, offered: Offered, taken: SlotTaken, *, action_id: str, people: int, **more: Any
) -> E:
    """Describe what became of a join, as it is now, with the inventory as it is at commit."""
    return kind(
        **_of_places(join, offered, people),
        join_id=join.id,
        party_id=join.party_id,
        action_id=action_id,
        definition_version=offered.slot.definition_version,
        status=JoinStatus(join.status),
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


def of_wait(kind: type[WaitEvent], wait: Wait, offered: Offered, **more: Any) -> WaitEvent:
    """Describe what became of a wait, as it is now."""
    return kind(**_of_places(wait, offered, wait.people), wait_id=wait.id, **more)


def _of_places(of: Join | JoinRow | Wait, offered: Offered, people: int) -> dict[str, Any]:
    slot, hall = offered.slot, offered.hall
    return {
        "version": of.version,
        "user_id": of.user_id,
        "people": people,
        "hall_id": of.hall_id,
        "hall_name": hall.name,
        "item_id": of.item_id,
        "item_title": offered.item.title,
        "slot_id": of.slot_id,
        "date": slot.date,
        "start": slot.start,
        "end": slot.end,
        "starts_at": slot.starts_at,
        "ends_at": slot.ends_at,
        "timezone": hall.timezone,
        "reason": of.reason,
    }


def _together(join: Join | JoinRow) -> tuple[str, str]:
    return join.user_id, join.slot_id
