"""`make up-native` and `make down-native` as a person has them."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx2
import pytest

from deploy.parts import ROOT
from deploy.servers.process import free_port
from tests.distributed.town import Town
from tests.world import eventually

pytestmark = pytest.mark.xdist_group("native-commands")


class Commands:
    """Both commands, for one folder and one port."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.address = f"http://127.0.0.1:{free_port()}"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HALLPASS_")} | {
            "HALLPASS_NATIVE_DATA": str(data),
            "HALLPASS_PORT": self.address.rpartition(":")[2],
            "HALLPASS_DEV_SIGN_IN": "true",
            "LC_ALL": "C.UTF-8",
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.native", command],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=280,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.run("down")


@pytest.fixture
def commands(servers_are_there: None, tmp_path: Path) -> Iterator[Commands]:
    with Commands(tmp_path / "native") as commands:
        yield commands


def test_up_starts_everything_in_the_background_and_down_stops_it_with_the_data_kept(commands: Commands) -> None:
    started = commands.run("up")

    assert started.returncode == 0, started.stderr
    [password] = re.findall(r"password (\S+) \(shown this once", started.stdout)
    town = Town(commands.address, password)
    eventually(town.is_well)
    slot, user = town.slot(), town.user()
    join = town.book(user, slot)

    again = commands.run("up")

    assert again.returncode == 2
    assert "runs from" in again.stderr
    assert "`make down-native` stops it" in again.stderr

    stopped = commands.run("down")

    assert stopped.returncode == 0, stopped.stderr
    assert "the data stays in" in stopped.stdout
    with pytest.raises(httpx2.ConnectError):
        town.health()

    restarted = commands.run("up")

    assert restarted.returncode == 0, restarted.stderr
    assert password not in restarted.stdout
    assert [found["id"] for found in town.found("booking/joins", user)["items"]] == [join]


def test_down_where_nothing_runs_says_so(commands: Commands) -> None:
    stopped = commands.run("down")

    assert stopped.returncode == 0
    assert "Nothing runs from" in stopped.stdout


def test_a_port_that_is_taken_is_told_in_one_sentence_and_leaves_nothing_running(commands: Commands) -> None:

    with socket.create_server(("127.0.0.1", int(commands.address.rpartition(":")[2]))):
        refused = commands.run("up")

    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "HALLPASS_PORT" in refused.stderr
    assert "Nothing runs from" in commands.run("down").stdout
