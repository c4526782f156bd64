"""kill -9 at every step of serving a line: the place goes to the first in it, once, and to no newcomer meanwhile."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from libs.common.failpoints import VARIABLE
from tests.booking.builders import book, code_of, my_joins, people_booked, stock
from tests.booking.waiting import a_full_slot, endings, my_wait, served, waiting
from tests.conftest import Cluster
from tests.faults.forks import Api, Forks
from tests.world import World, eventually

pytestmark = pytest.mark.xdist_group("failpoints")


@pytest.fixture(scope="module")
def desk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Forks]]:
    with cluster.world() as world, Forks(tmp_path_factory.mktemp("forks") / "forks.log") as forks:
        yield world, forks


@pytest.mark.parametrize(
    ("waitlist", "point"),
    [
        ("take", "line.before_step"),
        ("take", "line.before_commit"),
        ("take", "line.after_step"),
        ("offer", "line.before_commit"),
    ],
)
def test_a_server_of_the_line_that_dies_leaves_the_place_to_it(
    desk: tuple[World, Forks], tmp_path: Path, waitlist: str, point: str
) -> None:
    world, forks = desk
    place, owner, [join] = a_full_slot(world, waitlist=waitlist)
    first, second = world.user(f"first {point} {waitlist}"), world.user(f"second {point} {waitlist}")
    waits = [waiting(world, user, place.slot_id) for user in (first, second)]
    api = Api(forks, world, **{VARIABLE: f"{point}:{tmp_path / 'died'}"})
    api.start()

    with suppress(httpx2.TransportError):  # it can die before it has answered
        api.http.post(f"/api/booking/joins/{join['id']}/cancel", headers=owner)
    eventually(lambda: not api.is_alive())
    api.kill()

    assert (tmp_path / "died").exists()

    assert code_of(book(world, world.user("newcomer"), place.slot_id)) == (409, "slot_full")
    served(world)
    mine, others = my_wait(world, first, waits[0]["id"]), my_wait(world, second, waits[1]["id"])
    assert (others["place"], others["outcome"]) == (1, None)
    found = stock(world, place.slot_id)
    if waitlist == "take":
        assert (mine["outcome"], endings(world)[mine["id"]]) == ("booked", ["booked"])
        assert len(my_joins(world, first)["items"]) == people_booked(world, place.slot_id) == 1
        assert (found["taken"], found["held"], found["waiting"]) == (1, 0, 1)
    else:
        assert mine["offered_until"] is not None
        assert (found["taken"], found["held"], found["waiting"]) == (0, 1, 1)
