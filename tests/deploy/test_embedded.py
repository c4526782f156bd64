"""`make run` as a person has it: real processes, a folder, a port, and what dies or is in the way."""

import os
import re
import shlex
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy import bootstrap
from deploy.embedded import Place, as_login
from deploy.names import Refusal
from tests.admin.exporting import records, sheets
from tests.deploy.installation import START_TIMEOUT_S, Installation
from tests.journeys import back_office
from tests.world import bearer, eventually

# One worker runs all of these: they share an installation.
pytestmark = pytest.mark.xdist_group("embedded")

PROCESSES = {
    "postgres": "postgres -D",
    "valkey": "valkey-server",
    "app": "embedded-app",
    "worker": "worker --pool",
    "export-worker": "worker --queue exports",
}
MEMORY_LIMIT_KB = 680_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that every test leaves running."""
    installation = Installation(tmp_path_factory.mktemp("embedded") / "the data")
    try:
        yield installation.start()
    finally:
        installation.close()


def test_a_first_start_shows_a_password_and_serves_the_demo(running: Installation) -> None:
    assert running.passwords_shown[0] == [running.kept_password]
    assert running.staff(running.kept_password).status_code == 201
    assert len(running.http.get("/api/catalog/halls").json()["items"]) == 3
    assert running.http.get("/api/notify/announcements").json()["items"]
    assert running.free_slots()
    eventually(running.is_well)


def test_the_commands_that_are_printed_can_be_typed_as_they_are(running: Installation) -> None:
    [printed] = re.findall(r"\.venv/bin/python -m deploy (.+)", running.said)
    [asked] = re.findall(r"curl (--unix-socket .+) http://ops", running.said)

    done = running.command(*shlex.split(printed))

    assert done.returncode == 0, done.stderr
    assert "booking.upkeep" in done.stdout
    assert shlex.split(asked) == ["--unix-socket", str(running.data / "ops.sock")]


def test_secrets_and_sockets_are_for_their_owner_alone(running: Installation) -> None:
    for name in ("keys.json", "first-password", "hallpass.env"):
        assert stat.S_IMODE((running.data / name).stat().st_mode) == 0o600
    for name in ("logs", "app", "postgres", "valkey"):
        assert stat.S_IMODE((running.data / name).stat().st_mode) == 0o700
    assert stat.S_IMODE((running.data / "ops.sock").resolve().stat().st_mode) == 0o600
    assert stat.S_IMODE((running.data / "ops.sock").resolve().parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.data.stat().st_mode) & 0o066 == 0


def test_operators_reach_every_service_over_the_private_socket_only(running: Installation) -> None:
    import httpx2

    transport = httpx2.HTTPTransport(uds=str((running.data / "ops.sock").resolve()))
    with httpx2.Client(transport=transport, base_url="http://ops", timeout=60) as operator:
        for service in ("catalog", "booking", "notify", "admin"):
            eventually(partial(_is_ready, operator, service))
            assert f'hallpass_outbox_pending{{service="{service}"}}' in operator.get(f"/{service}/metrics").text
        assert operator.get("/catalog/api/catalog/halls").status_code == 404
    assert running.http.get("/metrics").status_code == 404


@pytest.mark.parametrize("words", [["task", "booking.upkeep"], ["republish", "catalog"]])
def test_what_is_done_by_hand_finds_the_settings_of_the_installation(running: Installation, words: list[str]) -> None:
    done = running.command("--env-file", str(running.data / "hallpass.env"), *words)

    assert done.returncode == 0, done.stderr
    assert words[1] in done.stdout


def test_an_export_is_made_by_its_worker_and_fetched_by_its_link(running: Installation) -> None:
    running.book(running.user("exported visitor"), running.free_slots()[0], "exported")
    staff = bearer(running.staff(running.kept_password).json()["token"])
    asked = running.http.post("/api/admin/exports", json={"kind": "joins", "layout": "one"}, headers=staff)
    at = asked.headers["Location"]

    eventually(lambda: running.http.get(at, headers=staff).json()["state"] == "done", timeout_s=START_TIMEOUT_S)
    url = running.http.post(f"{at}/links", headers=staff).json()["url"]
    found = sheets(running.http.get(url).content)

    assert "测试访客" in [row["姓名"] for row in records(found["预约记录"])]
    assert [path.suffix for path in (running.data / "exports").rglob("*") if path.is_file()] == [".xlsx"]


def test_a_new_hall_is_built_booked_visited_and_exported(running: Installation) -> None:
    back_office.build_and_open(running.http, password=running.kept_password)


def test_the_whole_process_tree_stays_small(running: Installation) -> None:
    used = sum(_memory_kb(pid) for pid in running.tree())

    assert 0 < used < MEMORY_LIMIT_KB


def test_a_second_run_on_the_same_folder_says_so(running: Installation) -> None:
    said = _refusal(Installation(running.data.parent / ".." / running.data.parent.name / running.data.name))

    assert f"in use by another launcher (process {running.pid})" in said


@pytest.mark.parametrize("victim", PROCESSES)
def test_whatever_is_killed_is_started_again_and_nothing_is_lost(running: Installation, victim: str) -> None:
    user = running.user(f"visitor of {victim}")
    slots = running.free_slots()
    before = running.book(user, slots[0], "before")
    pid = running.process(PROCESSES[victim])
    assert pid is not None

    os.kill(pid, signal.SIGKILL)

    eventually(lambda: running.process(PROCESSES[victim]) not in (None, pid), timeout_s=START_TIMEOUT_S)
    assert running.book(user, slots[0], "before") == before
    after = running.book(user, slots[1], "after")
    assert set(running.joins(user)) == {before, after}
    eventually(lambda: sorted(running.notices(user)) == sorted([before, after]), timeout_s=START_TIMEOUT_S)
    eventually(running.is_well, timeout_s=START_TIMEOUT_S)


def test_a_stop_ends_everything_and_a_second_start_goes_on(running: Installation) -> None:
    password = running.kept_password
    user = running.user("returning visitor")
    running.book(user, running.free_slots()[0], "one")
    joins, tree = running.joins(user), running.tree()
    halls = running.http.get("/api/catalog/halls").json()["items"]

    code = running.stop()

    assert code == 0
    assert "Stopped; the data stays in place." in running.said
    eventually(lambda: not [pid for pid in tree if Path(f"/proc/{pid}").exists()])

    running.start()

    assert running.passwords_shown == [[password], []]
    assert password not in running.said
    assert str(running.data / "first-password") in running.said
    assert running.staff(password).status_code == 201
    assert running.joins(running.user("returning visitor")) == joins
    assert running.joins(user) == joins
    assert running.http.get("/api/catalog/halls").json()["items"] == halls


def test_after_the_supervisor_was_killed_the_next_start_works_and_nothing_is_lost(running: Installation) -> None:
    user = running.user("unlucky visitor")
    join = running.book(user, running.free_slots()[0], "one")
    tree = running.tree()

    os.kill(running.pid, signal.SIGKILL)
    running.end()
    running.start()

    assert running.joins(user) == [join]
    eventually(lambda: running.notices(user) == [join], timeout_s=START_TIMEOUT_S)
    eventually(lambda: not [pid for pid in tree if Path(f"/proc/{pid}").exists()], timeout_s=START_TIMEOUT_S)


def test_when_all_are_killed_at_once_the_next_start_works_and_nothing_is_lost(running: Installation) -> None:
    user = running.user("very unlucky visitor")
    join = running.book(user, running.free_slots()[0], "one")

    for pid in [running.pid, *running.tree()]:
        with_luck(pid)
    running.end()
    running.start()

    assert running.joins(user) == [join]
    eventually(lambda: running.notices(user) == [join], timeout_s=START_TIMEOUT_S)


def with_luck(pid: int) -> None:
    """Kill a process that may have gone with another one before."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


