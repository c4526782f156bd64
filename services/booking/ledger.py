"""The ledger: what one transaction knows, and what it is to write once many requests were decided upon it, one by one.

Each request is decided upon what those before it have left, by the rules of `policy`; nothing here asks the database.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from secrets import compare_digest
from typing import Any

from pydantic_core import to_json

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, Unauthenticated
from libs.contracts.booking import JoinCancelled, JoinEvent, JoinMoved, JoinStatus
from services.booking import claims, errors, events, inventory, moulds, policy, standings, views
from services.booking.asks import Ask, Booking, Cancelling, Moving
from services.booking.claims import Wanted
from services.booking.drafts import Draft, draft
from services.booking.offers import Offered
from services.booking.policy import Held, Place, Standing
from services.booking.rows import JoinRow
from services.booking.schemas import JoinOut


class ChangedTwice(Exception):
    """Two requests of one group act on the same join: each has to be decided in a transaction of its own."""


@dataclass
class Holding:
    """Booked people of one user in one slot of an item."""

    slot_id: str
    date: date
    ends_at: datetime
    people: int


@dataclass
class Success:
    """What was answered under a key: sealed as it was read, or plain where it was made in this transaction."""

    request_digest: bytes
    answer_sealed: bytes = b""
    answer: bytes = b""


@dataclass
class Known:
    """What was read: users (id → disabled), slots with item and hall, joins, and what the users have and had."""

    users: dict[str, bool] = field(default_factory=dict)
    offered: dict[str, Offered] = field(default_factory=dict)
    joins: dict[str, JoinRow] = field(default_factory=dict)
    holdings: defaultdict[tuple[str, str], list[Holding]] = field(default_factory=lambda: defaultdict(list))
    missed: defaultdict[tuple[str, str], list[date]] = field(default_factory=lambda: defaultdict(list))  # by user, hall
    successes: dict[tuple[str, str], Success] = field(default_factory=dict)
    claimed: dict[tuple[str, str, str, bytes], str] = field(default_factory=dict)  # by which join


@dataclass
class Count:
    """By how many people a slot's count has to change, from the version that was seen to another, and who got places."""

    seen: int
    version: int
    people: int = 0
    holders: set[str] = field(default_factory=set)


@dataclass
class Changes:
    """What is to be written. Rows that are inserted are JSON already."""

    counts: dict[str, Count] = field(default_factory=dict)
    booked: list[bytes] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    cancelled: dict[str, JoinRow] = field(default_factory=dict)
    moved: dict[str, JoinRow] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    claims: dict[tuple[str, str, str, bytes], Wanted] = field(default_factory=dict)
    successes: list[bytes] = field(default_factory=list)
    facts: list[bytes] = field(default_factory=list)


