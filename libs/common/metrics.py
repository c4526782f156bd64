"""Every metric that the common parts keep, each with a `service` label, and the form of what lies in a service's tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("hallpass_http_requests_total", "HTTP requests answered", ["service", "method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "hallpass_http_request_seconds",
    "Time to answer an HTTP request",
    ["service", "method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PROBLEMS = Counter("hallpass_problems_total", "Refusals and errors told to callers", ["service", "code"])
PUBLISHED = Counter("hallpass_events_published_total", "Events handed to the bus and confirmed", ["service"])
OUTBOX_PENDING = Gauge("hallpass_outbox_pending", "Events recorded and not yet published", ["service"])
OUTBOX_OLDEST = Gauge(
    "hallpass_outbox_oldest_seconds", "Age of the oldest event that is recorded and not yet published", ["service"]
)
QUEUE_MESSAGES = Gauge(
    "hallpass_queue_messages", "Events that wait for a consumer, dead letters apart", ["service", "consumer"]
)
DEAD_LETTERS = Gauge("hallpass_dead_letters", "Events that a consumer failed at for good", ["service", "consumer"])
CONNECTIONS = Gauge("hallpass_database_connections", "Connections to PostgreSQL in use by a process", ["service"])
MOST_CONNECTIONS = Gauge(
    "hallpass_database_connections_limit", "Connections to PostgreSQL that a process may use", ["service"]
)
CONSUMED = Counter("hallpass_events_consumed_total", "Events by what became of them", ["service", "consumer", "result"])
EVENT_LAG = Histogram(
    "hallpass_event_lag_seconds",
    "From the recording of an event to the commit of its effect",
    ["service", "consumer"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
)
RATE_LIMITER_DOWN = Counter("hallpass_rate_limiter_down_total", "Requests let through unlimited", ["service"])
TASKS = Counter("hallpass_tasks_total", "Background tasks by result", ["service", "task", "result"])


@dataclass(frozen=True)
class Measure:
    """A number that lies in a service's tables: a gauge of this name, with these labels beside `service`."""

    name: str
    about: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
