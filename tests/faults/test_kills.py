"""SIGKILL again and again, wherever booking depends on it, while people join and cancel: nothing confirmed is lost.

The clients know nothing but HTTP: they repeat a request under its key until the answer is clear. What they were told is
compared with the tables of booking and notify, at any moment and in the end.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row
from redis import Redis
from redis.exceptions import RedisError

from deploy import env_files, parts, table
from deploy.native import HERE, Native, Running
from deploy.parts import Program
from deploy.servers import install
from deploy.servers.postgres import Postgres
from deploy.servers.process import ServerError, free_port
from deploy.servers.valkey import Valkey
from libs.common.ids import new_id
from tests.distributed.town import Headers, Slot, Town
from tests.require import leave_out
from tests.world import eventually

REQUESTS = int(os.environ.get("HALLPASS_TEST_KILLS_REQUESTS", "2000"))
KILLS = int(os.environ.get("HALLPASS_TEST_KILLS", "100"))
SEED = int(os.environ.get("HALLPASS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)

CLIENTS = 24
SLOTS = 4
CAPACITY = 30  # of a slot: half of all users would like to be in it at any time, so that it is full again and again
PER_KILL = REQUESTS / KILLS
PATIENCE_S = 180  # of one request, over all its repetitions
CLEAR = (200, 201, 404, 409, 422)

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.timeout(max(600, KILLS * 6))]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Native]:
    try:
        install.ensure("rabbitmq", "nginx")
    except ServerError as error:
        leave_out(str(error))
    settings = {
        "HALLPASS_USER_RATE": "1000000/minute",
        "HALLPASS_USER_SIGN_IN_RATE": "1000000/minute",
        "HALLPASS_GATEWAY_REQUESTS_PER_SECOND": "5000",
        "HALLPASS_GATEWAY_BURST": "10000",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LONGEST_PAUSE_S", 0.2)  # a part that dies for the tenth time is started at once, too
        folder = tmp_path_factory.mktemp("kills") / "native"
        with Native(folder, port=free_port(), dev_sign_in=True, settings=settings) as installation:
            yield installation


@pytest.fixture(scope="module")
def second(native: Native) -> Iterator[Running]:
    """A second API process of booking beside the installation's own, which is asked without the gateway."""
    port = free_port()
    process = next(process for process in table.PROCESSES if process.name == "booking")
    secrets = env_files.read(native.folder / "secrets" / "booking.env")
    program = Program(
        "booking-2",
        process.command(HERE, port),
        home=native.folder / "app",
        log=native.log("booking-2"),
        settings=secrets,
    )
    running = Running(program, port=port, health="/readyz", say=lambda text: None)
    running.start()
    yield running
    running.stop()


# --- what clients were told -------------------------------------------------------------------------------------------


