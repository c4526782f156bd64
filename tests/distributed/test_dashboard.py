"""What is watched of a real installation: every process is scraped, every panel finds data, every rule can be evaluated."""

import math
import time
from collections.abc import Iterator
from functools import partial

import pytest

from deploy import demo, table
from deploy.dashboard import Panel, panels
from deploy.native import Native
from deploy.servers import install
from deploy.servers.process import ServerError
from deploy.servers.valkey import Valkey
from libs.common import tasks
from tests.distributed.prometheus import Prometheus
from tests.require import leave_out
from tests.world import eventually

RATE_INTERVAL = "1h"  # in place of $__rate_interval; all since the demo, however long ago that was


@pytest.fixture(scope="module")
def prometheus(native: Native, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has watched the demo being played."""
    try:
        install.ensure("prometheus")
    except ServerError as error:
        leave_out(str(error))
    with Prometheus(tmp_path_factory.mktemp("prometheus"), native) as server:
        redis = native["redis"].part
        assert isinstance(redis, Valkey)
        tasks.celery_app(redis.url, []).send_task("booking.reconcile")  # by its schedule it would come within a minute
        for _ in range(2):  # a rate is seen of what was there before
            demo.play(native.address, username="admin", password=native.first_password, say=lambda text: None)
            eventually(partial(scraped_since, server, time.time()), timeout_s=60)
        yield server


def scraped_since(prometheus: Prometheus, instant: float) -> bool:
    """Tell whether booking was looked at since."""
    result = prometheus.ask("query", query='timestamp(up{process="booking"} == 1)')["result"]
    return any(float(line["value"][1]) > instant for line in result)


def found(prometheus: Prometheus, query: str) -> bool:
    """Tell whether a query finds a number."""
    result = prometheus.ask("query", query=query.replace("$__rate_interval", RATE_INTERVAL))["result"]
    return any(math.isfinite(float(line["value"][1])) for line in result)


def test_every_process_is_scraped(prometheus: Prometheus) -> None:
    wanted = {process.name for process in table.PROCESSES if process.has_metrics}

    def up() -> bool:
        return {line["metric"]["process"] for line in prometheus.ask("query", query="up == 1")["result"]} == wanted

    eventually(up, timeout_s=60)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_every_query_of_the_dashboard_finds_data_after_the_demo(prometheus: Prometheus, panel: Panel) -> None:
    for query, _ in panel.queries:
        eventually(partial(found, prometheus, query), timeout_s=60)


OF_A_BUSY_MACHINE = {"ErrorRate", "SlowJoins", "RateLimiterDown"}


def test_every_rule_can_be_evaluated_and_none_fires_without_a_fault(prometheus: Prometheus) -> None:
    def evaluated() -> bool:
        [group] = prometheus.ask("rules")["groups"]
        return all(rule["health"] == "ok" for rule in group["rules"])

    eventually(evaluated, timeout_s=60)
    [group] = prometheus.ask("rules")["groups"]
    assert {rule["name"] for rule in group["rules"] if rule["state"] == "firing"} <= OF_A_BUSY_MACHINE
