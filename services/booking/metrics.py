"""What booking counts about groups, its atomic counters and its inventory."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

GROUP_SIZE = Histogram(
    "hallpass_group_size", "Requests settled in one transaction", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
JOINS = Counter(
    "hallpass_joins_total",
    "Requests to book, cancel and move by what became of them; `code` says why not",
    ["service", "outcome", "code"],
)
COUNTER_STATE = Gauge(
    "hallpass_counter_state", "1 for the state that this process's atomic counters are in", ["service", "state"]
)
ASKS = Counter("hallpass_counter_asks_total", "Requests at the counter by what it said", ["service", "outcome"])
APPLIES = Counter("hallpass_counter_applies_total", "Counts told to Redis", ["service"])
DROPPED = Counter("hallpass_counter_applies_dropped_total", "Counts that Redis was never told", ["service", "reason"])
READINGS = Counter(
    "hallpass_counter_rebuilds_total", "Counters read from PostgreSQL anew", ["service", "kind", "result"]
)
REDIS_FAILURES = Counter(
    "hallpass_counter_redis_failures_total", "Failures of Redis by what was done", ["service", "at"]
)
MENDED = Counter("hallpass_counter_mended_total", "Counters that the reconciler found wrong", ["service"])
DIVERGENCE = Gauge(
    "hallpass_inventory_divergence",
    "Slots whose inventory differs from their booked joins, or is oversold: must be 0",
    ["service"],
    multiprocess_mode="mostrecent",
)
WAITS = Gauge(
    "hallpass_waits", "People who wait for a place in a full slot", ["service"], multiprocess_mode="mostrecent"
)


@cache
def joins(outcome: str, code: str) -> Counter:
    """Return the child of JOINS; `labels` costs as much as all the rest of counting."""
    return JOINS.labels("booking", outcome, code)
