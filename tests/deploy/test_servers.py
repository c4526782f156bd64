"""The launchers against the real programs: what they keep, whom they let in, what they leave behind."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest
import redis
from kombu import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.servers import install, postgres, process
from deploy.servers.nginx import Nginx
from deploy.servers.postgres import Postgres
from deploy.servers.process import Child, ServerError, free_port, wait_until
from deploy.servers.rabbitmq import RabbitMQ
from deploy.servers.server import Server
from deploy.servers.valkey import Valkey

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
RUNS_ON = "import sys, time; print('up', flush=True); time.sleep(600)"


# --- the three that keep data, spoken to in one way ---


class Kind(ABC):
    """How a test gives a server a word to keep and asks for the words it has."""

    made_by: type[Server]

    def at(self, data: Path) -> Server:
        return self.made_by(data)

    @abstractmethod
    def put(self, server: Any, word: str) -> None:
        """Return when the server has confirmed the word."""

    @abstractmethod
    def words(self, server: Any) -> set[str]: ...

    def prepare(self, server: Any) -> None:  # noqa: B027  # most need nothing
        """Make the place for the words, so that it survives a crash."""


class PostgresKind(Kind):
    made_by = Postgres

    def put(self, server: Postgres, word: str) -> None:
        with psycopg.connect(libpq_url(server)) as db:
            db.execute("CREATE TABLE IF NOT EXISTS words (word text)")
            db.execute("INSERT INTO words VALUES (%s)", [word])

    def words(self, server: Postgres) -> set[str]:
        with psycopg.connect(libpq_url(server)) as db:
            return {str(word) for (word,) in db.execute("SELECT word FROM words")}


class ValkeyKind(Kind):
    made_by = Valkey

    def put(self, server: Valkey, word: str) -> None:
        with redis.Redis.from_url(server.url) as client:
            client.set(f"word:{word}", "")

    def words(self, server: Valkey) -> set[str]:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            return {key.removeprefix("word:") for key in client.scan_iter("word:*")}


class RabbitMQKind(Kind):
    made_by = RabbitMQ

    def prepare(self, server: RabbitMQ) -> None:
        with channel_of(server) as channel:
            channel.queue_declare("words", durable=True, arguments={"x-queue-type": "quorum"})
        server.sync()

    def put(self, server: RabbitMQ, word: str) -> None:
        with channel_of(server) as channel:
            channel.queue_declare("words", durable=True, arguments={"x-queue-type": "quorum"})
            channel.confirm_delivery()
            channel.basic_publish("", "words", word.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)

    def words(self, server: RabbitMQ) -> set[str]:
        with channel_of(server) as channel:
            found = set()
            while (message := channel.basic_get("words"))[0]:
                found.add(message[2].decode())
            return found  # never acknowledged: they stay


KINDS = {"postgres": PostgresKind(), "valkey": ValkeyKind(), "rabbitmq": RabbitMQKind()}
QUICK = ["postgres", "valkey"]  # show what all have of `Server`; RabbitMQ takes seconds to start


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    name: str = request.param
    if name == "rabbitmq":
        need(name)
    return KINDS[name]


@pytest.fixture
def no_setpriv(tmp_path: Path) -> Path:
    """A PATH with all that the real one has, but not what ties a server's life to its launcher's."""
    folder = tmp_path / "path"
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if program.name != "setpriv":
                with suppress(FileExistsError):
                    (folder / program.name).symlink_to(program)
    return folder


def need(name: str) -> None:
    try:
        install.ensure(name)
    except ServerError as missing:
        pytest.skip(str(missing))


def libpq_url(server: Postgres) -> str:
    return server.superuser_url().replace("+psycopg", "")


@contextmanager
def channel_of(server: RabbitMQ) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    try:
        yield connection.channel()
    finally:
        connection.close()


@contextmanager
def launcher(kind: Kind, data: Path, path: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that has started the server and waits, and the server's pid."""
    made_by = kind.made_by
    script = (
        f"import time; from pathlib import Path; from {made_by.__module__} import {made_by.__name__} as Server\n"
        f"server = Server(Path({str(data)!r})); server.start(); print(server.pid, flush=True); time.sleep(600)"
    )
    environment = os.environ | ({"PATH": str(path)} if path else {})
    running = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout
        yield running, int(running.stdout.readline())
    finally:
        running.kill()
        running.wait()