@dataclass
class Told:
    """Everything that clients were told for sure."""

    joined: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    repeated: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """A person who joins and cancels, and repeats what got no clear answer, at either API process."""

    def __init__(self, addresses: list[str], users: list[Headers], slots: list[Slot], told: Told, seed: int) -> None:
        self._doors = [httpx2.Client(base_url=address, timeout=60, trust_env=False) for address in addresses]
        self._slots = slots
        self._told = told
        self._chance = random.Random(seed)
        self._users = users
        self._mine: dict[tuple[int, str], str] = {}  # the join of a user in a slot

    def run(self, more: Callable[[], bool]) -> None:
        try:
            while more():
                self._do_something()
        except BaseException as error:  # noqa: BLE001  # told by the test, on its own thread
            self._told.failures.append(repr(error))
        for door in self._doors:
            door.close()

    def _do_something(self) -> None:
        user, slot = self._chance.randrange(len(self._users)), self._chance.choice(self._slots)
        if (user, slot.id) in self._mine:
            self._cancel(user, slot)
        else:
            self._join(user, slot)

    def _join(self, user: int, slot: Slot) -> None:
        body = {"slot_id": slot.id, "attendees": [{"answers": {}}]}
        answer, _ = self._ask(user, "joins", body, {"Idempotency-Key": new_id()})
        if answer.status_code == 201:
            [join] = answer.json()["joins"]
            self._mine[user, slot.id] = join["id"]
            self._note("joined", self._told.joined, join["id"])
        elif self._code(answer) == "slot_full":
            self._note("slot_full")
        else:
            self._told.failures.append(f"join: {answer.text}")

    def _cancel(self, user: int, slot: Slot) -> None:
        join_id = self._mine.pop((user, slot.id))
        answer, was_unclear = self._ask(user, f"joins/{join_id}/cancel")
        if answer.status_code == 200 or (was_unclear and self._code(answer) == "join_not_booked"):
            self._note("cancelled", self._told.cancelled, join_id)
        else:
            self._told.failures.append(f"cancel: {answer.text}")

    def _ask(
        self, user: int, path: str, body: Any = None, headers: Headers | None = None
    ) -> tuple[httpx2.Response, bool]:
        """Ask until the answer is clear; return it, and whether an earlier one left open what became of it."""
        deadline = time.monotonic() + PATIENCE_S
        was_unclear = False
        while time.monotonic() < deadline:
            door = self._chance.choice(self._doors)
            try:
                answer = door.post(f"/api/booking/{path}", headers=self._users[user] | (headers or {}), json=body)
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code in CLEAR:
                return answer, was_unclear
            if answer is not None and answer.status_code not in (502, 503, 504):
                raise AssertionError(f"{answer.status_code}: {answer.text}")
            was_unclear = True
            self._told.repeated += 1
            time.sleep(self._chance.uniform(0.1, 0.4))  # as a person would, before the next try
        raise AssertionError(f"no clear answer to {path} within {PATIENCE_S} s")

    def _code(self, answer: httpx2.Response) -> str:
        return str(answer.json().get("code", ""))

    def _note(self, what: str, joins: set[str] | None = None, join_id: str = "") -> None:
        with self._told.lock:
            self._told.requests += 1
            self._told.answers[what] += 1
            if joins is not None:
                assert join_id not in joins, f"{join_id} was {what} twice"
                joins.add(join_id)


# --- who looks on -----------------------------------------------------------------------------------------------------


class Eye:
    """Looks at the tables from outside, over a connection that may be killed like every other."""

    def __init__(self, native: Native) -> None:
        server = native["postgres"].part
        assert isinstance(server, Postgres)
        self._url = server.superuser_url("hallpass").replace("+psycopg", "")
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, connect_timeout=3, row_factory=dict_row, application_name="eye"
                )
            return self._connection.execute(query, values).fetchall()
        except psycopg.OperationalError:
            self._connection = None
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


COUNTS = """
SELECT slots.id::text, slots.version, slots.taken, slots.capacity, slots.status,
       (SELECT count(*) FROM booking.joins WHERE joins.slot_id = slots.id AND joins.status = 'booked') AS people
FROM booking.slots WHERE slots.id = ANY(%s)
"""


class Sampler:
    """Looks at the counts all the time, on a thread of its own."""

    def __init__(self, native: Native, slots: list[Slot]) -> None:
        self._eye = Eye(native)
        self._ids = [slot.id for slot in slots]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples = 0
        self.fullest = 0
        self.faults: list[str] = []

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        self._eye.close()

    def _run(self) -> None:
        while not self._stopping.wait(0.1):
            try:
                rows = self._eye.rows(COUNTS, self._ids)
            except psycopg.OperationalError:
                continue  # PostgreSQL is down at the moment: that is the point
            self.samples += 1
            for row in rows:
                self.fullest = max(self.fullest, row["taken"])
                if row["taken"] != row["people"] or row["taken"] > row["capacity"]:
                    self.faults.append(str(row))


# --- who kills --------------------------------------------------------------------------------------------------------


