"""Dead letters of a distributed installation: counted, seen, replayed and dropped over HTTP, where RabbitMQ keeps them."""

from collections.abc import Callable

import httpx2
import pika
import pytest

from deploy.native import HERE, Native
from deploy.servers.rabbitmq import RabbitMQ
from libs.common.bus_rabbit import EXCHANGE
from libs.common.ids import new_id
from tests.distributed.town import Town
from tests.world import eventually

LETTERS = "notify/staff/dead-letters"


@pytest.fixture
def nonsense(native: Native, town: Town) -> str:
    """Put something on the bus that notify can't read; return the id that it gets."""
    rabbit = native["rabbitmq"].part
    assert isinstance(rabbit, RabbitMQ)
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        properties = pika.BasicProperties(message_id=new_id())
        connection.channel().basic_publish(EXCHANGE, "join.booked", b"{13800138000", properties)
    eventually(lambda: properties.message_id in ids(town))
    found: str = properties.message_id
    return found


def ids(town: Town) -> list[str]:
    return [letter["id"] for letter in town.found(LETTERS, town.staff, limit=100)["items"]]


def counted(native: Native) -> float:
    page = httpx2.get(f"http://{HERE}:{native['notify-events'].port}/metrics", timeout=60, trust_env=False).text
    of_events = 'hallpass_dead_letters{consumer="notify.events"'
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(of_events))


def test_a_dead_letter_is_counted_seen_replayed_and_dropped(native: Native, town: Town, nonsense: str) -> None:
    at = f"{LETTERS}/{nonsense}"
    seen = taken_in_hand(lambda: town.get(at, town.staff))
    again = taken_in_hand(lambda: town.post(f"{at}/replay", town.staff))
    eventually(lambda: counted(native) >= 1 and nonsense in ids(town), timeout_s=60)
    dropped = taken_in_hand(lambda: town.post(f"{at}/drop", town.staff, {"reason": "nobody can read it"}))

    assert seen.json()["content"] is None
    assert "13800138000" not in seen.text
    assert (again.status_code, dropped.status_code) == (200, 200)
    assert nonsense not in ids(town)
    eventually(lambda: actions(town, nonsense) == {"dead_letter.replayed", "dead_letter.dropped"})


def taken_in_hand(ask: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Return the answer of whoever has found the letter: after three seconds of silence there are no more of them."""
    answer: httpx2.Response = eventually(lambda: found if (found := ask()).status_code == 200 else None)
    return answer


def actions(town: Town, letter_id: str) -> set[str]:
    records = town.found("admin/audit", town.staff, object_id=letter_id)["items"]
    return {record["action"] for record in records}
