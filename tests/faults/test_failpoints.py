"""kill -9 at every step of join, cancel and move: whoever asks again gets what they asked for, once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row

from libs.common.failpoints import VARIABLE
from libs.common.ids import new_id
from tests.booking.builders import a_slot, booked
from tests.conftest import Cluster
from tests.faults.forks import Api, Forks
from tests.world import World, eventually

pytestmark = pytest.mark.xdist_group("failpoints")

# The steps of a request in their order. What is not committed at one of the first ones never was.
BEFORE_COMMIT = [
    *(f"settle.{when}_{step}" for step in ("admit", "lock", "insert") for when in ("before", "after")),
    "settle.before_commit",
]
AFTER_COMMIT = [
    "settle.after_commit",
    *(f"settle.{when}_{step}" for step in ("apply", "answer") for when in ("before", "after")),
]
POINTS = [*BEFORE_COMMIT, *AFTER_COMMIT]
# A request that takes no place needs no lease: nothing is asked of Redis.
NOT_ON_THE_WAY = {(act, f"settle.{when}_admit") for act in ("cancel", "move") for when in ("before", "after")}
CASES = [
    (action, point)
    for action in ("join", "cancel", "move")
    for point in POINTS
    if (action, point) not in NOT_ON_THE_WAY
]
BUSY = 503


@dataclass(frozen=True)
class Desk:
    """What all cases share: a world to prepare them in, what starts API processes, and an eye on booking's tables."""

    world: World
    forks: Forks
    eye: "psycopg.Connection[dict[str, Any]]"

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.eye.execute(query, values).fetchall()


@pytest.fixture(scope="module")
def desk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    log = tmp_path_factory.mktemp("forks") / "forks.log"
    with cluster.world() as world, Forks(log) as forks:
        url = world.runtimes["booking"].settings.database_url.get_secret_value().replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as eye:
            yield Desk(world, forks, eye)


class Case:
    """One user, two slots of one item, and one request that dies on its way and is made again."""

    def __init__(self, desk: Desk, action: str, point: str, file: Path) -> None:
        self.desk = desk
        self.action = action
        self.file = file
        self.api = Api(desk.forks, desk.world, **{VARIABLE: f"{point}:{file}"})
        self.user = desk.world.user(f"{action} {point}")
        place = a_slot(desk.world, capacity=3, cancel="anytime")
        self.slots = [place.slot_id, place.another_slot(starts_in=timedelta(days=2), capacity=3).slot_id]
        self.key = new_id()
        if action != "join":
            [join] = booked(desk.world, self.user, place.slot_id)
            self.join_id: str = join["id"]

    def ask(self) -> httpx2.Response:
        if self.action == "join":
            body = {"slot_id": self.slots[0], "attendees": [{"answers": {"name": "张三"}}]}
            return self._post("joins", body, **{"Idempotency-Key": self.key})
        if self.action == "cancel":
            return self._post(f"joins/{self.join_id}/cancel", None)
        return self._post(f"joins/{self.join_id}/move", {"slot_id": self.slots[1]})

    def _post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return self.api.http.post(f"/api/booking/{path}", json=body, headers=self.user | headers)

    def ask_until_it_is_clear(self) -> httpx2.Response:
        """Repeat the request while its answer leaves open what became of it."""
        answer: httpx2.Response = eventually(lambda: _unless_busy(self.ask()), timeout_s=60)
        return answer

    def joins(self) -> list[dict[str, Any]]:
        return self.desk.rows(
            "SELECT id::text, code, status, slot_id::text FROM joins WHERE slot_id = ANY(%s)", self.slots
        )

    def events(self) -> list[str]:
        """Return the types of all events about joins of these slots, in their order."""
        rows = self.desk.rows(
            "SELECT type FROM outbox WHERE subject = ANY(%s) ORDER BY position", [join["id"] for join in self.joins()]
        )
        return [row["type"] for row in rows]

    def effects(self) -> int:
        """Return how often the request has had its effect by now."""
        return self.events().count(EVENT[self.action])

    def taken(self) -> list[int]:
        rows = self.desk.rows("SELECT id::text, taken FROM slots WHERE id = ANY(%s)", self.slots)
        taken = {row["id"]: row["taken"] for row in rows}
        return [taken[slot_id] for slot_id in self.slots]

    def people_booked(self) -> list[int]:
        places = [join["slot_id"] for join in self.joins() if join["status"] == "booked"]
        return [places.count(slot_id) for slot_id in self.slots]

    def keys_remembered(self) -> int:
        return len(self.desk.rows("SELECT key FROM successes WHERE key = %s", self.key))


def _unless_busy(answer: httpx2.Response) -> httpx2.Response | None:
    return None if answer.status_code == BUSY else answer


EVENT = {"join": "join.booked", "cancel": "join.cancelled", "move": "join.moved"}
IN_THE_END = {"join": [1, 0], "cancel": [0, 0], "move": [0, 1]}
TOLD_AGAIN = {"cancel": (409, "join_not_booked"), "move": (409, "same_slot")}


@pytest.fixture
def make_case(desk: Desk, tmp_path: Path) -> Iterator[Callable[[str, str], Case]]:
    made: list[Case] = []

    def make(action: str, point: str) -> Case:
        made.append(Case(desk, action, point, tmp_path / "hit"))
        return made[-1]

    yield make
    for case in made:
        case.api.kill()


@pytest.mark.parametrize(("action", "point"), CASES)
def test_a_process_killed_on_the_way_leaves_one_effect_for_whoever_asks_again(
    make_case: Callable[[str, str], Case], action: str, point: str
) -> None:
    case = make_case(action, point)
    case.api.start()

    # after_answer may lie on either side of the caller's having it
    if point != "settle.after_answer":
        with pytest.raises(httpx2.TransportError):
            case.ask()
    else:
        _lose_or_get(case)
    eventually(lambda: not case.api.is_alive())

    assert case.file.exists(), f"{point} does not lie on the way of {action}"
    committed = case.joins() if action == "join" else []
    assert case.effects() == (0 if point in BEFORE_COMMIT else 1)
    assert case.taken() == case.people_booked()

    case.api.start()
    answer = case.ask_until_it_is_clear()

    _assert_clear(case, answer, was_committed=point in AFTER_COMMIT)
    assert case.events() == (["join.booked"] if action == "join" else ["join.booked", EVENT[action]])
    assert case.taken() == case.people_booked() == IN_THE_END[action]
    if action == "join":
        [join] = answer.json()["joins"]
        assert [(found["id"], found["code"]) for found in case.joins()] == [(join["id"], join["code"])]
        assert committed in ([], case.joins())
        assert case.keys_remembered() == 1
        assert case.ask().content == answer.content


def _lose_or_get(case: Case) -> None:
    try:
        answer = case.ask()
    except httpx2.TransportError:
        return
    assert answer.is_success, answer.text


def _assert_clear(case: Case, answer: httpx2.Response, *, was_committed: bool) -> None:
    """A join is told again as it was; what else was committed may be told as done, or as done before."""
    if answer.is_success:
        assert answer.status_code == (201 if case.action == "join" else 200)
        return
    assert was_committed, answer.text
    assert (answer.status_code, answer.json()["code"]) == TOLD_AGAIN[case.action]
