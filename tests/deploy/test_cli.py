"""The commands: each refusal is one clear sentence with exit code 2, never a traceback."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.env_files import read
from deploy.names import SERVICE_NAMES
from deploy.secret_files import Addresses, write
from libs.common.ids import new_id
from libs.contracts.principals import Role
from tests.admin.builders import an_account, fail_to_sign_in, refresh, set_factor, sign_in, signed_in, trail
from tests.conftest import Cluster
from tests.notify.builders import a_join, message
from tests.world import KEYS, World, bearer, eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HALLPASS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the variables of a file of `make secrets` into the environment, with changes."""
    write(tmp_path / "secrets", Addresses("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"))

    def use(file: str, **changes: str) -> None:
        for name, value in (read(tmp_path / "secrets" / f"{file}.env") | changes).items():
            monkeypatch.setenv(name, value)

    return use


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Carry the command out, which has to be refused; return the one line it says."""
    code = main(words)

    said = capsys.readouterr().err.strip()
    assert code == 2, said
    assert said.count("\n") == 0, said
    return said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["api", "booking"], "HALLPASS_DATABASE_URL"),
        (["events", "catalog"], "HALLPASS_DATABASE_URL"),
        (["republish", "catalog"], "HALLPASS_DATABASE_URL"),
        (["worker"], "HALLPASS_DATABASE_URL"),
        (["beat"], "HALLPASS_REDIS_URL"),
        (["migrate"], "HALLPASS_SUPERUSER_DATABASE_URL"),
        (["task", "admin.upkeep"], "HALLPASS_DATABASE_URL"),
        (["unlock", "admin"], "HALLPASS_DATABASE_URL"),
        (["rescue", "admin"], "HALLPASS_DATABASE_URL"),
        (["dead-letters", "list", "notify.events"], "HALLPASS_DATABASE_URL"),
        (["task", "nothing"], "There is no task nothing"),
        (["front", "--upstream", "elsewhere=http://x"], "--upstream elsewhere"),
    ],
)
def test_a_command_names_the_setting_that_is_missing(
    capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    assert named in refusal(capsys, *words)


@pytest.mark.parametrize(
    ("service", "changes", "named"),
    [
        ("booking", {"HALLPASS_REDIS_URL": ""}, "HALLPASS_REDIS_URL"),
        ("booking", {"HALLPASS_BOOKING_HASH_KEY": "short"}, "HALLPASS_HASH_KEY"),
        ("booking", {"HALLPASS_BOOKING_DATA_KEYS": "[]"}, "HALLPASS_DATA_KEYS"),
        ("booking", {"HALLPASS_USER_TOKEN_KEYS": '[{"kty": "oct", "k": "changeme"}]'}, "HALLPASS_USER_TOKEN_KEYS"),
        ("booking", {"HALLPASS_USER_TOKEN_KEYS": "no json"}, "booking"),
        ("admin", {"HALLPASS_ADMIN_STAFF_TOKEN_KEYS": "[]"}, "STAFF_TOKEN_KEYS"),
        ("notify", {"HALLPASS_NOTIFY_DATABASE_URL": "nonsense"}, "notify"),
        ("catalog", {"HALLPASS_LOG_LEVEL": "LOUD"}, "HALLPASS_LOG_LEVEL"),
    ],
)
def test_outside_embedded_mode_weak_or_broken_settings_are_refused(
    capsys: pytest.CaptureFixture[str],
    settings_of: Callable[..., None],
    service: str,
    changes: dict[str, str],
    named: str,
) -> None:
    settings_of(service, **changes)

    assert named in refusal(capsys, "api", service)


def test_a_port_that_is_taken_is_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], settings_of: Callable[..., None]
) -> None:
    settings_of("catalog")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = refusal(capsys, "api", "catalog", "--port", str(port))

    assert f"Port {port} of 127.0.0.1" in said


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"HALLPASS_SUPERUSER_DATABASE_URL": "sqlite://"}, "HALLPASS_SUPERUSER_DATABASE_URL"),
        ({"HALLPASS_CATALOG_DATABASE_URL": "postgresql+psycopg://boss:x@h/hallpass"}, "as hallpass_catalog"),
        ({"HALLPASS_CATALOG_DATABASE_URL": "postgresql+psycopg://hallpass_catalog@h/hallpass"}, "no password"),
        ({"HALLPASS_CATALOG_DATABASE_URL": "postgresql+psycopg://hallpass_catalog:x@h/other"}, "different databases"),
    ],
)
def test_migrating_refuses_urls_that_do_not_fit_together(
    capsys: pytest.CaptureFixture[str], settings_of: Callable[..., None], changes: dict[str, str], named: str
) -> None:
    settings_of("migrate", **changes)

    assert named in refusal(capsys, "migrate")


def test_migrating_makes_everything_once_and_shows_the_first_password_once(
    cluster: Cluster,
    settings_of: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from deploy.bootstrap import login_url
    from tests.world import PASSWORDS

    superuser, database = cluster.postgres.superuser_url(), f"migrated_{os.getpid()}"
    monkeypatch.setenv("HALLPASS_SUPERUSER_DATABASE_URL", superuser)
    for name, password in PASSWORDS.items():
        url = login_url(superuser, name, password, database=database)
        monkeypatch.setenv(f"HALLPASS_{name.upper()}_DATABASE_URL", url)

    first = main(["migrate", "--password-file", str(tmp_path / "first-password")])
    shown = capsys.readouterr().out
    second = main(["migrate"])

    password = (tmp_path / "first-password").read_text().strip()
    assert (first, second) == (0, 0)
    assert password in shown
    assert "password" not in capsys.readouterr().out
    cluster.statement(f"DROP DATABASE {database} WITH (FORCE)")


def test_a_file_of_settings_that_can_not_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "--env-file", str(tmp_path / "none.env"), "task", "admin.upkeep")

    assert "none.env can't be read as a file of settings" in said


def test_a_task_can_be_done_by_hand(
    world: World, settings_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    url = world.runtimes["admin"].settings.database_url.get_secret_value()
    settings_of("admin", HALLPASS_ADMIN_DATABASE_URL=url)

    code = main(["task", "admin.upkeep"])

    assert code == 0
    assert "admin.upkeep: {" in capsys.readouterr().out


def test_an_operator_unlocks_an_account(
    world: World, settings_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    url = world.runtimes["admin"].settings.database_url.get_secret_value()
    settings_of("admin", HALLPASS_ADMIN_DATABASE_URL=url)
    an_account(world, "lin")
    fail_to_sign_in(world, "lin", times=5)
    locked = sign_in(world, "lin")

    code = main(["unlock", "Lin"])

    assert code == 0
    assert "Lin can sign in again" in capsys.readouterr().out
    assert (locked.status_code, sign_in(world, "lin").status_code) == (429, 201)
    [record] = trail(world, action="staff.unlocked")
    assert record["actor_name"] == "operator"
    assert "There is no account nobody" in refusal(capsys, "unlock", "nobody")


def test_an_operator_rescues_an_account_that_lost_everything(
    world: World, settings_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    url = world.runtimes["admin"].settings.database_url.get_secret_value()
    settings_of("admin", HALLPASS_ADMIN_DATABASE_URL=url)
    an_account(world, "lin", role=Role.SUPER_ADMIN)
    mine = signed_in(world, "lin")
    _, on = set_factor(world, mine["headers"])
    fail_to_sign_in(world, "lin", times=5)

    code = main(["rescue", "Lin"])

    said = re.search(r"with the password (\S+),", capsys.readouterr().out)
    assert code == 0
    assert said is not None
    assert signed_in(world, "lin", said[1])["staff"]["owes"] == "change_password"
    assert refresh(world, mine["refresh_token"]).status_code == 401
    assert world.client.get("/api/admin/me", headers=bearer(on["token"])).status_code == 401
    [record] = trail(world, action="staff.rescued")
    assert record["actor_name"] == "operator"
    assert "There is no account nobody" in refusal(capsys, "rescue", "nobody")


def test_what_a_service_owns_can_be_published_again(
    world: World, settings_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    url = world.runtimes["admin"].settings.database_url.get_secret_value()
    settings_of("admin", HALLPASS_ADMIN_DATABASE_URL=url)

    code = main(["republish", "admin"])

    assert code == 0
    assert "0 events of admin" in capsys.readouterr().out


def test_dead_letters_are_listed_without_what_they_hold_and_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = world.runtimes["notify"].settings.database_url.get_secret_value()
    monkeypatch.setenv("HALLPASS_MODE", "embedded")
    monkeypatch.setenv("HALLPASS_NOTIFY_DATABASE_URL", url)
    monkeypatch.setenv("HALLPASS_NOTIFY_DATA_KEYS", json.dumps(KEYS["data_keys"]))
    sound = message(a_join().booked())
    broken = sound.model_copy(update={"id": new_id(), "data": {"join_id": "张三 13800138000"}})
    [queue] = [queue for queue in world.queues if queue.consumer.name == "notify.events"]
    queue.put([broken])
    eventually(lambda: not queue.consume_once() and queue.parked())
    capsys.readouterr()  # what the failing consumer has logged

    assert main(["dead-letters", "list", "notify.events"]) == 0
    listed = capsys.readouterr().out
    assert refusal(capsys, "dead-letters", "replay", "notify.events", "--id", sound.id).endswith(f"no {sound.id}.")
    assert queue.waiting() == 0
    assert main(["dead-letters", "replay", "notify.events", "--id", broken.id]) == 0

    assert listed.startswith(f"{broken.id}\tjoin.booked\t{broken.subject}\t20")
    assert "version: Field required" in listed
    assert "13800138000" not in listed
    assert "1 messages are on their way" in capsys.readouterr().out
    assert (queue.waiting(), queue.parked()) == (1, [])

    eventually(lambda: not queue.consume_once() and queue.parked())
    capsys.readouterr()
    assert "--reason" in refusal(capsys, "dead-letters", "drop", "notify.events", "--id", broken.id)
    assert main(["dead-letters", "drop", "notify.events", "--id", broken.id, "--reason", "an older release"]) == 0

    assert "1 messages to notify.events are gone" in capsys.readouterr().out
    assert (queue.waiting(), queue.parked()) == (0, [])
    world.settle()
    trail = world.client.get("/api/admin/audit?action=dead_letter", headers=world.staff()).json()["items"]
    assert [(each["action"], each["actor_name"], each["reason"]) for each in trail] == [
        ("dead_letter.dropped", "operator", "an older release"),
        ("dead_letter.replayed", "operator", ""),
    ]


def test_a_wrong_consumer_is_told_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "admin.events, admin.sign_outs, booking.events" in refusal(capsys, "dead-letters", "list", "nobody")


def test_a_missing_package_is_told_in_one_sentence() -> None:
    # In a process of its own: what was imported once can't be missed any more.
    without = "import sys; sys.modules['psycopg'] = None; from deploy.cli import main; sys.exit(main(['run']))"
    done = subprocess.run([sys.executable, "-c", without], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 2
    assert done.stderr.startswith("The package psycopg is missing")
    assert done.stderr.count("\n") == 1


def test_an_old_python_is_told_so_before_it_reads_anything_new() -> None:
    pretend = "import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_module('deploy', run_name='__main__')"

    done = subprocess.run([sys.executable, "-c", pretend], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "needs Python 3.11 or newer, and this is 3.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_is_not_made_by_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\ncase $* in *version_info?\\<*) exit 1;; esac\necho this machine has 3.9\n")
    old.chmod(0o755)
    shell = {"PATH": f"{tmp_path}:/nowhere", "PYTHON": ""}
    script = tmp_path / "deploy" / "venv.sh"
    script.parent.mkdir()
    script.write_bytes((ROOT / "deploy" / "venv.sh").read_bytes())
    for program in ("dirname", "cmp", "sh"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")

    done = subprocess.run(["/bin/sh", str(script)], env=shell, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == (
        "Hallpass needs Python 3.11 or newer, and this machine has 3.9: "
        "install a newer one, or let PYTHON name its program.\n"
    )


def test_every_service_is_offered_by_the_commands() -> None:
    for name in SERVICE_NAMES:
        with pytest.raises(SystemExit) as ended:
            main(["api", name, "--help"])
        assert ended.value.code == 0
