"""A real `make run`, as a subprocess of the test, with a data folder and a port of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx2

from deploy.servers.process import free_port
from tests.world import eventually

ROOT = Path(__file__).parents[2]
# However busy the machine is: nobody is to learn from these how quick it is.
START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 120


class Installation:
    """Starts and stops one embedded installation, and is its client."""

    def __init__(self, data: Path, *, port: int | None = None, **environment: str) -> None:
        self.data = data
        self.port = port or free_port()
        self.said_at_first = ""
        self._environment = environment
        self._log = data.parent / f"{data.name}.out"
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start it without waiting."""
        ours = {"HALLPASS_DATA": str(self.data), "HALLPASS_PORT": str(self.port), "LC_ALL": "C.UTF-8"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HALLPASS_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy", "run"],
                cwd=ROOT,
                env=inherited | ours | self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> Self:
        """Start it and return when it says that it is ready."""
        self.launch()
        assert self._process is not None
        process = self._process
        eventually(lambda: "Ready after" in self.said or process.poll() is not None, timeout_s=START_TIMEOUT_S)
        assert process.poll() is None, self.said
        self.said_at_first = self.said_at_first or self.said
        return self

    def end(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait(START_TIMEOUT_S)

    def stop(self, signum: signal.Signals = signal.SIGINT) -> int:
        assert self._process is not None
        self._process.send_signal(signum)
        return self._process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        """Leave nothing running, whatever became of the test."""
        self.http.close()
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop(signal.SIGTERM)
            finally:
                self._process.kill()
                self._process.wait()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Carry out `python -m deploy <words>` beside it, with no settings but those it is given."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HALLPASS_")}
        return subprocess.run(
            [sys.executable, "-m", "deploy", *words],
            cwd=ROOT,
            env=inherited,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @property
    def said(self) -> str:
        """What it printed since its start."""
        return self._log.read_text()

    @property
    def passwords_shown(self) -> list[list[str]]:
        """Return what it printed at its first start, and at its last."""
        return [re.findall(r"password (\S+) \(shown this once", said) for said in (self.said_at_first, self.said)]

    @property
    def kept_password(self) -> str:
        return (self.data / "first-password").read_text().strip()

    # --- its processes ---

    def process(self, word: str) -> int | None:
        """Return the child of the supervisor whose command line holds the word."""
        for pid, parent, command in _processes():
            if parent == self.pid and word in command:
                return pid
        return None

    def tree(self) -> set[int]:
        """Return the supervisor and all that descends from it."""
        found = {self.pid}
        table = _processes()
        while more := {pid for pid, parent, _ in table if parent in found} - found:
            found |= more
        return found

    # --- its visitors ---

    def staff(self, password: str) -> httpx2.Response:
        return self.http.post("/api/admin/sessions", json={"username": "admin", "password": password})

    def user(self, name: str) -> dict[str, str]:
        answer = self.http.post("/api/booking/sessions", json={"provider": "dev", "code": name})
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def free_slots(self) -> list[str]:
        """Return slots of the demo that have no limit and ask for a name only."""
        items = self.http.get("/api/catalog/items", params={"q": "晨跑打卡"}).json()["items"]
        days = self.http.get(f"/api/catalog/items/{items[0]['id']}").json()["days"]
        return [slot["id"] for day in days for slot in day["slots"] if slot["state"] == "bookable"]

    def book(self, user: dict[str, str], slot_id: str, key: str) -> str:
        """Book as a client does that repeats its request until it is answered; return the join's id."""
        body: dict[str, Any] = {"slot_id": slot_id, "attendees": [{"answers": {"name": "测试访客"}}]}

        answer = self._answer("POST", "/api/booking/joins", json=body, headers=user | {"Idempotency-Key": key})
        assert answer.status_code == 201, answer.text
        join_id: str = answer.json()["joins"][0]["id"]
        return join_id

    def joins(self, user: dict[str, str]) -> list[str]:
        return [join["id"] for join in self._items("/api/booking/joins", user)]

    def notices(self, user: dict[str, str]) -> list[str]:
        """Return the joins that the user was told about."""
        return [notice["join_id"] for notice in self._items("/api/notify/notices", user)]

    def _items(self, path: str, user: dict[str, str]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._answer("GET", path, params={"limit": 100}, headers=user).json()["items"]
        return items

    def _answer(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Return the answer of whoever answers at last: a service that is not there yet asks people to come back."""

        def ask() -> httpx2.Response | None:
            try:
                answer = self.http.request(method, path, **request)
            except httpx2.TransportError:
                return None
            return None if answer.status_code == 503 else answer

        answer: httpx2.Response = eventually(ask, timeout_s=START_TIMEOUT_S)
        return answer

    def is_well(self) -> bool:
        try:
            return bool(self.http.get("/healthz").json()["status"] == "ok")
        except httpx2.HTTPError:
            return False


def _processes() -> list[tuple[int, int, str]]:
    """Return (pid, parent, command line) of everything that lives."""
    table = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            if fields[0] not in "ZX":
                table.append((int(entry.name), int(fields[1]), command))
    return table
