"""Negative controls: what makes overselling impossible is taken out, so that a test can show that it would notice."""

import asyncio
import threading
from typing import Any

import pytest

from services.booking import counter_scripts, errors, lines, offers, statements
from services.booking.counter_scripts import Script
from services.booking.desk import Counter
from services.booking.ledger import Known
from services.booking.seen import Seen
from services.booking.settle import Settler

_UNGUARDED = """
UPDATE slots SET taken = least(slots.taken + change.people, slots.capacity), version = change.version
FROM json_to_recordset($1) AS change(id uuid, seen int, people int, version int)
WHERE slots.id = change.id"""


def without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let joins be counted in the old way: look whether there is room, then write the count that was seen.

    It takes two desks to show it: one settles its groups one after another. Each waits, after its first look, for that of
    the other: both see the same.
    """
    monkeypatch.setattr(statements, "SLOTS_LOCKED", statements.SLOTS)
    monkeypatch.setattr(statements, "COUNT", _UNGUARDED)
    look, both_have_looked, have_looked = Settler._known, threading.Barrier(2), set[Settler]()

    async def look_together(settler: Settler, *args: Any, **more: Any) -> Known:
        known = await look(settler, *args, **more)
        if settler not in have_looked:
            have_looked.add(settler)
            await asyncio.get_running_loop().run_in_executor(None, both_have_looked.wait, 60)
        return known

    monkeypatch.setattr(Settler, "_known", look_together)


# Who passed the counter gets a place: no row is locked, and nobody looks at how many there are.
_BLIND = statements.SLOTS.replace("s.capacity", "NULL::integer")
_COUNT_BLINDLY = """
UPDATE slots SET
    taken = slots.taken + change.people,
    capacity = CASE WHEN slots.asked IS NULL THEN NULL ELSE greatest(slots.asked, slots.taken + change.people) END,
    version = change.version
FROM json_to_recordset($1) AS change(id uuid, seen int, people int, version int)
WHERE slots.id = change.id"""


def with_redis_as_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the counter decide: it gives the places that are neither taken nor leased, and PostgreSQL writes them down.

    While Redis tells the truth that is right. Needs a world with crowd=1, so that everybody passes the counter.
    """

    def refused(counter: Counter, asked: Any, full: Any) -> errors.SlotFull:
        return errors.SlotFull(left=full.left)

    monkeypatch.setattr(counter_scripts, "ADMIT", _without(counter_scripts.ADMIT, "and 'c' or 'r'", "and 'f' or 'r'"))
    monkeypatch.setattr(Counter, "_refusal_by", refused)
    monkeypatch.setattr(Seen, "is_roomy", lambda seen, slot_id: False)
    monkeypatch.setattr(statements, "SLOTS", _BLIND)
    monkeypatch.setattr(statements, "SLOTS_LOCKED", _BLIND)
    monkeypatch.setattr(statements, "COUNT", _COUNT_BLINDLY)


def with_unversioned_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Redis believe whatever it was told last."""
    monkeypatch.setattr(counter_scripts, "APPLY", _without(counter_scripts.APPLY, "version >= had.version", "true"))


def without_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever is quicker have a free place, also while people wait for it."""
    assert "slots.waiting = 0 AND " in statements.COUNT
    monkeypatch.setattr(statements, "COUNT", statements.COUNT.replace("slots.waiting = 0 AND ", ""))
    monkeypatch.setattr(offers, "spoken_for", lambda *, taken, held, waiting, capacity: taken + held)


def without_looking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who serves a line believe what was seen of it before its lock was taken."""
    monkeypatch.setattr(lines, "_is_still_next", lambda *_: True)


def _without(script: Script, guard: str, instead: str) -> Script:
    assert guard in script.text
    return Script(script.text.replace(guard, instead))
