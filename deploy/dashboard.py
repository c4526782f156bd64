"""The Grafana dashboard, as a table of panels; `python -m deploy.dashboard` writes its JSON, and a test holds that to it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FILE = Path(__file__).parent / "grafana" / "dashboards" / "hallpass.json"
SOURCE = {"type": "prometheus", "uid": "prometheus"}  # as deploy/grafana/provisioning/datasources names it
WIDTH, HEIGHT = 24, 8

Unit = Literal["reqps", "s", "short", "percentunit", "none"]


@dataclass(frozen=True)
class Panel:
    """A graph: what stands over it, and the queries with what each line is called.

    `in_row`: how many such stand beside each other.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: Unit = "short"
    in_row: int = 3


def _p99(of: str, by: str) -> str:
    return f"histogram_quantile(0.99, sum by (le, {by}) (rate({of}_bucket[$__rate_interval])))"


_REQUESTS = "hallpass_http_requests_total"
_JOIN = 'hallpass_http_request_seconds_bucket{service="booking", method="POST", route="/joins"}[$__rate_interval]'

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Joins 预约",
        (
            Panel(
                "Joins by outcome 结果",
                (("sum by (outcome) (rate(hallpass_joins_total[$__rate_interval]))", "{{outcome}}"),),
                "reqps",
            ),
            Panel(
                "Refusals by code 拒绝原因",
                (
                    (
                        'sum by (code) (rate(hallpass_joins_total{outcome!~"booked|cancelled|moved"}[$__rate_interval]))',
                        "{{code}}",
                    ),
                ),
                "reqps",
            ),
            Panel(
                "POST joins: time 用时",
                tuple((f"histogram_quantile({q}, sum by (le) (rate({_JOIN})))", f"p{q * 100:g}") for q in (0.5, 0.99)),
                "s",
            ),
            Panel(
                "Group size 合并提交",
                (
                    (
                        "sum(rate(hallpass_group_size_sum[$__rate_interval]))"
                        " / sum(rate(hallpass_group_size_count[$__rate_interval]))",
                        "mean",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(hallpass_group_size_bucket[$__rate_interval])))",
                        "p99",
                    ),
                ),
            ),
            Panel(
                "Atomic counters 计数器",
                (
                    ("sum by (state) (hallpass_counter_state)", "{{state}}"),
                    (
                        "sum by (outcome) (rate(hallpass_counter_asks_total[$__rate_interval]))",
                        "ask: {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Inventory that differs 库存差异 (0)",
                (("max by (service) (hallpass_inventory_divergence)", "{{service}}"),),
            ),
        ),
    ),
    (
        "Requests 请求",
        (
            Panel(
                "Requests 请求量",
                (("sum by (service) (rate(hallpass_http_requests_total[$__rate_interval]))", "{{service}}"),),
                "reqps",
            ),
            Panel(
                "Errors (5xx) 错误率",
                (
                    (
                        f'(sum by (service) (rate({_REQUESTS}{{status=~"5.."}}[$__rate_interval]))'
                        f" or sum by (service) (rate({_REQUESTS}[$__rate_interval])) * 0)"
                        f" / sum by (service) (rate({_REQUESTS}[$__rate_interval]))",
                        "{{service}}",
                    ),
                ),
                "percentunit",
            ),
            Panel("p99 by service 用时", ((_p99("hallpass_http_request_seconds", "service"), "{{service}}"),), "s"),
            Panel(
                "Slowest routes (p99) 最慢接口",
                (
                    (
                        f"topk(10, {_p99('hallpass_http_request_seconds', 'service, method, route')})",
                        "{{method}} {{service}}{{route}}",
                    ),
                ),
                "s",
                in_row=2,
            ),
            Panel(
                "Problems by code 问题代码",
                (
                    (
                        "topk(10, sum by (service, code) (rate(hallpass_problems_total[$__rate_interval])))",
                        "{{service}} {{code}}",
                    ),
                ),
                "reqps",
                in_row=2,
            ),
        ),
    ),
    (
        "Events 事件",
        (
            Panel(
                "Outbox: oldest 发件箱最早事件",
                (("max by (service) (hallpass_outbox_oldest_seconds)", "{{service}}"),),
                "s",
            ),
            Panel("Outbox 发件箱", (("max by (service) (hallpass_outbox_pending)", "{{service}}"),)),
            Panel(
                "Published 已发布",
                (("sum by (service) (rate(hallpass_events_published_total[$__rate_interval]))", "{{service}}"),),
                "reqps",
            ),
            Panel("Waiting in queues 队列", (("max by (consumer) (hallpass_queue_messages)", "{{consumer}}"),)),
            Panel(
                "From fact to effect (p99) 延迟",
                ((_p99("hallpass_event_lag_seconds", "consumer"), "{{consumer}}"),),
                "s",
            ),
            Panel("Dead letters 死信 (0)", (("max by (consumer) (hallpass_dead_letters)", "{{consumer}}"),)),
        ),
    ),
    (
        "Telling people 通知",
        (
            Panel(
                "Deliveries 发送",
                (
                    (
                        "sum by (channel, result) (rate(hallpass_deliveries_total[$__rate_interval]))",
                        "{{channel}} {{result}}",
                    ),
                ),
                "reqps",
                in_row=4,
            ),
            Panel(
                "Deliveries that wait 待发送",
                (
                    ("max by (channel) (hallpass_deliveries_pending)", "{{channel}}"),
                    ("max by (channel) (hallpass_deliveries_retrying)", "{{channel}}: again"),
                ),
                in_row=4,
            ),
            Panel(
                "Reminders overdue 提醒逾期",
                (("max(hallpass_reminders_overdue_seconds)", "overdue"),),
                "s",
                in_row=4,
            ),
            Panel("People who wait 候补人数", (("max(hallpass_waits)", "waiting"),), in_row=4),
        ),
    ),
    (
        "Processes 进程",
        (
            Panel("Up 在线", (("sum by (process) (up)", "{{process}}"),), in_row=4),
            Panel(
                "Background tasks 后台任务",
                (("sum by (task, result) (rate(hallpass_tasks_total[$__rate_interval]))", "{{task}} {{result}}"),),
                "reqps",
                in_row=4,
            ),
            Panel(
                "Exports and imports 导出导入",
                (('max by (kind, state) (hallpass_jobs{state=~"queued|running|failed"})', "{{kind}} {{state}}"),),
                in_row=4,
            ),
            Panel(
                "Connections in use 数据库连接",
                (
                    (
                        "max by (service) (hallpass_database_connections / hallpass_database_connections_limit)",
                        "{{service}}",
                    ),
                ),
                "percentunit",
                in_row=4,
            ),
            Panel(
                "Memory 内存", (("sum by (process) (process_resident_memory_bytes)", "{{process}}"),), "none", in_row=2
            ),
            Panel(
                "Processor 处理器",
                (("sum by (process) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{process}}"),),
                in_row=2,
            ),
        ),
    ),
)


def panels() -> list[Panel]:
    return [panel for _, row in ROWS for panel in row]


def document() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    laid_out: list[dict[str, Any]] = []
    x = y = 0
    for title, row in ROWS:
        y += HEIGHT if x else 0
        laid_out.append({"type": "row", "title": title, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y}, "panels": []})
        x, y = 0, y + 1
        for panel in row:
            width = WIDTH // panel.in_row
            if x + width > WIDTH:
                x, y = 0, y + HEIGHT
            laid_out.append(_panel(panel, {"h": HEIGHT, "w": width, "x": x, "y": y}))
            x += width
    return {
        "uid": "hallpass",
        "title": "Hallpass 厅约",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "panels": [{"id": number, **each} for number, each in enumerate(laid_out, start=1)],
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": name}
            for index, (query, name) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
