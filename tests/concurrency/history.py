"""Histories of concurrent requests, and the checker that says whether PostgreSQL could have served them in one line.

Each effect on a slot carries the slot's version, so the line is known and need not be guessed: the effects in version
order must be legal, and agree with real time; each refusal as full must have been true at some moment of its request.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

T = TypeVar("T")

# A process may answer from a count that is this old (what Redis or its own cache last heard).
STALENESS_S = 0.3


@dataclass(frozen=True)
class Span:
    """From when until when somebody waited for an answer, in seconds of one monotonic clock."""

    start: float
    end: float


@dataclass(frozen=True)
class State:
    """A slot at one version. `asked` is what the operator wants, `capacity` what is in force; None is without limit."""

    version: int
    taken: int
    capacity: int | None
    asked: int | None

    def has_room_for(self, people: int) -> bool:
        return self.capacity is None or self.taken + people <= self.capacity


@dataclass(frozen=True)
class Effect:
    """One confirmed change of a slot: `people` more are booked (fewer where negative), or the operator `defined` it."""

    slot_id: str
    span: Span
    version: int
    taken: int
    capacity: int | None
    people: int = 0
    defined: bool = False
    asked: int | None = None  # with `defined`
    what: str = ""

    def __str__(self) -> str:
        return f"{self.what or f'{self.people:+d}'} at version {self.version} of slot {self.slot_id[-6:]}"


@dataclass(frozen=True)
class Refusal:
    """An answer that the slot has not enough room for so many people."""

    slot_id: str
    span: Span
    people: int


FaultKind = Literal["oversell", "wrong step", "duplicate version", "against real time", "untrue refusal"]


@dataclass(frozen=True)
class Fault:
    """What a correct system could not have done."""

    kind: FaultKind
    text: str


def check(initial: dict[str, State], effects: Iterable[Effect], refusals: Iterable[Refusal] = ()) -> list[Fault]:
    """Return every fault in the history of these slots, each of which began in its initial state."""
    of_slot: defaultdict[str, list[Effect]] = defaultdict(list)
    refused: defaultdict[str, list[Refusal]] = defaultdict(list)
    for effect in effects:
        of_slot[effect.slot_id].append(effect)
    for refusal in refusals:
        refused[refusal.slot_id].append(refusal)
    faults: list[Fault] = []
    for slot_id, state in initial.items():
        line = sorted(of_slot[slot_id], key=lambda effect: effect.version)
        faults += _duplicates(state, line)
        faults += _illegal_steps(state, line)
        faults += _against_real_time(line)
        faults += _untrue(state, line, refused[slot_id])
    return faults


def _duplicates(state: State, line: list[Effect]) -> Iterator[Fault]:
    if line and line[0].version <= state.version:
        yield Fault("duplicate version", f"{line[0]} is not after the beginning, which was version {state.version}")
    for one, other in pairwise(line):
        if one.version == other.version:
            yield Fault("duplicate version", f"{one} and {other} have one version")


def _illegal_steps(state: State, line: list[Effect]) -> Iterator[Fault]:
    """Replay. After a wrong step the replay goes on from what the effect claimed: one fault is told once."""
    for effect in line:
        asked = effect.asked if effect.defined else state.asked
        wanted = state.taken + effect.people
        if effect.people > 0 and not state.has_room_for(effect.people):
            yield Fault("oversell", f"{effect}: {effect.people} more, with {state.taken} of {state.capacity} taken")
        elif effect.capacity is not None and effect.taken > effect.capacity:
            yield Fault("oversell", f"{effect}: {effect.taken} taken of {effect.capacity}")
        if effect.taken != wanted:
            yield Fault("wrong step", f"{effect}: {state.taken} were taken before and {effect.taken} after")
        if effect.capacity != (capacity := _capacity(state, effect, asked)):
            yield Fault("wrong step", f"{effect}: the capacity in force is {effect.capacity} and not {capacity}")
        state = State(effect.version, effect.taken, effect.capacity, asked)


def _capacity(state: State, effect: Effect, asked: int | None) -> int | None:
    """What is in force: as asked, or as many as are taken; booking itself never changes it."""
    if effect.people > 0:
        return state.capacity
    return None if asked is None else max(asked, effect.taken)


def _against_real_time(line: list[Effect]) -> Iterator[Fault]:
    """Whoever had an answer before another began must stand before it in the line."""
    first_ended: Effect | None = None
    for effect in reversed(line):
        if first_ended is not None and first_ended.span.end < effect.span.start:
            yield Fault("against real time", f"{first_ended} was answered before {effect} was asked for")
        if first_ended is None or effect.span.end < first_ended.span.end:
            first_ended = effect


def _untrue(state: State, line: list[Effect], refusals: list[Refusal]) -> Iterator[Fault]:
    """A state was in force, at the longest, from when its effect could first have been until the next surely was."""
    states = [state, *(State(effect.version, effect.taken, effect.capacity, None) for effect in line)]
    began, ended = [float("-inf")], [float("inf")]
    for effect in line:
        began.append(max(began[-1], effect.span.start))
    for effect in reversed(line):
        ended.append(min(ended[-1], effect.span.end))
    ended.reverse()
    for refusal in refusals:
        earliest, latest = refusal.span.start - STALENESS_S, refusal.span.end
        if not any(
            begin <= latest and end >= earliest and not known.has_room_for(refusal.people)
            for known, begin, end in zip(states, began, ended, strict=True)
        ):
            yield Fault(
                "untrue refusal",
                f"{refusal.people} asked for slot {refusal.slot_id[-6:]} and were told that it is full: it never was",
            )


# --- recording --------------------------------------------------------------------------------------------------------


class History:
    """What concurrent clients asked for and were told; filled from any thread."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self._defined: list[Effect] = []
        self._told: defaultdict[tuple[str, str], list[Span]] = defaultdict(list)
        self._lock = threading.Lock()

    def told(self, kind: str, *join_ids: str, span: Span) -> None:
        """Note a success: there must be an event of this kind for each of these joins."""
        with self._lock:
            for join_id in join_ids:
                self._told[kind, join_id].append(span)

    def refused(self, slot_id: str, people: int, span: Span) -> None:
        with self._lock:
            self.refusals.append(Refusal(slot_id, span, people))

    def defined(self, effect: Effect) -> None:
        with self._lock:
            self._defined.append(effect)

    def effects(self, events: Iterable[tuple[str, dict[str, Any]]]) -> list[Effect]:
        """Join what clients were told with what booking recorded, (type, data) in any order: neither may say more.

        The joins of a party share one effect.
        """
        left = {key: sorted(spans, key=lambda span: span.start) for key, spans in self._told.items()}
        effects = {}
        for kind, data in sorted(events, key=lambda event: int(event[1]["version"])):
            spans = left.get((kind, data["join_id"]))
            assert spans, f"{kind} of {data['join_id']} was recorded, but nobody was told"
            span = spans.pop(0)  # a join can move again and again, but not two times at once
            for effect in _of_event(kind, data, span):
                effects[effect.slot_id, data["action_id"], effect.people] = effect
        lost = [key for key, spans in left.items() if spans]
        assert not lost, f"told, but recorded nowhere: {lost[:5]}"
        return [*effects.values(), *self._defined]


def timed(ask: Callable[[], T]) -> tuple[T, Span]:
    """Return what `ask` returns, and how long that took."""
    start = time.monotonic()
    answer = ask()
    return answer, Span(start, time.monotonic())


def _of_event(kind: str, data: dict[str, Any], span: Span) -> Iterator[Effect]:
    if kind == "join.booked":
        yield _effect(data["slot"], span, data["people"], "booked")
    elif kind == "join.cancelled":
        yield _effect(data["slot"], span, -data["people"], "cancelled")
    elif kind == "join.moved":
        yield _effect(data["left"], span, -1, "moved away")
        yield _effect(data["slot"], span, 1, "moved here")
    else:
        raise AssertionError(f"this history knows no {kind}")


def _effect(slot: dict[str, Any], span: Span, people: int, what: str) -> Effect:
    return Effect(slot["slot_id"], span, slot["version"], slot["taken"], slot["capacity"], people, what=what)
