"""What rules and panels ask for, the code counts: under the same names, and from the start."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from deploy import dashboard
from libs.common import tasks
from libs.common.service import Runtime
from tests.deploy.rules import ROOT, RULES
from tests.world import World

PARTS = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
}
ASKING = {f"alert {name}": rule["expr"] for name, rule in RULES.items()} | {
    f"panel {panel.title}": " ".join(query for query, _ in panel.queries) for panel in dashboard.panels()
}


def counted(runtimes: dict[str, Runtime]) -> Iterator[str]:
    """The names under which Prometheus finds what the code counts, or reads from its tables."""
    for metric in REGISTRY.collect():
        yield from (metric.name + part for part in PARTS.get(metric.type, ()))
    for runtime in runtimes.values():
        with runtime.db.transaction() as session:
            yield from {measure.name for measure in runtime.service.measures(session)}


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:hallpass|process)_\w+", expression))


def test_rules_and_panels_ask_for_nothing_that_nobody_counts(world: World) -> None:
    known = set(counted(world.runtimes))

    assert {where: named(asked) - known for where, asked in ASKING.items() if named(asked) - known} == {}


def test_every_metric_is_described_and_nothing_else_is(world: World) -> None:
    table = (ROOT / "docs" / "operations.md").read_text().partition("### Metrics")[2].partition("###")[0]
    known = {name for name in counted(world.runtimes) if name.startswith("hallpass_")}

    described = named(table)

    assert described <= known | {name.removesuffix("_count") for name in known if name.endswith("_count")}
    assert {name for name in known if not name.endswith(PARTS["histogram"])} <= described


@pytest.mark.parametrize("panel", dashboard.panels(), ids=lambda panel: panel.title)
def test_no_panel_makes_up_a_number_where_there_is_none(panel: dashboard.Panel) -> None:
    assert [query for query, _ in panel.queries if "vector(" in query] == []


def test_what_senders_recounts_and_counters_count_is_there_before_anything_has_happened(world: World) -> None:
    notify = world.runtimes["notify"]
    notify.service.loops(notify)

    for result in ("sent", "failed", "retried", "lost", "overtaken"):
        labels = {"service": "notify", "channel": "sms", "result": result}
        assert REGISTRY.get_sample_value("hallpass_deliveries_total", labels) is not None
    assert (
        REGISTRY.get_sample_value("hallpass_counter_asks_total", {"service": "booking", "outcome": "full"}) is not None
    )


def test_every_task_of_a_worker_is_counted_before_it_has_run(world: World) -> None:
    tasks.celery_app("redis://nowhere", [*world.runtimes.values()])

    for runtime in world.runtimes.values():
        for task in runtime.service.tasks:
            for result in ("done", "failed"):
                labels = {"service": runtime.service.name, "task": task.name, "result": result}
                assert REGISTRY.get_sample_value("hallpass_tasks_total", labels) is not None