# --- what is in the way ---


def test_a_port_that_is_taken_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = _refusal(Installation(tmp_path / "data", port=port))

    assert said.startswith(f"Port {port} of 127.0.0.1 is taken")
    assert "HALLPASS_PORT=" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "place", ["under a file", "without permission"] if os.geteuid() else ["under a file", "where nobody may write"]
)
def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o500)
    folders = {
        "under a file": tmp_path / "file" / "data",
        "without permission": tmp_path / "closed" / "data",
        "where nobody may write": Path("/proc/hallpass"),
    }
    installation = Installation(tmp_path / "data", HALLPASS_DATA=str(folders[place]))

    said = _refusal(installation)

    assert str(folders[place]) in said
    assert "cannot be written" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("HALLPASS_PORT", "many"), ("HALLPASS_PORT", "0"), ("HALLPASS_PORT", "70000"), ("HALLPASS_DEMO", "maybe")],
)
def test_a_setting_that_means_nothing_is_refused(name: str, value: str) -> None:
    with pytest.raises(Refusal, match=f"{name} is '{value}'"):
        Place.from_environment({name: value})


def test_an_unknown_host_is_told_in_one_sentence(tmp_path: Path) -> None:
    said = _refusal(Installation(tmp_path / "data", HALLPASS_HOST="no-such-host.invalid"))

    assert said.startswith("HALLPASS_HOST is 'no-such-host.invalid'")


