"""What notify counts about its stats and those who follow them."""

from prometheus_client import Counter, Gauge

DIFFERENCES = Counter(
    "hallpass_stat_differences_total", "Stats and totals that a recount found wrong, by kind", ["service", "kind"]
)
LISTENERS = Gauge("hallpass_live_listeners", "Streams of stats that are open", ["service"], multiprocess_mode="livesum")
STREAMS_ENDED = Counter("hallpass_live_ended_total", "Streams of stats that ended, by reason", ["service", "reason"])