# --- what all of them promise ---


def test_data_survives_a_restart(kind: Kind, tmp_path: Path) -> None:
    with kind.at(tmp_path / "data") as server:
        kind.put(server, "kept")

    with kind.at(tmp_path / "data") as again:
        assert kind.words(again) == {"kept"}


def test_what_was_confirmed_survives_kill_9(kind: Kind, tmp_path: Path) -> None:
    with kind.at(tmp_path / "data") as server:
        kind.prepare(server)
        kind.put(server, "confirmed")

        server.kill()
        assert not server.is_alive()
        server.start()

        assert kind.words(server) == {"confirmed"}


def test_the_leftover_of_a_killed_launcher_is_replaced(kind: Kind, tmp_path: Path, no_setpriv: Path) -> None:
    server = kind.at(tmp_path / "data")
    with launcher(kind, tmp_path / "data", no_setpriv) as (killed, left):
        killed.kill()
    assert left in server.processes()

    with server:
        kind.put(server, "new")

        assert left not in server.processes()
        assert kind.words(server) == {"new"}


def test_servers_end_when_their_launcher_is_killed(kind: Kind, tmp_path: Path) -> None:
    if not process.find_program("setpriv"):
        pytest.skip("setpriv (util-linux) is not installed")
    with launcher(kind, tmp_path / "data") as (killed, _):
        assert kind.at(tmp_path / "data").processes()
        killed.kill()

    wait_until(lambda: not kind.at(tmp_path / "data").processes(), 60, "the server to end with its launcher")


@pytest.mark.parametrize("kind", QUICK, indirect=True)
def test_a_folder_serves_one_launcher_at_a_time(kind: Kind, tmp_path: Path) -> None:
    with launcher(kind, tmp_path / "data") as (first, serving):
        with pytest.raises(ServerError, match=rf"in use by another launcher \(process {first.pid}\)"):
            kind.at(tmp_path / "data").start()

        assert serving in kind.at(tmp_path / "data").processes()


def test_two_run_side_by_side(kind: Kind, tmp_path: Path) -> None:
    with kind.at(tmp_path / "one") as one, kind.at(tmp_path / "two") as two:
        kind.put(one, "of one")
        kind.put(two, "of two")

        assert kind.words(one) == {"of one"}
        assert kind.words(two) == {"of two"}


def test_starting_twice_is_starting_once_and_nothing_runs_after_stop(kind: Kind, tmp_path: Path) -> None:
    server = kind.at(tmp_path / "data")
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    assert pid in server.processes()
    everything = server.processes()

    server.stop()
    server.stop()

    assert not server.processes()
    assert not any(process.may_work_in(tmp_path, pid, server.programs) for pid in everything)


def test_nobody_else_can_look_inside(kind: Kind, tmp_path: Path) -> None:
    with kind.at(tmp_path / "data") as server:
        kind.put(server, "private")
        files = [path for path in server.data.rglob("*") if not path.is_symlink()]

        assert server.data.stat().st_mode & 0o077 == 0
        assert {path.stat().st_mode & 0o077 for path in files if path.parent == server.data and path.is_file()} == {0}
        assert {path.stat().st_mode & 0o077 for path in files if path.is_socket()} <= {0}
        assert {path.parent.stat().st_mode & 0o077 for path in files if path.is_socket()} <= {0}


@pytest.mark.parametrize("kind", QUICK, indirect=True)
def test_a_server_may_be_started_from_a_thread_that_ends(kind: Kind, tmp_path: Path) -> None:
    server = kind.at(tmp_path / "data")
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()

    try:
        kind.put(server, "still here")
        assert kind.words(server) == {"still here"}
    finally:
        server.stop()


