"""SIGKILL in the middle of traffic: the part comes back by itself, nothing is lost, nothing is told twice."""

import httpx2
import pytest

from deploy.native import Native
from deploy.servers.rabbitmq import RabbitMQ
from tests.distributed.town import BUSY, Town, Traffic
from tests.world import eventually

pytestmark = [
    pytest.mark.xdist_group("distributed"),
    pytest.mark.usefixtures("all_is_well_again"),
]

PEOPLE = 40


@pytest.mark.parametrize(
    "victim", ["catalog-events", "booking-events", "notify-events", "notify-loops", "admin-events", "rabbitmq"]
)
def test_a_crash_on_the_way_of_events_loses_and_doubles_nothing(native: Native, town: Town, victim: str) -> None:
    slot = town.slot(capacity=100)
    users = town.users(PEOPLE)
    part = native["rabbitmq"].part
    assert isinstance(part, RabbitMQ)
    part.sync()  # see there: its queues may be as young as the installation
    before = native[victim].pid
    traffic = Traffic(town, slot, users)
    traffic.reach(10)

    native[victim].kill()

    joins = traffic.end()
    eventually(lambda: town.remaining(slot) == 100 - PEOPLE, timeout_s=120)
    eventually(lambda: town.booked_by_stats(slot) == PEOPLE, timeout_s=120)
    assert [town.told(user) for user in users] == [[("booked", join)] for join in joins]
    eventually(native[victim].is_ready, timeout_s=120)
    assert native[victim].pid != before
    eventually(town.is_well, timeout_s=120)


@pytest.mark.parametrize("victim", ["booking", "gateway", "postgres", "redis"])
def test_a_crash_of_what_answers_is_mended_and_the_same_request_gets_one_place(
    native: Native, town: Town, victim: str
) -> None:
    slot, user = town.slot(), town.user()
    before = native[victim].pid

    native[victim].kill()

    def ask() -> bool:
        try:
            answer = town.ask_for_a_place(user, slot, key=f"over-the-crash-of-{victim}")
        except httpx2.TransportError:
            return False
        assert answer.status_code in (201, *BUSY), answer.text
        return answer.status_code == 201

    eventually(ask, timeout_s=120)
    # Workers of a killed nginx go on answering until another one takes their place.
    eventually(lambda: native[victim].is_ready() and native[victim].pid != before, timeout_s=120)
    assert eventually(ask, timeout_s=120)
    eventually(town.is_well, timeout_s=120)
    eventually(lambda: town.remaining(slot) == slot.capacity - 1, timeout_s=120)
    eventually(lambda: town.told(user), timeout_s=120)  # by a consumer of its own
    assert len(town.told(user)) == 1
