"""How the counters' two scripts are called: their keys, their arguments and their answers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redis.exceptions import NoScriptError

from services.booking.counts import Ask, Count, Epoch, Record

FRESH_MS = 300  # how long what PostgreSQL said last may be a reason to refuse
VERDICTS = {b"r": "room", b"c": "crowded", b"l": "leased", b"h": "holder", b"f": "full"}
LEASE_MS = 20_000  # longer than any request takes that PostgreSQL does not give up (statement_timeout)
KEEP_MS = 3_600_000  # a counter that nobody tells anything for so long is forgotten
REPLACE_MS = 2_000  # longer than any clock or answer is off


class Script:
    """A Lua script and the digest under which Redis remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def beside(cls, name: str) -> "Script":
        return cls((Path(__file__).parent / name).read_text())


ADMIT = Script.beside("counter_admit.lua")
APPLY = Script.beside("counter_apply.lua")
RELEASE = Script.beside("counter_release.lua")


class Pipeline(Protocol):
    """What the pipelines of both kinds of client have in common."""

    def evalsha(self, sha: str, numkeys: int, /, *keys_and_args: Any) -> Any: ...

    def eval(self, script: str, numkeys: int, /, *keys_and_args: Any) -> Any: ...


@dataclass(frozen=True)
class Call:
    """One call of a script about one slot."""

    script: Script
    keys: tuple[str, ...]
    args: list[str | int]

    def queue(self, pipeline: Pipeline, *, by_digest: bool) -> None:
        """Put the call into a pipeline: by the script's digest, or with its text."""
        run, script = (pipeline.evalsha, self.script.sha) if by_digest else (pipeline.eval, self.script.text)
        run(script, len(self.keys), *self.keys, *self.args)


def keys_of(slot_id: str) -> tuple[str, str, str]:
    """Return the keys of count, holders and leases. The braces make Redis Cluster keep them on one node."""
    prefix = f"hallpass:booking:{{{slot_id}}}"
    return f"{prefix}:count", f"{prefix}:holders", f"{prefix}:leases"


def admit_call(epoch: Epoch, slot_id: str, asks: Sequence[Ask]) -> Call:
    each = "\n".join(f"{ask.user_id} {ask.people}" for ask in asks)
    return Call(ADMIT, keys_of(slot_id), [*_words(epoch), FRESH_MS, LEASE_MS, each])


def apply_call(epoch: Epoch, count: Count, *, seen_ms: int, is_reading: bool) -> Call:
    numbers: list[str | int] = [
        count.before,
        count.version,
        count.spoken_for,
        "" if count.capacity is None else count.capacity,
        int(count.is_open),
        seen_ms,
        int(is_reading),
        KEEP_MS,
        REPLACE_MS,
    ]
    return Call(APPLY, keys_of(count.slot_id), [*_words(epoch), *numbers, *sorted(count.holders)])


def release_call(ask: Ask) -> Call:
    return Call(RELEASE, keys_of(ask.slot_id)[2:], [ask.user_id])


def forgotten(calls: Sequence[Call], replies: Sequence[Any]) -> list[int]:
    """Return which calls Redis did not carry out because it has forgotten the script."""
    return [index for index, _ in enumerate(calls) if isinstance(replies[index], NoScriptError)]


RECORD = ("system", "timeline", "started", "known", "version", "taken", "capacity", "open")


def record_of(fields: Sequence[bytes | None], holders: int) -> Record | None:
    """Read the fields RECORD of a count; None where there is none, or nothing that we have written."""
    try:
        system, timeline, started, known, version, taken, capacity, is_open = (
            field.decode() for field in fields if field is not None
        )
        return Record(
            epoch=Epoch(system, int(timeline), int(started)),
            known=known,
            version=int(version),
            taken=int(taken),
            capacity=int(capacity) if capacity else None,
            is_open=is_open == "1",
            holders=holders,
        )
    except ValueError:
        return None


def _words(epoch: Epoch) -> list[str | int]:
    return [epoch.system, epoch.timeline, epoch.started_us]
