"""Each alert fires on its fault, and on nothing else: the rules as Prometheus itself evaluates them (promtool)."""

import re
import subprocess
from pathlib import Path

import pytest

from deploy import table
from tests.deploy import rules
from tests.deploy.rules import ALERTS, ROOT, RULES

LASTS_MINUTES = 30

BOOKING = 'service="booking"'
JOINS = f'hallpass_http_request_seconds_bucket{{{BOOKING},method="POST",route="/joins"'
OF_JOBS = 'service="admin",kind="export"'
NIGHTLY = 'hallpass_tasks_total{service="notify",task="notify.recount"'
CONSUMER = 'service="notify",consumer="notify.events"'

# A healthy installation: what each number does in a minute, half an hour long.
HEALTHY = {
    **{f'up{{process="{process.name}",instance="one"}}': "1" for process in table.PROCESSES if process.has_metrics},
    'up{process="booking",instance="two"}': "1",
    f'hallpass_http_requests_total{{{BOOKING},status="201"}}': "0+600",
    f'hallpass_http_requests_total{{{BOOKING},status="409"}}': "0+300",  # refusals are no errors
    f'hallpass_http_requests_total{{{BOOKING},status="503"}}': "0+3",
    f'{JOINS},le="0.1"}}': "0+594",
    f'{JOINS},le="1"}}': "0+600",
    f'{JOINS},le="2.5"}}': "0+600",
    f'{JOINS},le="+Inf"}}': "0+600",
    f"hallpass_inventory_divergence{{{BOOKING}}}": "0",
    f"hallpass_outbox_oldest_seconds{{{BOOKING}}}": "1",
    f"hallpass_queue_messages{{{CONSUMER}}}": "40",
    f"hallpass_dead_letters{{{CONSUMER}}}": "0",
    'hallpass_deliveries_total{service="notify",channel="wechat",result="sent"}': "0+90",
    'hallpass_deliveries_total{service="notify",channel="wechat",result="failed"}': "0+10",
    'hallpass_deliveries_total{service="notify",channel="wechat",result="lost"}': "4",
    'hallpass_stat_differences_total{service="notify",kind="slot"}': "2",
    'hallpass_deliveries_pending{service="notify",channel="wechat"}': "30",
    'hallpass_deliveries_retrying{service="notify",channel="wechat"}': "3",
    'hallpass_deliveries_total{service="notify",channel="webhook",result="sent"}': "0+3",
    'hallpass_deliveries_total{service="notify",channel="webhook",result="failed"}': "0+1",
    'hallpass_deliveries_retrying{service="notify",channel="webhook"}': "40",  # one of many receivers is away
    'hallpass_deliveries_pending{service="notify",channel="webhook"}': "0+100",
    'hallpass_reminders_overdue_seconds{service="notify"}': "20",
    f'hallpass_counter_state{{{BOOKING},state="trusted"}}': "1",
    f'hallpass_counter_state{{{BOOKING},state="down"}}': "0",
    f'hallpass_counter_state{{{BOOKING},state="asked"}}': "0",
    f"hallpass_rate_limiter_down_total{{{BOOKING}}}": "4",
    f'hallpass_jobs_oldest_seconds{{{OF_JOBS},state="queued"}}': "30",
    f'hallpass_jobs_oldest_seconds{{{OF_JOBS},state="running"}}': "1200",
    'hallpass_tasks_total{service="booking",task="booking.find",result="done"}': "0+6",
    'hallpass_tasks_total{service="booking",task="booking.find",result="failed"}': "2",
    f'{NIGHTLY},result="done"}}': "0x5 1x25",
    f'{NIGHTLY},result="failed"}}': "0",
    'hallpass_database_connections{service="booking",instance="one"}': "12",
    'hallpass_database_connections_limit{service="booking",instance="one"}': "20",
}
# Its fault: what of it is otherwise then.
FAULTS: dict[str, dict[str, str]] = {
    "ProcessDown": {'up{process="booking",instance="two"}': "0"},
    "ErrorRate": {f'hallpass_http_requests_total{{{BOOKING},status="503"}}': "0+60"},
    "SlowJoins": {f'{JOINS},le="0.1"}}': "0+300", f'{JOINS},le="1"}}': "0+560"},
    "InventoryDiverges": {f"hallpass_inventory_divergence{{{BOOKING}}}": "1"},
    "OutboxStuck": {f"hallpass_outbox_oldest_seconds{{{BOOKING}}}": "0+60"},
    "QueueLag": {f"hallpass_queue_messages{{{CONSUMER}}}": "0+400"},
    "DeadLetters": {f"hallpass_dead_letters{{{CONSUMER}}}": "1"},
    "DeliveriesFail": {'hallpass_deliveries_total{service="notify",channel="wechat",result="failed"}': "0+60"},
    "DeliveriesWait": {'hallpass_deliveries_pending{service="notify",channel="wechat"}': "4000"},
    "DeliveriesLost": {'hallpass_deliveries_total{service="notify",channel="wechat",result="lost"}': "4x20 5x10"},
    "StatsDiffer": {'hallpass_stat_differences_total{service="notify",kind="slot"}': "0x20 1x10"},
    "RemindersOverdue": {'hallpass_reminders_overdue_seconds{service="notify"}': "0+60"},
    "CountersDown": {
        f'hallpass_counter_state{{{BOOKING},state="trusted"}}': "0",
        f'hallpass_counter_state{{{BOOKING},state="down"}}': "1",
    },
    "RateLimiterDown": {f"hallpass_rate_limiter_down_total{{{BOOKING}}}": "0+5"},
    "JobsStuck": {f'hallpass_jobs_oldest_seconds{{{OF_JOBS},state="queued"}}': "0+60"},
    "TasksFail": {'hallpass_tasks_total{service="booking",task="booking.find",result="failed"}': "0+1"},
    "NoTasks": {'hallpass_tasks_total{service="booking",task="booking.find",result="done"}': "60"},
    "ConnectionsExhausted": {'hallpass_database_connections{service="booking",instance="one"}': "20"},
}
# The same number may be told by several processes, and a fault may be over: these fire for nobody.
HARMLESS: dict[str, dict[str, str]] = {
    "a restart": {'up{process="booking",instance="two"}': "1 0 1x28"},
    "a burst that is consumed": {f"hallpass_queue_messages{{{CONSUMER}}}": "0 9000 3000 0x27"},
    "a slow minute": {f'{JOINS},le="1"}}': "0 550 1150+600x28", f'{JOINS},le="0.1"}}': "0 500 1094+594x28"},
    "a task that failed once and is done again": {
        f'{NIGHTLY},result="done"}}': "0x12 1x18",
        f'{NIGHTLY},result="failed"}}': "0x10 1x20",
    },
    "a number that nobody knows": {f"hallpass_dead_letters{{{CONSUMER}}}": "NaN"},
    "an installation without visitors": dict.fromkeys((name for name in HEALTHY if "http_request" in name), "7"),
}


