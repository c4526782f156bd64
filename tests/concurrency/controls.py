"""Negative controls: what makes overselling impossible is taken out, so that a test can show that it would notice."""

import pytest

from services.booking import statements

_UNGUARDED = """
UPDATE slots SET taken = least(slots.taken + change.people, slots.capacity), version = change.version
FROM json_to_recordset(%s) AS change(id uuid, seen int, people int, version int)
WHERE slots.id = change.id"""

# Without locks. What is seen is from before the pause, so that two desks that look at about the same time see the same.
_A_LONG_LOOK = f"SELECT seen.* FROM ({statements.SLOTS}) AS seen, pg_sleep(0.2)"


def without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let joins be counted in the old way: look whether there is room, then write the count that was seen.

    It takes two desks to show it: one settles its groups one after another.
    """
    monkeypatch.setattr(statements, "SLOTS_LOCKED", _A_LONG_LOOK)
    monkeypatch.setattr(statements, "COUNT", _UNGUARDED)
