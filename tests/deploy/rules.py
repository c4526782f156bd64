"""The rules of alerts, as Prometheus itself evaluates them (promtool) over series that a test makes up or has watched."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.servers import install
from deploy.servers.process import ServerError
from tests.require import leave_out

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}


def ensure_promtool() -> None:
    """Install what evaluates rules, or leave the test out."""
    try:
        install.ensure("prometheus")
    except ServerError as error:
        leave_out(str(error))


def fired(folder: Path, series: Mapping[str, str], *, minutes: int) -> dict[str, int]:
    """Return which alerts fire after so many minutes, and in how many places; `series` are as promtool writes them, by the minute."""
    lasting = [{"series": name, "values": _lasting(values, minutes)} for name, values in series.items()]
    wanting = [
        {"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": [{"exp_labels": {"no": "one"}}]} for name in RULES
    ]
    test = {
        "rule_files": [str(ALERTS)],
        "tests": [{"interval": "1m", "input_series": lasting, "alert_rule_test": wanting}],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(test))
    said = subprocess.run(
        ["promtool", "test", "rules", str(file)],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    # Each alert is wrongly expected to fire for {no: one}; promtool says what it does in fact.
    got = re.findall(
        r"alertname: (\w+), time: .*?got:\s*\[(.*?)\]\s*(?=alertname|$)", said.stdout + said.stderr, re.DOTALL
    )
    assert {name for name, _ in got} == set(RULES), said
    return {name: found.count("Labels:") for name, found in got if "Labels:" in found}


def _lasting(values: str, minutes: int) -> str:
    """Repeat to the end what is said of one minute; what is said of all of them stays as it is."""
    if values == "_":
        return f"_x{minutes}"  # nothing is known of it
    if "x" in values or " " in values:
        return values
    return f"{values}x{minutes}" if "+" in values else f"{values}+0x{minutes}"