class Killer:
    """Kills something at random, each time that clients have got some answers further."""

    def __init__(self, native: Native, second: Running, told: Told, seed: int) -> None:
        self._native = native
        self._second = second
        self._told = told
        self._chance = random.Random(seed)
        self._eye = Eye(native)
        self.killed: Counter[str] = Counter()

    def run(self, working: Callable[[], bool]) -> None:
        while self.killed.total() < KILLS and working():
            if self._told.requests >= self.killed.total() * PER_KILL:
                self._kill_something()
            time.sleep(0.02)
        self._eye.close()

    def _kill_something(self) -> None:
        victims: dict[str, tuple[int, Callable[[], bool]]] = {
            "booking": (5, lambda: self._part(self._native["booking"])),
            "booking-2": (5, lambda: self._part(self._second)),
            "booking-events": (4, lambda: self._part(self._native["booking-events"])),
            "redis": (3, lambda: self._part(self._native["redis"])),
            "a backend": (3, self._backend),
            "postmaster": (1, lambda: self._part(self._native["postgres"])),
        }
        [victim] = self._chance.choices(list(victims), [weight for weight, _ in victims.values()])
        if victims[victim][1]():
            self.killed[victim] += 1

    def _part(self, running: Running) -> bool:
        if not running.part.is_alive():
            return False
        try:
            running.kill()
        except ServerError:
            return False  # it has ended in this moment
        return True

    def _backend(self) -> bool:
        """Kill the PostgreSQL process behind a connection of booking; PostgreSQL then restarts all of them."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'hallpass-booking%%' ORDER BY backend_start"
        )
        try:
            pids = [row["pid"] for row in self._eye.rows(query)]
        except psycopg.OperationalError:
            return False
        server = self._native["postgres"].part
        assert isinstance(server, Postgres)
        ours = [pid for pid in pids if pid in server.processes()]
        if not ours:
            return False
        try:
            os.kill(self._chance.choice(ours), signal.SIGKILL)
        except ProcessLookupError:
            return False  # it has ended in this moment
        return True


# --- the test ---------------------------------------------------------------------------------------------------------


def test_nothing_confirmed_is_lost_and_nothing_oversold_whatever_is_killed(native: Native, second: Running) -> None:
    print(f"seed {SEED}: HALLPASS_TEST_SEED={SEED} repeats who is killed and what clients choose")
    town = Town(native.address, native.first_password)
    slots = [town.slot(capacity=CAPACITY) for _ in range(SLOTS)]
    told = Told()
    native["beat"].stop()  # whose reconciler, once a minute, would mend what nothing else has
    addresses = [native.address, f"http://{HERE}:{second.port}"]
    users = [town.users(4) for _ in range(CLIENTS)]
    clients = [Client(addresses, users[n], slots, told, SEED * 1000 + n) for n in range(CLIENTS)]
    killer = Killer(native, second, told, SEED)
    threads = [
        threading.Thread(
            target=client.run, args=(lambda: told.requests < REQUESTS or killer.killed.total() < KILLS,), daemon=True
        )
        for client in clients
    ]

    began = time.monotonic()
    with Sampler(native, slots) as sampler:
        for thread in threads:
            thread.start()
        killer.run(lambda: any(thread.is_alive() for thread in threads))
        for thread in threads:
            thread.join(PATIENCE_S + 30)
    print(f"{told.requests} answers in {time.monotonic() - began:.0f} s: {dict(told.answers)}")
    print(f"{told.repeated} repetitions, {sampler.samples} samples, killed {dict(killer.killed)}")

    assert told.failures == []
    assert not any(thread.is_alive() for thread in threads)
    assert killer.killed.total() >= KILLS
    assert sampler.faults == []
    assert sampler.samples > KILLS // 2
    assert sampler.fullest == CAPACITY
    eye = Eye(native)
    _mended(town, native, second)
    town = Town(native.address, native.first_password)  # a staff token lives 15 minutes, many kills take longer
    _assert_told_is_true(eye, slots, told)
    _assert_counters_agree(native, eye, slots)
    _assert_each_event_had_its_effect_once(native, town, eye, slots, told)
    eye.close()


def _mended(town: Town, native: Native, second: Running) -> None:
    eventually(lambda: native["booking"].is_ready() and second.is_ready(), timeout_s=120)
    eventually(town.is_well, timeout_s=120)


def _assert_told_is_true(eye: Eye, slots: list[Slot], told: Told) -> None:
    """Every request has had its clear answer, so that booking must hold what clients know, no more and no less."""
    ids = [slot.id for slot in slots]
    rows = eye.rows("SELECT id::text, status FROM booking.joins WHERE slot_id = ANY(%s)", ids)
    assert {row["id"] for row in rows if row["status"] == "booked"} == told.joined - told.cancelled
    assert {row["id"] for row in rows if row["status"] == "cancelled"} == told.cancelled
    assert len(rows) == len(told.joined)
    for row in eye.rows(COUNTS, ids):
        assert row["taken"] == row["people"] <= row["capacity"]


def _assert_each_event_had_its_effect_once(native: Native, town: Town, eye: Eye, slots: list[Slot], told: Told) -> None:
    ids = [slot.id for slot in slots]
    wanted = Counter({("join.booked", join): 1 for join in told.joined})
    wanted.update({("join.cancelled", join): 1 for join in told.cancelled})
    rows = eye.rows(
        "SELECT type, subject FROM booking.outbox WHERE type LIKE 'join.%%' AND data->>'slot_id' = ANY(%s)", ids
    )
    assert Counter((row["type"], row["subject"]) for row in rows) == wanted

    def told_to_people() -> Counter[tuple[str, str]]:
        rows = eye.rows("SELECT kind, join_id::text FROM notify.notices")
        return Counter((f"join.{row['kind']}", row["join_id"]) for row in rows)

    def counted() -> list[tuple[int, int, int]]:
        query = "SELECT booked, cancelled, taken FROM notify.slot_stats WHERE slot_id = ANY(%s) ORDER BY slot_id"
        return [(row["booked"], row["cancelled"], row["taken"]) for row in eye.rows(query, ids)]

    def in_booking() -> list[tuple[int, int, int]]:
        query = """
            SELECT count(*) FILTER (WHERE joins.status = 'booked') AS booked,
                   count(*) FILTER (WHERE joins.status = 'cancelled') AS cancelled, slots.taken
            FROM booking.slots JOIN booking.joins ON joins.slot_id = slots.id
            WHERE slots.id = ANY(%s) GROUP BY slots.id ORDER BY slots.id
        """
        return [(row["booked"], row["cancelled"], row["taken"]) for row in eye.rows(query, ids)]

    deadline = time.monotonic() + 180
    while told_to_people().total() < wanted.total() and time.monotonic() < deadline:
        time.sleep(0.1)
    heard = told_to_people()
    assert (wanted - heard, heard - wanted) == (Counter(), Counter()), f"{_dead_letters(native)} dead letters"
    eventually(lambda: counted() == in_booking(), timeout_s=60)
    for slot in slots:
        eventually(lambda: town.remaining(slot) == CAPACITY - town.booked_by_stats(slot), timeout_s=60)  # noqa: B023


def _dead_letters(native: Native) -> int:
    """Count the events that notify has parked."""
    return native.log("notify-events").read_text().count('"parked": true')


def _assert_counters_agree(native: Native, eye: Eye, slots: list[Slot]) -> None:
    """By itself Redis comes to say of each slot what PostgreSQL does, or says nothing of it and leaves the answer to PostgreSQL."""
    server = native["redis"].part
    assert isinstance(server, Valkey)
    with Redis.from_url(server.url, decode_responses=True, socket_timeout=60) as redis:

        def differing() -> list[str]:
            rows = eye.rows(COUNTS, [slot.id for slot in slots])
            return [difference for row in rows if (difference := _difference(redis, row))]

        deadline = time.monotonic() + 120
        while (found := differing()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found == []


def _difference(redis: "Redis", row: dict[str, Any]) -> str:
    key = f"hallpass:booking:{{{row['id']}}}:count"
    try:
        said: dict[str, str] = redis.hgetall(key)  # type: ignore[assignment]  # a synchronous client gives no future
    except RedisError as error:
        return repr(error)
    wanted = {name: str(row[name]) for name in ("version", "taken", "capacity")}
    if not said or {name: said.get(name) for name in wanted} == wanted:
        return ""
    return f"{key} says {said}, PostgreSQL {wanted}"
