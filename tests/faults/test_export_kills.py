"""SIGKILL for the workers of exports at random moments: each export ends done or failed, and no part of a file is ever seen."""

import io
import os
import random
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from services.admin.models import ExportJob
from tests.admin.exporting import Headers, a_world_that_answers, an_exporter, asked, do, fill, link, seen
from tests.booking.builders import a_slot, user_id
from tests.conftest import Cluster
from tests.faults.forks import Forks, JobWorker
from tests.faults.repeating import beating, repeating
from tests.faults.working import is_at_work, kill_at_work
from tests.world import World, eventually

EXPORTS = int(os.environ.get("HALLPASS_TEST_EXPORTS", "9"))
SEED = int(os.environ.get("HALLPASS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
ROWS = 1_500
WORKERS = 2
AT_A_TIME = 3  # of one account
OVER = ("done", "failed")

pytestmark = pytest.mark.timeout(300 + EXPORTS * 15)


@pytest.fixture
def world(cluster: Cluster) -> Iterator[World]:
    with a_world_that_answers(cluster, export_lease_s=1, sign_in_rate="1000000/minute") as world:
        yield world


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    with Forks(tmp_path / "forks.log") as forks:
        yield forks


def test_every_export_ends_whole_or_not_at_all_whoever_is_killed(world: World, forks: Forks, tmp_path: Path) -> None:
    print(f"seed {SEED}: HALLPASS_TEST_SEED={SEED} repeats who is killed when")
    chance = random.Random(SEED)
    place = a_slot(world)
    fill(world, user_id(world, world.user("first")), place.slot_id, ROWS)
    jobs = {asked(world, who, "joins", layout=chance.choice(["one", "items"])): who for who in exporters(world)}
    watch = Watch(world, jobs)
    scratch = {"TMPDIR": str(tmp_path)}
    kills = 0

    with (
        beating(world, "admin.export", 0.2) as beats,
        repeating(lambda: do(world, "sweep_exports"), 0.5) as sweeps,
        repeating(watch.look, 0.1) as looks,
    ):
        kill_at_work(forks, world, ExportJob, waits_for=("booking", "joins"), **scratch)  # chance decides of the others
        workers = [JobWorker(forks, world, **scratch) for _ in range(WORKERS)]
        while not watch.all_over():
            for check in (beats, sweeps, looks):
                check()
            if kills < EXPORTS * 2:
                eventually(lambda: is_at_work(world, ExportJob) or watch.all_over(), timeout_s=120)
                time.sleep(chance.uniform(0.0, 0.7))  # the moment of the kill
                workers.pop(chance.randrange(WORKERS)).kill()
                workers.append(JobWorker(forks, world, **scratch))
                kills += 1
            else:
                time.sleep(0.1)
        for worker in workers:
            worker.kill()
        who = next(iter(jobs.values()))
        left_alone = asked(world, who, "joins")
        jobs[left_alone] = who
        last = JobWorker(forks, world, HALLPASS_EXPORT_LEASE_S="60", **scratch)
        eventually(lambda: seen(world, who, left_alone)["state"] == "done", timeout_s=120)
        last.kill()
    do(world, "sweep_exports")

    ended = [seen(world, who, export_id) for export_id, who in jobs.items()]
    print(f"{kills} kills, runs {sorted(job['runs'] for job in ended)}, {watch.looks} looks, {watch.whole} whole files")
    assert watch.faults == []
    assert {job["state"] for job in ended} <= set(OVER)
    assert max(job["runs"] for job in ended) <= 3
    assert max(job["runs"] for job in ended) > 1
    assert all(job["runs"] == 3 for job in ended if job["state"] == "failed")
    done = [job["id"] for job in ended if job["state"] == "done"]
    for export_id in done:
        assert rows_of(world.client.get(link(world, jobs[export_id], export_id)).content) == ROWS
    kept = world.runtimes["admin"].resources.store.keys("exports")
    assert sorted(key.split("/")[1] for key in kept) == sorted(done)


def exporters(world: World) -> Iterator[Headers]:
    """Yield whose exports these are, each of them as often as an account may."""
    for number in range(0, EXPORTS, AT_A_TIME):
        who = an_exporter(world, f"lin{number}")
        yield from [who] * min(AT_A_TIME, EXPORTS - number)


def rows_of(content: bytes) -> int:
    """Return how many rows the first sheet of a workbook has below its header; BadZipFile where the file is not whole."""
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        assert book.testzip() is None
        return book.read("xl/worksheets/sheet1.xml").count(b"<row ") - 1


class Watch:
    """Somebody who tries to fetch every file all the time."""

    def __init__(self, world: World, jobs: dict[str, Headers]) -> None:
        self._world = world
        self._open = dict(jobs)
        self.looks = 0
        self.whole = 0
        self.faults: list[str] = []

    def all_over(self) -> bool:
        return not self._open

    def look(self) -> None:
        for export_id, who in list(self._open.items()):
            self.looks += 1
            answer = self._world.client.post(f"/api/admin/exports/{export_id}/links", headers=who)
            if answer.status_code == 201:
                self._fetch(export_id, answer.json()["url"])
            elif answer.json()["code"] != "export_not_done":
                self.faults.append(answer.text)
            elif seen(self._world, who, export_id)["state"] == "failed":
                del self._open[export_id]

    def _fetch(self, export_id: str, url: str) -> None:
        del self._open[export_id]
        answer: httpx2.Response = self._world.client.get(url)
        try:
            if rows_of(answer.content) == ROWS:
                self.whole += 1
                return
        except zipfile.BadZipFile:
            pass
        self.faults.append(f"{export_id}: {answer.status_code}, {len(answer.content)} bytes that are no whole file")
