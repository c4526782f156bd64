"""The booking rules once more, as plain Python without database, time or concurrency: what every answer should be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Answer(NamedTuple):
    """An HTTP status, and the code where it is a refusal."""

    status: int
    code: str = ""


class Happened(NamedTuple):
    """An event that a step must record, with the inventory of the join's slot and of the one it left."""

    kind: str
    join: int
    slot: "Taken"
    left: "Taken | None" = None


class Taken(NamedTuple):
    """A slot's count at a moment."""

    slot: int
    taken: int
    capacity: int | None


@dataclass
class Slot:
    """`asked` is what the operator wants, `capacity` what is in force."""

    asked: int | None
    capacity: int | None
    taken: int = 0
    is_open: bool = True
    held: int = 0
    waiting: int = 0

    @property
    def free(self) -> int | None:
        """How many places are neither taken nor held; None is without limit."""
        return None if self.capacity is None else self.capacity - self.taken - self.held

    @property
    def left(self) -> int | None:
        """How many places there are for who comes now: what is free is for those who wait."""
        return self.free if self.capacity is None or not self.waiting else 0

    @property
    def spoken_for(self) -> int:
        """How many places nobody can have who comes now."""
        return self.taken + self.held if self.capacity is None else self.capacity - (self.left or 0)

    def has_room_for(self, people: int) -> bool:
        return self.left is None or people <= self.left

    def define(self, asked: int | None) -> None:
        self.asked = asked
        self.capacity = None if asked is None else max(asked, self.taken + self.held)

    def give_back(self, people: int) -> None:
        self.taken -= people
        self.define(self.asked)


@dataclass
class Join:
    """`badge` is an answer that may be booked once in a slot."""

    user: int
    slot: int
    badge: str | None
    status: str = "booked"
    checked_in: bool = False


@dataclass
class Wait:
    """A party in the line of a slot; `joins` are what it got."""

    user: int
    slot: int
    badges: tuple[str | None, ...]
    is_offered: bool = False
    is_due: bool = False
    passed: int = 0
    outcome: str = ""
    joins: list[int] = field(default_factory=list)

    @property
    def people(self) -> int:
        return len(self.badges)


@dataclass(frozen=True)
class Request:
    """What one request to join says: one badge (or none) for each attendee; `faulty` leaves out a required answer."""

    slot: int
    badges: tuple[str | None, ...]
    faulty: bool = False


@dataclass
class Success:
    """What a key has stood for since it first succeeded."""

    request: Request
    joins: list[int]


