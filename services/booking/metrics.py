"""Metrics of booking alone."""

from prometheus_client import Histogram

GROUP_SIZE = Histogram(
    "hallpass_group_size", "Requests settled in one transaction", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
