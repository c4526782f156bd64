"""RabbitMQ as a child process, with a node, ports, cookie and user of its own."""

import os
import signal
import socket
import subprocess
from pathlib import Path

from deploy.servers import install
from deploy.servers.process import (
    Child,
    ServerError,
    clean_environment,
    find_program,
    free_port,
    port_is_taken,
    wait_until_ready,
)
from deploy.servers.server import Server

NODE = (
    "hallpass@localhost"  # its database is named after the node, and each node has an epmd of its own to tell it apart
)
USER = "hallpass"
CTL_TIMEOUT_S = 180
LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"


class RabbitMQ(Server):
    """A RabbitMQ node in `data`, whose every port listens on 127.0.0.1 alone.

    Its one user is an administrator with a random password; there is no guest. Ports that were not asked for are free
    ones, kept over restarts of this object while they stay free.
    """

    name = "RabbitMQ"
    programs = frozenset({"beam.smp", "epmd", "erl_child_setup", "inet_gethost"})
    stop_timeout_s = 60
    start_timeout_s = 240

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        management: bool = False,
        management_port: int | None = None,
        schedulers: int = 1,
    ) -> None:
        super().__init__(data)
        self.port = free_port() if port is None else port
        self.management_port = (management_port or free_port()) if management else None
        self._asked = {port, management_port}
        self._schedulers = schedulers
        self._epmd: Child | None = None
        self._epmd_port = free_port()
        self._dist_port = free_port()

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self.folder.secret('password')}@127.0.0.1:{self.port}/%2F"

    @property
    def management_url(self) -> str:
        """Of the HTTP API, with its login."""
        if self.management_port is None:
            raise ServerError("This RabbitMQ runs without its management plugin: ask for it with management=True.")
        return f"http://{USER}:{self.folder.secret('password')}@127.0.0.1:{self.management_port}"

    def ctl(self, *args: str) -> str:
        """What rabbitmqctl says to these words about this node; ServerError with its complaint if it fails."""
        self._running()
        try:
            done = subprocess.run(
                [_scripts() / "rabbitmqctl", "--quiet", *args],
                env=self._environment(),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=CTL_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"`rabbitmqctl {args[0]}` gave no answer within {CTL_TIMEOUT_S} s.") from error
        if done.returncode:
            raise ServerError(f"`rabbitmqctl {args[0]}` failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def sync(self) -> None:
        """Write to the disk what RabbitMQ knows about its queues, which it else does a second or two later.

        Messages are safe once confirmed, but RabbitMQ 3.10 answers a declaration before it is: a quorum queue whose broker
        is killed right after its declaration exists afterwards, and answers nothing until it is deleted.
        """
        self.ctl("eval", "mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()].")

    def _launch(self) -> Child:
        scripts = _scripts()
        self._choose_ports()
        self._write_files()
        environment = self._environment()
        # Erlang would start a daemon that outlives everything; ours is a child that ends with us.
        self._epmd = Child(
            [_epmd(), "-address", "127.0.0.1", "-port", str(self._epmd_port)],
            log=self.log,
            env=environment,
            cwd=self.data,
        )
        wait_until_ready(self._epmd, lambda: _listens(self._epmd_port), 60, "Erlang's epmd")
        child = Child([scripts / "rabbitmq-server"], log=self.log, env=environment, cwd=self.data)
        wait_until_ready(child, self._answers, self.start_timeout_s, self.name)
        return child

    def _answers(self) -> bool:
        if self.management_port is not None and not _listens(self.management_port):
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as broker:
                broker.sendall(b"AMQP\x00\x00\x09\x01")
                return broker.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False

    def _choose_ports(self) -> None:
        taken = {name for name in ("port", "management_port", "_epmd_port", "_dist_port") if self._is_taken(name)}
        for name in taken:
            if getattr(self, name) in self._asked:
                raise ServerError(
                    f"Port {getattr(self, name)} of 127.0.0.1 is taken: choose another for RabbitMQ or free it."
                )
            setattr(self, name, free_port())

    def _is_taken(self, name: str) -> bool:
        port: int | None = getattr(self, name)
        return port is not None and port_is_taken(port)

    def _write_files(self) -> None:
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"default_user = {USER}",
            f"default_pass = {self.folder.secret('password')}",
            "default_user_tags.administrator = true",
            "log.console = true",
            "log.console.level = warning",
            "log.console.use_colors = off",
            "log.file = false",
            # A quorum queue keeps this much in memory before it is written to segments; the default is 512 MB.
            "raft.wal_max_size_bytes = 64000000",
        ]
        plugins = "[]."
        if self.management_port is not None:
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self.management_port}"]
            plugins = "[rabbitmq_management]."
        self.folder.write("rabbitmq.conf", "\n".join(lines) + "\n")
        self.folder.write("enabled_plugins", plugins + "\n")
        self.folder.write("advanced.config", "[].\n")
        self.folder.write("rabbitmq-env.conf", "")
        cookie = self.folder.secret("cookie")
        self.folder.write(".erlang.cookie", cookie, mode=0o400)

    def _environment(self) -> dict[str, str]:
        """Everything that RabbitMQ's scripts would else take from /etc/rabbitmq, /var/lib/rabbitmq and the default ports."""
        return clean_environment(
            HOME=str(self.data),
            LC_ALL="C.UTF-8",
            ERL_EPMD_PORT=str(self._epmd_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=NODE,
            RABBITMQ_DIST_PORT=str(self._dist_port),
            RABBITMQ_MNESIA_BASE=str(self.data / "db"),
            RABBITMQ_LOG="warning",
            RABBITMQ_LOG_BASE=str(self.data),
            RABBITMQ_CONF_ENV_FILE=str(self.data / "rabbitmq-env.conf"),
            RABBITMQ_CONFIG_FILE=str(self.data / "rabbitmq.conf"),
            RABBITMQ_CONFIG_FILES=str(self.data / "conf.d"),
            RABBITMQ_ADVANCED_CONFIG_FILE=str(self.data / "advanced.config"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self.data / "enabled_plugins"),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=f"+S {self._schedulers}:{self._schedulers} {LOOPBACK_ONLY}",
            RABBITMQ_CTL_ERL_ARGS=LOOPBACK_ONLY,
            RABBITMQ_CTL_DIST_PORT_MIN="1024",
            RABBITMQ_CTL_DIST_PORT_MAX="65535",
            # Makes the script replace itself by Erlang, so that signals and pid are the server's own.
            RUNNING_UNDER_SYSTEMD="true",
        )

    def _end_companions(self) -> None:
        if self._epmd is not None:
            self._epmd.stop(signal.SIGTERM, 5)
            self._epmd = None


def _scripts() -> Path:
    """The folder of RabbitMQ's own scripts: Debian's on the PATH insist on the system's user and folders."""
    program = find_program("rabbitmq-server")
    if program is None:
        raise install.missing("rabbitmq")
    folder = program.resolve().parent
    if not all(os.access(folder / name, os.X_OK) for name in ("rabbitmq-server", "rabbitmqctl")):
        raise ServerError(f"{program} is there, but not RabbitMQ's scripts in {folder}: install RabbitMQ again.")
    if find_program("erl") is None:
        raise ServerError(
            "Erlang is missing, which RabbitMQ runs on: `apt-get install erlang-base` as root installs it."
        )
    return folder


def _epmd() -> Path:
    if found := find_program("epmd"):
        return found
    erl = find_program("erl")
    beside = (erl.resolve().parent / "epmd") if erl else None
    if beside and os.access(beside, os.X_OK):
        return beside
    raise ServerError("Erlang's epmd is missing: `apt-get install erlang-base` as root installs it.")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