@pytest.fixture(scope="module", autouse=True)
def promtool_is_there() -> None:
    rules.ensure_promtool()


def fired(folder: Path, otherwise: dict[str, str]) -> dict[str, int]:
    """Return which alerts fire at the end of half an hour, and in how many places."""
    return rules.fired(folder, HEALTHY | otherwise, minutes=LASTS_MINUTES)


def test_a_process_of_which_nothing_is_left_is_missed(tmp_path: Path) -> None:
    for process in table.PROCESSES:
        if process.has_metrics:
            mine = [name for name in HEALTHY if name.startswith(f'up{{process="{process.name}",')]

            assert fired(tmp_path, dict.fromkeys(mine, "_")) == {"ProcessDown": 1}


def test_the_rules_are_sound() -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, timeout=120)

    assert checked.returncode == 0, checked.stderr


def test_a_healthy_installation_wakes_nobody(tmp_path: Path) -> None:
    assert fired(tmp_path, {}) == {}


def test_every_alert_has_its_fault() -> None:
    assert set(FAULTS) == set(RULES)


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_on_its_fault_and_no_other_does(tmp_path: Path, alert: str) -> None:
    assert fired(tmp_path, FAULTS[alert]) == {alert: 1}


def test_workers_that_have_counted_nothing_yet_do_nothing(tmp_path: Path) -> None:
    tasks = [name for name in HEALTHY if name.startswith("hallpass_tasks_total")]

    assert fired(tmp_path, dict.fromkeys(tasks, "_")) == {"NoTasks": 1}


def test_a_task_of_each_night_that_fails_once_is_told(tmp_path: Path) -> None:
    fault = {f'{NIGHTLY},result="done"}}': "7", f'{NIGHTLY},result="failed"}}': "0x20 1x10"}

    assert fired(tmp_path, fault) == {"TasksFail": 1}


def test_an_installation_whose_workers_are_not_scraped_is_not_missed_for_its_tasks(tmp_path: Path) -> None:
    unknown = [name for name in HEALTHY if name.startswith(("hallpass_tasks_total", 'up{process="worker"'))]

    assert fired(tmp_path, dict.fromkeys(unknown, "_")) == {"ProcessDown": 1}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_over_or_unknown_wakes_nobody(tmp_path: Path, what: str) -> None:
    assert fired(tmp_path, HARMLESS[what]) == {}


@pytest.mark.parametrize("alert", RULES)
def test_who_is_woken_finds_what_to_do(alert: str) -> None:
    file, _, anchor = RULES[alert]["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (\w+)$", (ROOT / file).read_text(), flags=re.MULTILINE)

    assert alert in headings
    assert anchor == alert.lower()
    assert RULES[alert]["annotations"]["summary"]
    assert RULES[alert]["labels"]["severity"] in ("page", "warn")
