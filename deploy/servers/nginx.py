"""nginx as a child process, with everything it writes in its own folder."""

import grp
import os
import re
import signal
import subprocess
from pathlib import Path

from deploy.servers import install
from deploy.servers.process import (
    Child,
    ServerError,
    clean_environment,
    find_program,
    processes_in,
    title_of,
    wait_until,
    wait_until_ready,
)
from deploy.servers.server import Server

TEMPORARY = ("client_body_temp", "proxy_temp", "fastcgi_temp", "uwsgi_temp", "scgi_temp")
HTTP_BLOCK = re.compile(r"^([^#\n]*\bhttp\s*\{)", re.MULTILINE)


class Nginx(Server):
    """nginx with a complete configuration that leaves `daemon`, `pid`, `user` and the temporary paths to us.

    Relative paths in it start at the folder. The workers run as whoever starts it: what they serve and write is theirs.
    """

    name = "nginx"
    programs = frozenset({"nginx"})
    stop_timeout_s = 10
    start_timeout_s = 60

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(folder)
        self.config = config

    def reload(self, config: str | None = None) -> None:
        """Let new workers serve by the new configuration; a faulty one is refused and the old stays in force.

        When this returns, no old worker takes new connections any more (on Linux).
        """
        child = self._running()
        before = self._workers()
        self._write(self.config if config is None else config)
        self.config = self.config if config is None else config
        child.send(signal.SIGHUP)

        def handed_over() -> bool:
            serving = self._workers()
            return (bool(serving) and not serving & before) or not before or not child.is_alive()

        wait_until(handed_over, 60, "nginx to start new workers")

    def _launch(self) -> Child:
        self._write(self.config)
        pid_file = self.data / "nginx.pid"
        pid_file.unlink(missing_ok=True)
        child = Child([*self._command("nginx.conf")], log=self.log, env=clean_environment(), cwd=self.data)

        def serves() -> bool:
            # It listens before it writes its pid; from then on connections are answered.
            return pid_file.exists() and pid_file.read_text().strip() == str(child.pid)

        wait_until_ready(child, serves, self.start_timeout_s, self.name)
        return child

    def _workers(self) -> set[int]:
        """Those that take connections; one that is ending says so in its title."""
        workers = {pid for pid, parent in processes_in(self.data, self.programs).items() if parent == self.pid}
        return {pid for pid in workers if "shutting down" not in title_of(pid)}

    def _write(self, config: str) -> None:
        """Put the configuration in force for the next start or reload if nginx accepts it."""
        self.folder.write("candidate.conf", self._completed(config))
        tested = subprocess.run(
            [*self._command("candidate.conf"), "-t", "-q"],
            env=clean_environment(),
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if tested.returncode:
            complaint = tested.stderr.strip() or f"exit code {tested.returncode}"
            raise ServerError(f"nginx refuses its configuration, correct it: {complaint}")
        (self.data / "candidate.conf").replace(self.data / "nginx.conf")

    def _completed(self, config: str) -> str:
        lines = [f"{name}_path temp/{name};" for name in TEMPORARY]
        if "access_log" not in config:
            lines.append("access_log access.log;")  # the default lies in the system's folder
        (self.data / "temp").mkdir(mode=0o700, exist_ok=True)
        return HTTP_BLOCK.sub(lambda block: f"{block[1]} {' '.join(lines)}", config, count=1)

    def _command(self, config: str) -> list[str]:
        program = find_program("nginx")
        if program is None:
            raise install.missing("nginx")
        ours = "daemon off; pid nginx.pid;"
        if os.geteuid() == 0:
            ours += f" user root {grp.getgrgid(0).gr_name};"  # else its workers could not enter the folder, which is for its owner only
        return [str(program), "-p", f"{self.data}/", "-e", "stderr", "-c", config, "-g", ours]
