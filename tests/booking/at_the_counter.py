"""How tests speak with the atomic counters: ask them, tell them, and look at what Redis holds."""

import asyncio
from dataclasses import replace
from typing import Any

from prometheus_client import REGISTRY
from redis import Redis

from libs.common.ids import new_id
from services.booking.counters import Ask, Count, Counters, Full
from services.booking.counts import Epoch, Record
from tests.world import World


def ask(counters: Counters, *asks: Ask) -> list[Full | None]:
    return asyncio.run(counters.admit(asks))


def redis_of(world: World) -> Redis:
    return Redis.from_url(world.runtimes["booking"].settings.redis_url.get_secret_value())


def stranger(slot_id: str, people: int = 1) -> Ask:
    return Ask(slot_id, new_id(), people)


def record(counters: Counters, slot_id: str) -> Record | None:
    assert counters.applier is not None
    return counters.applier.records([slot_id]).get(slot_id)


def epoch_of(counters: Counters) -> Epoch:
    assert counters.applier is not None
    assert counters.applier.epoch is not None
    return counters.applier.epoch


def say(counters: Counters, *counts: Count, is_reading: bool = False, **other_epoch: Any) -> None:
    """Tell Redis at once, as the applier's thread does; in PostgreSQL's own epoch or another."""
    assert counters.applier is not None
    counters.applier.tell_now(replace(epoch_of(counters), **other_epoch), counts, is_reading=is_reading)


def outcomes(outcome: str) -> float:
    return REGISTRY.get_sample_value("hallpass_counter_asks_total", {"service": "booking", "outcome": outcome}) or 0


def a_count(slot_id: str, version: int, taken: int, *, capacity: int | None = 2, **more: Any) -> Count:
    chosen: dict[str, Any] = {"before": version - 1, "is_open": True, "holders": frozenset()} | more
    return Count(slot_id=slot_id, version=version, taken=taken, capacity=capacity, **chosen)