class Ledger:
    """Decides requests upon what is known, and collects what they change."""

    def __init__(self, sealer: Sealer, known: Known) -> None:
        self._sealer = sealer
        self.known = known
        self.changes = Changes()

    # --- booking ---

    def book(self, asked: Booking, drafted: Draft | None) -> bytes:
        """Take places for the whole party and return the answer, or raise the first rule broken."""
        first = self._first_success(asked)
        if first is not None:
            return first
        offered, ready = self._may_book(asked, drafted)
        self._count(offered, len(asked.attendees), asked)
        self._claim(ready.wanted)
        self.changes.booked.extend(ready.joins)
        self.changes.files.extend(ready.files)
        self.changes.successes.append(ready.success)
        self.changes.facts.extend(ready.facts(moulds.inventory(offered.slot)))
        self._hold(asked.user_id, offered.slot, len(asked.attendees))
        self.known.successes[asked.user_id, asked.key] = Success(asked.digest, answer=ready.answer)
        return ready.answer

    def refusal(self, asked: Booking) -> HallpassError | None:
        """Return why the request is refused as things stand, None where it is not (or has succeeded before)."""
        try:
            if self._first_success(asked) is None:
                self._may_book(asked, None)
        except HallpassError as refused:
            return refused.with_traceback(None)  # which would hold the whole ledger until the collector comes
        return None

    def _first_success(self, asked: Booking) -> bytes | None:
        self._is_disabled(asked)
        found = self.known.successes.get((asked.user_id, asked.key))
        if found is None:
            return None
        if not compare_digest(found.request_digest, asked.digest):
            raise errors.KeyReused
        return found.answer or self._sealer.open(found.answer_sealed, about=f"success:{asked.user_id}:{asked.key}")

    def _may_book(self, asked: Booking, drafted: Draft | None) -> tuple[Offered, Draft]:
        offered = self._offered(asked.slot_id)
        policy.may_book(
            offered.offer,
            self._held(asked, offered.slot),
            people=len(asked.attendees),
            left=offered.left,
            user_is_disabled=self._is_disabled(asked),
            standing=self._standing(asked, offered),
            at_the_desk=asked.at_the_desk,
            now=asked.now,
        )
        ready = drafted if drafted is not None and drafted.fits(offered) else draft(self._sealer, asked, offered)
        self._free(ready.wanted)
        return offered, ready

    # --- giving back ---

    def cancel(self, asked: Cancelling) -> JoinOut:
        """Give the user's place back, or raise why not. The row stays, as cancelled."""
        join, here = self._own(asked)
        policy.may_give_back(_place(join), here.offer, now=asked.now)
        self._count(here, -1, asked)
        join.status, join.ended_at, join.version = JoinStatus.CANCELLED, asked.now, join.version + 1
        self.changes.cancelled[join.id] = join
        self.changes.released.append(join.id)
        self._hold(asked.user_id, here.slot, -1)
        self._record(asked, JoinCancelled, join, here)
        return views.join(self._sealer, join, here, now=asked.now)

    def move(self, asked: Moving) -> JoinOut:
        """Give one place back and take another of the same item: both, or neither. Join, code and answers stay."""
        disabled = self._is_disabled(asked)
        there = self._offered(asked.slot_id)
        join, here = self._own(asked)
        if join.slot_id == there.slot.id:
            raise errors.SameSlot
        if join.item_id != there.slot.item_id:
            raise errors.MoveElsewhere
        policy.may_give_back(_place(join), here.offer, now=asked.now)
        held = self._held(asked, there.slot, leaving=here.slot)
        policy.may_book(
            there.offer,
            held,
            people=1,
            left=there.left,
            user_is_disabled=disabled,
            standing=self._standing(asked, there),
            now=asked.now,
        )
        wishes = claims.of_join(self._sealer, there, join)
        self._free(wishes)
        self._count(here, -1, asked)
        self._count(there, 1, asked)
        join.slot_id, join.version = there.slot.id, join.version + 1
        self.changes.moved[join.id] = join
        self.changes.released.append(join.id)
        self._claim(wishes)
        self._hold(asked.user_id, here.slot, -1)
        self._hold(asked.user_id, there.slot, 1)
        self._record(
            asked, JoinMoved, join, there, left=inventory.current(here.slot), left_starts_at=here.slot.starts_at
        )
        return views.join(self._sealer, join, there, now=asked.now)

    # --- helpers ---

    def _is_disabled(self, asked: Ask) -> bool:
        disabled = self.known.users.get(asked.user_id)
        if disabled is None:
            raise Unauthenticated
        return disabled

    def _standing(self, asked: Ask, offered: Offered) -> Standing | None:
        missed = self.known.missed.get((asked.user_id, offered.hall.id))  # hardly anybody has missed anything
        return None if missed is None else standings.weighed(offered.hall, missed, now=asked.now)

    def _offered(self, slot_id: str) -> Offered:
        offered = self.known.offered.get(slot_id)
        if offered is None or offered.slot.deleted:
            raise errors.SlotNotFound
        return offered

    def _own(self, asked: Cancelling | Moving) -> tuple[JoinRow, Offered]:
        join = self.known.joins.get(asked.join_id)
        if join is None or join.user_id != asked.user_id:
            raise errors.JoinNotFound
        if join.id in self.changes.cancelled or join.id in self.changes.moved:
            raise ChangedTwice
        return join, self.known.offered[join.slot_id]

    def _held(self, asked: Ask, slot: Any, *, leaving: Any = None) -> Held:
        in_slot = on_day = ahead = 0
        for holding in self.known.holdings[asked.user_id, slot.item_id]:
            people = holding.people - (leaving is not None and holding.slot_id == leaving.id)
            in_slot += people if holding.slot_id == slot.id else 0
            on_day += people if holding.date == slot.date else 0
            ahead += people if holding.ends_at > asked.now else 0
        return Held(in_slot=in_slot, on_day=on_day, ahead=ahead)

    def _hold(self, user_id: str, slot: Any, people: int) -> None:
        self.known.holdings[user_id, slot.item_id].append(Holding(slot.id, slot.date, slot.ends_at, people))

    def _count(self, offered: Offered, people: int, asked: Ask) -> None:
        """Change the slot's count; each change has a version of its own, so that all are totally ordered."""
        slot = offered.slot
        count = self.changes.counts.setdefault(slot.id, Count(seen=slot.version, version=slot.version))
        slot.taken += people
        slot.capacity = None if slot.asked is None else max(slot.asked, slot.taken + slot.held)
        slot.version += 1
        count.people += people
        count.version = slot.version
        if people > 0:
            count.holders.add(asked.user_id)

    def _free(self, wishes: list[Wanted]) -> None:
        for wish in wishes:
            if self.known.claimed.get(wish.key, wish.join_id) != wish.join_id:
                raise wish.refusal()

    def _claim(self, wishes: list[Wanted]) -> None:
        for wish in wishes:
            self.known.claimed[wish.key] = wish.join_id
            self.changes.claims[wish.key] = wish

    def _record(self, asked: Ask, kind: type[JoinEvent], join: JoinRow, offered: Offered, **more: Any) -> None:
        for fact in events.of_action(kind, [(join, offered, inventory.current(offered.slot))], **more):
            self.changes.facts.append(to_json(outbox.row(fact, request_id=asked.request_id)))


def _place(join: JoinRow) -> Place:
    return Place(status=JoinStatus(join.status), checked_in_at=join.checked_in_at)
