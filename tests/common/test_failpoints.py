"""Failpoints: a process dies at the armed place, once, and nowhere else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.parts import ROOT
from libs.common.failpoints import VARIABLE
from libs.common.settings import SettingsError
from services.booking.resources import BookingSettings

PASSES_TWO_PLACES = """
from libs.common import failpoints
failpoints.reach("count.before")
print("counted", flush=True)
failpoints.reach("count.after")
print("done", flush=True)
"""


def _run(armed: str | None) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", PASSES_TWO_PLACES],
        cwd=ROOT,
        env=environment | ({} if armed is None else {VARIABLE: armed}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_nothing_happens_where_nothing_is_armed() -> None:
    assert _run(None) == (0, "counted\ndone\n")


def test_a_process_dies_at_the_armed_place_and_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "hit"

    died = _run(f"count.after:{file}")

    assert died == (-signal.SIGKILL, "counted\n")
    assert file.exists()


def test_it_dies_once(tmp_path: Path) -> None:
    armed = f"count.before:{tmp_path / 'hit'}"

    assert _run(armed) == (-signal.SIGKILL, "")
    assert _run(armed) == (0, "counted\ndone\n")


def test_a_place_that_is_not_on_the_way_kills_nobody(tmp_path: Path) -> None:
    file = tmp_path / "hit"

    assert _run(f"count.between:{file}") == (0, "counted\ndone\n")
    assert not file.exists()


def test_the_distributed_run_does_not_start_with_a_failpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "count.before:hit")

    with pytest.raises(SettingsError, match="HALLPASS_FAILPOINT is for tests"):
        BookingSettings.load(
            database_url="postgresql+psycopg://nobody@/nothing",
            data_keys=[{"kid": "a", "k": "A" * 43}],
            hash_key="A" * 43,
            user_token_keys=[{"kid": "a"}],
        )