def test_a_folder_that_cannot_be_written_is_named(kind: Kind, tmp_path: Path) -> None:
    parent = Path("/sys") if AS_ROOT else tmp_path / "read-only"
    if not AS_ROOT:
        parent.mkdir(mode=0o500)

    with pytest.raises(ServerError, match=rf"^The folder {parent}/data cannot be written \(.*\): choose another"):
        kind.at(parent / "data").start()


def test_a_folder_of_somebody_else_is_refused(kind: Kind, tmp_path: Path) -> None:
    data = Path("/usr/share")
    if AS_ROOT:
        data = tmp_path / "data"
        data.mkdir()
        os.chown(data, 4242, 4242)

    with pytest.raises(ServerError, match=r"belongs to .*, but this runs as .*: run it as .*, or .*chown -R"):
        kind.at(data).start()


def test_a_file_that_cannot_be_used_is_named(kind: Kind, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if kind.made_by is Postgres:
        (data / "cluster").write_text("where a folder belongs")
    else:
        (data / {Valkey: "valkey.conf", RabbitMQ: "password"}[kind.made_by]).mkdir()

    with pytest.raises(ServerError, match=r"cannot (use|be started in) |holds no PostgreSQL data: move it away"):
        kind.at(data).start()


def test_a_missing_program_comes_with_how_to_get_it(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "SYSTEM_FOLDERS", [])
    monkeypatch.setattr(postgres, "SYSTEM_VERSIONS", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ServerError, match=r"^\w+ (was not found|is not installed): .*`apt-get install") as said:
        kind.at(tmp_path / "data").start()

    assert "\n" not in str(said.value)


# --- PostgreSQL ---


def test_postgres_is_utf8_checked_and_durable(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data", max_connections=30) as server, psycopg.connect(libpq_url(server)) as db:

        def shown(setting: str) -> str:
            row = db.execute(f"SHOW {setting}").fetchone()
            assert row
            return str(row[0])

        assert shown("server_encoding") == "UTF8"
        assert shown("data_checksums") == "on"
        assert shown("fsync") == "on"
        assert shown("synchronous_commit") == "on"
        assert shown("listen_addresses") == ""
        assert shown("max_connections") == "30"
        assert shown("server_version").startswith(server.version)


def test_postgres_for_tests_need_not_be_durable(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data", durable=False) as server, psycopg.connect(libpq_url(server)) as db:
        assert db.execute("SHOW fsync").fetchone() == ("off",)
        assert db.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_postgres_asks_for_the_password_on_its_socket_too(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data") as server:
        password = (server.data / "superuser-password").read_text().strip()

        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(libpq_url(server).replace(password, "guess"))


def test_postgres_listens_on_a_port_when_asked(tmp_path: Path) -> None:
    port = free_port()
    with Postgres(tmp_path / "data", port=port) as server:
        assert f"@127.0.0.1:{port}/" in server.superuser_url("hallpass")
        KINDS["postgres"].put(server, "over TCP")

        with pytest.raises(ServerError, match=f"Port {port} of 127.0.0.1 is taken"):
            Postgres(tmp_path / "other", port=port).start()


def test_kill_ends_the_postmaster_and_start_waits_for_what_it_leaves(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data") as server:
        children = server.processes() - {server.pid}
        busy = psycopg.connect(libpq_url(server), autocommit=True)

        def sleep_until_cut_off() -> None:
            with pytest.raises(psycopg.OperationalError):
                busy.execute("SELECT pg_sleep(60)")

        asleep = threading.Thread(target=sleep_until_cut_off)
        asleep.start()

        server.kill()
        server.start()

        assert not server.processes() & children
        asleep.join()


def test_a_lock_file_whose_pid_is_another_programs_now_is_no_hindrance(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data") as server:
        server.kill()
        lock = server.cluster / "postmaster.pid"
        _, rest = lock.read_text().split("\n", 1)
        lock.write_text(f"{os.getpid()}\n{rest}")

        server.start()

        assert server.is_alive()


def test_an_interrupted_initdb_is_begun_anew(tmp_path: Path) -> None:
    half_made = tmp_path / "data" / "cluster.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    with Postgres(tmp_path / "data") as server:
        assert server.is_alive()
        assert not half_made.exists()


def test_a_path_too_long_or_too_odd_for_a_socket_is_served_all_the_same(tmp_path: Path) -> None:
    for name in ("long" * 25, "with space, comma and 厅"):
        for kind in (KINDS["postgres"], KINDS["valkey"]):
            with kind.at(tmp_path / name / kind.made_by.__name__) as server:
                kind.put(server, "reached")
                elsewhere = server.folder.socket_folder("x" * 20)
                assert elsewhere.stat().st_mode & 0o777 == 0o700
            assert not elsewhere.exists()


def test_data_of_another_major_version_is_named(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data") as server:
        pass
    (server.cluster / "PG_VERSION").write_text("12\n")

    with pytest.raises(ServerError, match=r"was made by PostgreSQL 12, but the programs in .* are of version"):
        server.start()


def test_a_password_that_does_not_fit_the_data_is_named(tmp_path: Path) -> None:
    with Postgres(tmp_path / "data") as server:
        pass
    (server.data / "superuser-password").write_text("another\n")

    with pytest.raises(ServerError, match="is not that of the data beside it"):
        server.start()
    assert not server.processes()


def test_a_server_that_refuses_its_settings_shows_the_end_of_its_log(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "data", shared_buffers="plenty")

    with pytest.raises(ServerError, match=r"(?s)PostgreSQL did not start .*shared_buffers"):
        server.start()


def test_pg_bin_without_postgres_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))

    with pytest.raises(ServerError, match=f"PG_BIN names {tmp_path}, where no working PostgreSQL is"):
        Postgres(tmp_path / "data").start()


@pytest.mark.parametrize("bin_folder", sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [None])
def test_the_systems_postgres_serves_too(
    bin_folder: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bin_folder is None:
        pytest.skip("no PostgreSQL of the system: `apt-get install postgresql` as root brings one")
    monkeypatch.setenv("PG_BIN", str(bin_folder))

    with Postgres(tmp_path / "data") as server:
        KINDS["postgres"].put(server, "kept")
        assert server.binaries.folder == bin_folder
        assert server.version.startswith(bin_folder.parent.name)


# --- Valkey ---


def test_valkey_asks_for_a_password_on_a_port(tmp_path: Path) -> None:
    port = free_port()
    with Valkey(tmp_path / "data", port=port) as server:
        KINDS["valkey"].put(server, "over TCP")

        ways: list[dict[str, Any]] = [{"port": port}, {"unix_socket_path": str(server.socket)}]
        for way in ways:
            with redis.Redis(**way, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()


@pytest.mark.parametrize("port", [None, 0])
def test_celery_reaches_valkey(port: int | None, tmp_path: Path) -> None:
    with Valkey(tmp_path / "data", port=None if port is None else free_port()) as server:
        connection = Connection(server.celery_url)
        queue = connection.SimpleQueue("tasks")
        queue.put({"id": 1})

        message = queue.get(timeout=60)

        assert message.payload == {"id": 1}
        message.ack()
        queue.close()
        connection.release()


# --- RabbitMQ ---


def test_rabbitmq_has_one_user_and_listens_to_this_machine_alone(tmp_path: Path) -> None:
    need("rabbitmq")
    with RabbitMQ(tmp_path / "data", management=True) as server:
        assert server.ctl("list_users", "--no-table-headers").split() == ["hallpass", "[administrator]"]
        listeners = server.ctl(
            "eval", "[inet:sockname(P) || P <- erlang:ports(), inet:sockname(P) =/= {error, einval}]."
        )
        assert "{0,0,0,0}" not in listeners
        assert f"{{127,0,0,1}},{server.port}" in listeners
        assert f"{{127,0,0,1}},{server.management_port}" in listeners
        with pytest.raises(ServerError, match="`rabbitmqctl list_nothing` failed"):
            server.ctl("list_nothing")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.management_port}/api/overview")
        assert refused.value.code == 401


def test_rabbitmqs_port_stays_its_own_over_a_crash(tmp_path: Path) -> None:
    need("rabbitmq")
    port = free_port()
    with RabbitMQ(tmp_path / "data", port=port) as server:
        assert server.url.endswith(f"@127.0.0.1:{port}/%2F")
        with pytest.raises(ServerError, match=f"Port {port} of 127.0.0.1 is taken"):
            RabbitMQ(tmp_path / "other", port=port).start()
        server.kill()
        server.start()
        assert server.port == port


# --- nginx ---


def site(port: int, text: str) -> str:
    return f"events {{}}\nhttp {{ server {{ listen 127.0.0.1:{port}; return 200 '{text}'; }} }}\n"


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        text: bytes = answer.read()
        return text.decode()


def test_nginx_serves_reloads_and_stops(tmp_path: Path) -> None:
    need("nginx")
    port = free_port()
    with Nginx(tmp_path / "nginx", site(port, "old")) as server:
        assert page(port) == "old"
        server.reload(site(port, "new"))
        assert page(port) == "new"
        with pytest.raises(ServerError, match="nginx refuses its configuration"):
            server.reload("events {} http { nonsense; }")
        assert page(port) == "new"

    assert not server.processes()
    assert server.data.stat().st_mode & 0o077 == 0


def test_nginx_names_the_fault_in_its_configuration(tmp_path: Path) -> None:
    need("nginx")
    with pytest.raises(ServerError, match=r'nginx refuses its configuration, .*unknown directive "nonsense"'):
        Nginx(tmp_path / "nginx", "events {}\nnonsense on;\n").start()


def test_nginx_on_a_taken_port_shows_why(tmp_path: Path) -> None:
    need("nginx")
    port = free_port()
    with Nginx(tmp_path / "one", site(port, "one")):
        with pytest.raises(ServerError, match="Address already in use"):
            Nginx(tmp_path / "two", site(port, "two")).start()
        assert page(port) == "one"


def test_nginx_comes_back_after_kill_9_without_the_old_workers(tmp_path: Path) -> None:
    need("nginx")
    port = free_port()
    with Nginx(tmp_path / "nginx", site(port, "there")) as server:
        workers = server.processes() - {server.pid}
        server.kill()
        server.start()

        assert page(port) == "there"
        assert not server.processes() & workers


def test_a_missing_nginx_comes_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "SYSTEM_FOLDERS", [])

    with pytest.raises(ServerError, match="nginx is not installed: `apt-get install nginx` as root"):
        Nginx(tmp_path / "nginx", site(1, "")).start()


# --- children and installation ---


def test_a_child_that_will_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + RUNS_ON
    child = Child([sys.executable, "-c", stubborn], log=tmp_path / "log")
    wait_until(lambda: child.last_lines() == "up", 60, "the child to be up")

    assert child.stop(signal.SIGTERM, timeout_s=0.1) == -signal.SIGKILL
    assert not child.is_alive()


def test_a_child_is_out_of_the_terminals_reach_and_its_log_is_private(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", RUNS_ON], log=tmp_path / "log")
    try:
        wait_until(lambda: child.last_lines() == "up", 60, "the child to be up")
        assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
        assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    finally:
        child.stop()


def test_a_program_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="/no/such/program"):
        Child(["/no/such/program"], log=tmp_path / "log")


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(ServerError, match=r"Waited 0\.05 s for a miracle"):
        wait_until(lambda: False, 0.05, "a miracle")


def test_what_is_there_is_not_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    need("nginx")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("nothing needs to be run"))

    install.ensure("nginx", "nginx")


def test_who_may_not_install_is_told_what_to_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "SYSTEM_FOLDERS", [])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(ServerError, match="RabbitMQ is not installed: `apt-get install rabbitmq-server` as root"):
        install.ensure("rabbitmq", "nginx")
