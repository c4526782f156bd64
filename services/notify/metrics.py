"""What notify counts about its stats, those who follow them, deliveries and reminders."""

from prometheus_client import Counter, Gauge

DIFFERENCES = Counter(
    "hallpass_stat_differences_total", "Stats and totals that a recount found wrong, by kind", ["service", "kind"]
)
for _kind in ("slot", "day", "hour"):
    DIFFERENCES.labels("notify", _kind)  # 0 from the start: the first recount that finds some has to be seen as growth
LISTENERS = Gauge("hallpass_live_listeners", "Streams of stats that are open", ["service"], multiprocess_mode="livesum")
STREAMS_ENDED = Counter("hallpass_live_ended_total", "Streams of stats that ended, by reason", ["service", "reason"])
DELIVERIES = Counter(
    "hallpass_deliveries_total", "Attempts to deliver by how they ended", ["service", "channel", "result"]
)
DELIVERY_RESULTS = ("sent", "failed", "retried", "lost", "overtaken")
DELIVERIES_PENDING = Gauge(
    "hallpass_deliveries_pending",
    "Deliveries that wait or are under way",
    ["service", "channel"],
    multiprocess_mode="mostrecent",
)
DELIVERIES_RETRYING = Gauge(
    "hallpass_deliveries_retrying",
    "Deliveries that were tried in vain and are to be tried again",
    ["service", "channel"],
    multiprocess_mode="mostrecent",
)
REMINDERS_OVERDUE = Gauge(
    "hallpass_reminders_overdue_seconds",
    "For how long the oldest reminder that is not sent yet has been due",
    ["service"],
    multiprocess_mode="mostrecent",
)
