"""What operators see of exports and imports: how many there are in each state, and how long the oldest one waits or runs."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from libs.common.clock import utcnow
from libs.common.metrics import Measure
from services.admin.models import ExportJob, ImportJob
from services.admin.policy import ExportState, ImportState

KINDS: dict[str, tuple[Any, type[StrEnum]]] = {"export": (ExportJob, ExportState), "import": (ImportJob, ImportState)}
AGES = ("queued", "running")


def measures(session: Session) -> Iterator[Measure]:
    now = utcnow()
    for kind, (table, states) in KINDS.items():
        since = func.min(func.coalesce(table.begun_at, table.asked_at))
        found = {row[0]: row for row in session.execute(select(table.state, func.count(), since).group_by(table.state))}
        for state in states:
            _, count, oldest = found.get(state, (state, 0, now))
            labels = {"kind": kind, "state": state.value}
            yield Measure("hallpass_jobs", "Exports and imports by state", count, labels)
            if state in AGES:
                age = max(0.0, (now - oldest).total_seconds())
                yield Measure("hallpass_jobs_oldest_seconds", "Since the oldest was asked for or begun", age, labels)
