"""SIGKILL for the workers of imports at random moments: each import ends, and is applied wholly and once, or not at all."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from services.admin.models import ImportJob
from tests.admin.exporting import Headers, a_world_that_answers, an_exporter, do
from tests.admin.importing import confirm, halls, sent, shown, workbook
from tests.catalog.builders import STAFF
from tests.conftest import Cluster
from tests.faults.forks import Forks, JobWorker
from tests.faults.repeating import beating, repeating
from tests.faults.working import kill_at_work
from tests.world import World, eventually

IMPORTS = int(os.environ.get("HALLPASS_TEST_IMPORTS", "12"))
SEED = int(os.environ.get("HALLPASS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
ROWS = 20  # of each import
WORKERS = 2
AT_A_TIME = 3  # of one account
ENDED = ("done", "failed")

pytestmark = pytest.mark.timeout(300 + IMPORTS * 15)


@pytest.fixture
def world(cluster: Cluster) -> Iterator[World]:
    with a_world_that_answers(cluster, export_lease_s=1, sign_in_rate="1000000/minute") as world:
        yield world


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    with Forks(tmp_path / "forks.log") as forks:
        yield forks


def test_every_import_is_applied_wholly_and_once_or_not_at_all_whoever_is_killed(world: World, forks: Forks) -> None:
    print(f"seed {SEED}: HALLPASS_TEST_SEED={SEED} repeats who is killed when")
    chance = random.Random(SEED)
    jobs: dict[str, tuple[str, Headers]] = {}
    for number, who in enumerate(importers(world)):
        name = f"第{number}批"
        rows = [["名称"], *([f"{name}-{row}"] for row in range(ROWS))]
        jobs[sent(world, who, "halls", workbook(服务厅=rows))] = (name, who)
    owner = Owner(world, jobs)
    kills = 0

    with (
        beating(world, "admin.import", 0.1) as beats,
        repeating(lambda: do(world, "sweep_imports"), 0.3) as sweeps,
        repeating(owner.look, 0.1) as looks,
    ):
        kill_at_work(forks, world, ImportJob, waits_for=("catalog", "halls"))  # chance decides of the others
        workers = [JobWorker(forks, world) for _ in range(WORKERS)]
        while not owner.all_over():
            for check in (beats, sweeps, looks):
                check()
            time.sleep(chance.uniform(0.05, 1.5))  # the moment of the kill
            if kills < IMPORTS * 2:
                workers.pop(chance.randrange(WORKERS)).kill()
                workers.append(JobWorker(forks, world))
                kills += 1
        for worker in workers:
            worker.kill()
        _, who = next(iter(jobs.values()))
        left_alone = sent(world, who, "halls", halls("最后一厅"))
        last = JobWorker(forks, world, HALLPASS_EXPORT_LEASE_S="60")
        eventually(lambda: shown(world, who, left_alone)["state"] == "checked", timeout_s=120)
        confirm(world, who, left_alone)
        eventually(lambda: shown(world, who, left_alone)["state"] == "done", timeout_s=120)
        last.kill()

    ended = {import_id: shown(world, who, import_id) for import_id, (_, who) in jobs.items()}
    made = Counter(name.partition("-")[0] for name in names(world))
    print(f"{kills} kills, runs {sorted(job['runs'] for job in ended.values())}")
    assert {job["state"] for job in ended.values()} <= set(ENDED)
    assert max(job["runs"] for job in ended.values()) > 2
    for import_id, (name, _) in jobs.items():
        assert made[name] == (ROWS if ended[import_id]["state"] == "done" else 0), ended[import_id]
    assert made["最后一厅"] == 1


def importers(world: World) -> Iterator[Headers]:
    """Yield whose imports these are, each of them as often as an account may."""
    for number in range(0, IMPORTS, AT_A_TIME):
        who = an_exporter(world, f"lin{number}")
        yield from [who] * min(AT_A_TIME, IMPORTS - number)


def names(world: World) -> list[str]:
    """Return the name of every hall."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = world.client.get(f"{STAFF}/halls", params=query, headers=world.staff()).json()
        found += [hall["name"] for hall in page["items"]]
        cursor = page["next_cursor"]
    return found


class Owner:
    """Whoever has sent the imports, and says of each that it is to be applied when its dry run is well."""

    def __init__(self, world: World, jobs: dict[str, tuple[str, Headers]]) -> None:
        self._world = world
        self._open = dict(jobs)

    def all_over(self) -> bool:
        return not self._open

    def look(self) -> None:
        for import_id, (_, who) in list(self._open.items()):
            found = shown(self._world, who, import_id)
            if found["state"] in ENDED:
                del self._open[import_id]
            elif found["state"] == "checked":
                answer: httpx2.Response = confirm(self._world, who, import_id)
                assert answer.status_code == 202, answer.text