def test_a_missing_server_program_is_told_in_one_sentence(tmp_path: Path) -> None:
    said = _refusal(Installation(tmp_path / "data", PG_BIN=str(tmp_path)))

    assert said.startswith(f"PG_BIN names {tmp_path}")


def test_lost_keys_are_asked_for_and_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "data" / "postgres" / "cluster").mkdir(parents=True)

    said = _refusal(Installation(tmp_path / "data"))

    assert said.startswith(f"{tmp_path / 'data' / 'keys.json'} is missing")
    assert not (tmp_path / "data" / "keys.json").exists()


def test_a_stop_during_the_start_is_heeded(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "data")
    installation.launch()
    eventually(lambda: (tmp_path / "data" / "keys.json").exists(), timeout_s=START_TIMEOUT_S)

    code = installation.stop()

    assert code == 0
    assert "Stopped" in installation.said
    assert "Traceback" not in installation.said


def test_both_ways_to_spell_a_login_agree() -> None:
    superuser = "postgresql+psycopg://postgres:secret@/postgres?host=/some/where&port=5432"

    light = as_login(superuser.replace("/postgres?", "/hallpass?"), "catalog", "word")

    from sqlalchemy import make_url

    assert make_url(light) == make_url(bootstrap.login_url(superuser, "catalog", "word"))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("hall.example", "http://hall.example:8000"),
    ],
)
def test_the_printed_address_is_one_that_can_be_opened(host: str, address: str) -> None:
    assert Place.from_environment({"HALLPASS_HOST": host}).address == address


def _is_ready(operator: Any, service: str) -> bool:
    return bool(operator.get(f"/{service}/readyz").json()["status"] == "ok")


def _refusal(installation: Installation) -> str:
    """Start what has to be refused; return its one sentence."""
    installation.launch()
    try:
        code = installation.end()
    except subprocess.TimeoutExpired:
        installation.close()
        raise
    said = installation.said.strip().removesuffix("Stopped; the data stays in place.").strip()
    assert code == 2, said
    assert "\n" not in said
    assert not re.search(r"Traceback|Error\b:", said)
    return said


def _memory_kb(pid: int) -> int:
    """Return its share of what no file holds: of programs and libraries it has more where nobody else runs them."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0  # it ended, or belongs to another account
    return sum(int(found) for found in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.MULTILINE))
