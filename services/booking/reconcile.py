"""Reconciling counters, inventory and joins: what may be mended is, and what must never differ raises an alarm."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from libs.common.logs import logger
from libs.common.service import Runtime
from services.booking import counter_truth as truth
from services.booking import metrics
from services.booking.counter_applier import SERVICE, Applier
from services.booking.counter_truth import Reading
from services.booking.counts import Count, Record

log = logger(__name__)


@dataclass
class Found:
    """What a round looked at, mended, and found that nothing may mend."""

    slots: int = 0
    mended: int = 0
    diverging: int = 0


def reconcile(runtime: Runtime) -> dict[str, int]:
    """Compare every slot that is not over with its joins and its counter; return how many were looked at, mended, wrong."""
    applier: Applier | None = runtime.resources.counters.applier
    found = Found()
    for slot_ids in truth.not_over(runtime.db):
        records = _records(applier, slot_ids)
        reading = truth.read(runtime.db, slot_ids, count_booked=True)
        found.slots += len(slot_ids)
        found.diverging += _alarm(reading)
        found.mended += _mend(applier, records, reading)
    metrics.DIVERGENCE.labels(SERVICE).set(found.diverging)
    return vars(found)


def _alarm(reading: Reading) -> int:
    wrong = 0
    for slot_id, count in reading.counts.items():
        booked = reading.booked.get(slot_id, 0)
        lined = reading.lined.get(slot_id, (0, 0))
        oversold = count.capacity is not None and count.taken + count.held > count.capacity
        if count.taken != booked or (count.held, count.waiting) != lined or oversold:
            wrong += 1
            log.error(
                "the inventory differs from the joins, or from its line",
                slot_id=slot_id,
                taken=count.taken,
                booked=booked,
                held=count.held,
                waiting=count.waiting,
                lined=lined,
                capacity=count.capacity,
                version=count.version,
            )
    return wrong


def _records(applier: Applier | None, slot_ids: Sequence[str]) -> dict[str, Record]:
    """Return the counters as they were before the reading, so that theirs can't be the newer version."""
    try:
        return applier.records(slot_ids) if applier else {}
    except RedisError as error:
        log.warning("counters are not compared: Redis is away", error=type(error).__name__)
        return {}


def _mend(applier: Applier | None, records: dict[str, Record], reading: Reading) -> int:
    """Tell each counter that is wrong what is right."""
    off = [slot_id for slot_id, record in records.items() if _is_off(record, reading.counts.get(slot_id), reading)]
    # Of a slot that is busy a count is always under way: what has arrived since was on its way, and not lost.
    later = _records(applier, off)
    off = [
        slot_id for slot_id in off if not _has_caught_up(records[slot_id], later.get(slot_id), reading.counts[slot_id])
    ]
    if not off or applier is None:
        return 0
    for slot_id in off:
        log.warning("a counter is mended", slot_id=slot_id, record=records[slot_id], count=reading.counts.get(slot_id))
    try:
        applier.read_now(off)
    except RedisError as error:
        log.warning("counters are not mended: Redis is away", error=type(error).__name__)
        return 0
    metrics.MENDED.labels(SERVICE).inc(len(off))
    return len(off)


def _is_off(record: Record, count: Count | None, reading: Reading) -> bool:
    return count is not None and (record.epoch != reading.epoch or not record.agrees_with(count))


def _has_caught_up(record: Record, later: Record | None, count: Count) -> bool:
    return record.version < count.version and later is not None and later.version >= count.version