class Refused(Exception):
    """A step that changes nothing."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.answer = Answer(status, code)


SLOT_NOT_FOUND = Answer(404, "slot_not_found")
JOIN_NOT_FOUND = Answer(404, "join_not_found")
MOST_PASSED = 3


@dataclass
class Model:
    """One item with its slots; joins are numbered as they are made. Each step returns the answer it must get."""

    party_max: int
    max_per_slot: int
    slots: list[Slot]
    joins: list[Join] = field(default_factory=list)
    successes: dict[tuple[int, str], Success] = field(default_factory=dict)
    happened: list[Happened] = field(default_factory=list)
    max_waiting: int = 50
    offers: bool = False  # places are offered to who waits, or taken for them
    waits: list[Wait] = field(default_factory=list)
    told: list[tuple[str, int, str]] = field(default_factory=list)  # to those who wait: kind, wait, outcome

    def people_booked(self, slot: int) -> int:
        return sum(join.slot == slot and join.status == "booked" for join in self.joins)

    # --- what users do ---

    def book(self, user: int, key: str, request: Request) -> Answer:
        first = self.successes.get((user, key))
        if first is not None:
            return Answer(201) if first.request == request else Answer(409, "idempotency_key_reused")
        return self._answered(201, lambda: self._book(user, key, request))

    def refusal(self, user: int, request: Request) -> Answer:
        """Return what keeps a request out that does not fit into its slot, whatever its key says."""
        return self._answered(201, lambda: self._may_book(user, request.slot, len(request.badges)))

    def _book(self, user: int, key: str, request: Request) -> None:
        people = len(request.badges)
        self._may_book(user, request.slot, people)
        if request.faulty:
            raise Refused(422, "form_invalid")
        if self._clash(request.slot, request.badges):
            raise Refused(409, "person_already_joined")
        self.slots[request.slot].taken += people
        made = range(len(self.joins), len(self.joins) + people)
        self.joins += [Join(user, request.slot, badge) for badge in request.badges]
        self.successes[user, key] = Success(request, list(made))
        self._tell("join.booked", *made)

    def cancel(self, user: int, join: int) -> Answer:
        return self._answered(200, lambda: self._cancel(user, join))

    def _cancel(self, user: int, number: int) -> None:
        join = self._own(user, number)
        self._may_give_back(join)
        join.status = "cancelled"
        self.slots[join.slot].give_back(1)
        self._tell("join.cancelled", number)

    def move(self, user: int, join: int, slot: int) -> Answer:
        return self._answered(200, lambda: self._move(user, join, slot))

    def _move(self, user: int, number: int, target: int) -> None:
        join = self._own(user, number)
        if join.slot == target:
            raise Refused(409, "same_slot")
        self._may_give_back(join)
        self._may_book(user, target, 1)
        if self._clash(target, (join.badge,)):
            raise Refused(409, "person_already_joined")
        left = join.slot
        self.slots[left].give_back(1)
        self.slots[target].taken += 1
        join.slot = target
        self.happened.append(Happened("join.moved", number, self._taken(target), self._taken(left)))

    # --- waiting ---

    def wait(self, user: int, request: Request) -> Answer:
        return self._answered(201, lambda: self._wait(user, request))

    def _wait(self, user: int, request: Request) -> None:
        slot, people = self.slots[request.slot], len(request.badges)
        try:
            self._may_book(user, request.slot, people)
        except Refused as refused:
            if refused.answer.code != "slot_full" or slot.left:
                raise
        else:
            raise Refused(409, "slot_not_full")
        if slot.asked is not None and people > max(1, slot.asked):
            raise Refused(422, "party_too_large")
        if any(wait.user == user for _, wait in self._line(request.slot)):
            raise Refused(409, "waiting_already")
        late = (len(self.waits), Wait(user, request.slot, request.badges))
        line = self._line(request.slot)
        if len(line) >= self.max_waiting and self._next_served(request.slot, [*line, late]) != late[0]:
            raise Refused(409, "line_full")
        if request.faulty:
            raise Refused(422, "form_invalid")
        if self._clash(request.slot, request.badges):
            raise Refused(409, "person_already_joined")
        slot.waiting += people
        self.waits.append(Wait(user, request.slot, request.badges))

    def accept(self, user: int, number: int) -> Answer:
        return self._answered(200, lambda: self._accept(user, number))

    def _accept(self, user: int, number: int) -> None:
        wait = self._own_wait(user, number)
        if wait.outcome == "booked":
            return
        if wait.outcome:
            raise Refused(409, "wait_over")
        if not wait.is_offered:
            raise Refused(409, "nothing_offered")
        try:
            self._book_for(number)
        except Refused as refused:
            if refused.answer.code == "person_already_joined":
                self._end_wait(number, "refused")
            raise

    def leave(self, user: int, number: int) -> Answer:
        return self._answered(200, lambda: self._leave(user, number))

    def _leave(self, user: int, number: int) -> None:
        wait = self._own_wait(user, number)
        if wait.outcome not in ("", "left"):
            raise Refused(409, "wait_over")
        if not wait.outcome:
            self._end_wait(number, "left")

    def serve(self) -> list[int]:
        """End what is over and hand out what is free until nothing is left to do; return which waits got joins, in order."""
        booked: list[int] = []
        for slot in range(len(self.slots)):
            while (step := self._next(slot)) is not None:
                number, outcome = step
                if outcome:
                    self._end_wait(number, outcome)
                    continue
                try:
                    self._give(number, booked)
                except Refused:
                    self._end_wait(number, "refused")
        return booked

    def _next(self, slot: int) -> tuple[int, str] | None:
        line = self._line(slot)
        for number, wait in line:
            if not self.slots[slot].is_open:
                return number, "closed"
            if wait.is_due:
                return number, "expired"
        served = self._next_served(slot, line)
        if served is not None:
            return served, ""
        return next(((number, "closed") for number, _ in self._in_the_way(slot)), None)

    def _in_the_way(self, slot: int) -> list[tuple[int, Wait]]:
        """Return the line of a slot where places are free, and each party in it is larger than the slot has become."""
        standing = [(number, wait) for number, wait in self._line(slot) if not wait.is_offered]
        free, asked = self.slots[slot].free, self.slots[slot].asked
        nobody_can = asked is not None and all(wait.people > asked for _, wait in standing)
        return standing if free and nobody_can else []

    def _next_served(self, slot: int, line: list[tuple[int, Wait]]) -> int | None:
        free, asked = self.slots[slot].free, self.slots[slot].asked
        for number, wait in line:
            if wait.is_offered:
                continue
            if free is None or wait.people <= free:
                return number
            if wait.passed >= MOST_PASSED and (asked is None or wait.people <= asked):
                return None
        return None

    def _give(self, number: int, booked: list[int]) -> None:
        wait = self.waits[number]
        self._may_hold(wait.user, wait.slot, wait.people)
        if self.offers:
            if self._clash(wait.slot, wait.badges):
                raise Refused(409, "person_already_joined")
            self.slots[wait.slot].waiting -= wait.people
            self.slots[wait.slot].held += wait.people
            wait.is_offered = True
            self.told.append(("wait.offered", number, ""))
        else:
            self._book_for(number)
            booked.append(number)
        for before, other in self._line(wait.slot):
            if before < number and not other.is_offered:
                other.passed += 1

    def _book_for(self, number: int) -> None:
        wait, slot = self.waits[number], self.slots[self.waits[number].slot]
        self._may_hold(wait.user, wait.slot, wait.people)
        if self._clash(wait.slot, wait.badges):
            raise Refused(409, "person_already_joined")
        made = range(len(self.joins), len(self.joins) + wait.people)
        self.joins += [Join(wait.user, wait.slot, badge) for badge in wait.badges]
        slot.taken += wait.people
        wait.joins = list(made)
        self._leave_line(wait)
        self._tell("join.booked", *made)
        self._close(number, "booked")

    def _end_wait(self, number: int, outcome: str) -> None:
        wait = self.waits[number]
        self._leave_line(wait)
        self.slots[wait.slot].define(self.slots[wait.slot].asked)
        self._close(number, outcome)

    def _leave_line(self, wait: Wait) -> None:
        if wait.is_offered:
            self.slots[wait.slot].held -= wait.people
        else:
            self.slots[wait.slot].waiting -= wait.people

    def _close(self, number: int, outcome: str) -> None:
        self.waits[number].outcome = outcome
        self.told.append(("wait.ended", number, outcome))

    def _line(self, slot: int) -> list[tuple[int, Wait]]:
        return [(n, wait) for n, wait in enumerate(self.waits) if wait.slot == slot and not wait.outcome]

    def _own_wait(self, user: int, number: int) -> Wait:
        if self.waits[number].user != user:
            raise Refused(404, "wait_not_found")
        return self.waits[number]

    # --- what staff do ---

    def revoke(self, join: int) -> Answer:
        return self._answered(200, lambda: self._revoke(join))

    def _revoke(self, number: int) -> None:
        self._may_give_back(self.joins[number])
        self.joins[number].status = "revoked"
        self.slots[self.joins[number].slot].give_back(1)
        self._tell("join.revoked", number)

    def revoke_slot(self, slot: int) -> tuple[int, int]:
        """Return how many were revoked, and how many stay because they are here. The slot's line ends first."""
        for number, _ in self._line(slot):
            self._end_wait(number, "removed")
        booked = [n for n, join in enumerate(self.joins) if join.slot == slot and join.status == "booked"]
        gone = [number for number in booked if not self.joins[number].checked_in]
        for number in gone:
            self.joins[number].status = "revoked"
        if gone:
            self.slots[slot].give_back(len(gone))
        self._tell("join.revoked", *gone)
        return len(gone), len(booked) - len(gone)

    def restore(self, join: int) -> Answer:
        return self._answered(200, lambda: self._restore(join))

    def _restore(self, number: int) -> None:
        join = self.joins[number]
        if join.status != "revoked":
            raise Refused(409, "not_revoked")
        self._may_hold(join.user, join.slot, 1)
        if not self.slots[join.slot].has_room_for(1):
            raise Refused(409, "slot_full")
        if self._clash(join.slot, (join.badge,)):
            raise Refused(409, "person_already_joined")
        join.status = "booked"
        self.slots[join.slot].taken += 1
        self._tell("join.booked", number)

    def check_in(self, number: int) -> Answer:
        join = self.joins[number]
        if join.status != "booked":
            return Answer(409, "join_not_booked")
        if join.checked_in:
            return Answer(409, "already_checked_in")
        join.checked_in = True
        self._tell("join.checked_in", number)
        return Answer(200)

    def undo(self, number: int) -> Answer:
        if not self.joins[number].checked_in:
            return Answer(409, "not_checked_in")
        self.joins[number].checked_in = False
        self._tell("join.check_in_undone", number)
        return Answer(200)

    # --- the rules ---

    def _may_book(self, user: int, slot: int, people: int) -> None:
        if not self.slots[slot].is_open:
            raise Refused(409, "slot_closed")
        if not 1 <= people <= self.party_max:
            raise Refused(422, "party_too_large")
        self._may_hold(user, slot, people)
        if not self.slots[slot].has_room_for(people):
            is_offered = any(wait.user == user and wait.is_offered and not wait.is_due for _, wait in self._line(slot))
            raise Refused(409, "offered_already" if is_offered else "slot_full")

    def _may_hold(self, user: int, slot: int, people: int) -> None:
        has = sum(join.user == user and join.slot == slot and join.status == "booked" for join in self.joins)
        if has + people > self.max_per_slot:
            raise Refused(409, "already_joined")

    def _may_give_back(self, join: Join) -> None:
        if join.status != "booked":
            raise Refused(409, "join_not_booked")
        if join.checked_in:
            raise Refused(409, "already_checked_in")

    def _own(self, user: int, number: int) -> Join:
        if self.joins[number].user != user:
            raise Refused(404, "join_not_found")
        return self.joins[number]

    def _clash(self, slot: int, badges: tuple[str | None, ...]) -> bool:
        wanted = [badge for badge in badges if badge is not None]
        held = {join.badge for join in self.joins if join.slot == slot and join.status == "booked"}
        return len(set(wanted)) < len(wanted) or not held.isdisjoint(wanted)

    # --- helpers ---

    def _answered(self, success: int, step: Callable[[], None]) -> Answer:
        try:
            step()
        except Refused as refused:
            return refused.answer
        return Answer(success)

    def _taken(self, slot: int) -> Taken:
        return Taken(slot, self.slots[slot].taken, self.slots[slot].capacity)

    def _tell(self, kind: str, *joins: int) -> None:
        """Record the event of each join, with the count as it is after the whole step."""
        self.happened += [Happened(kind, number, self._taken(self.joins[number].slot)) for number in joins]
