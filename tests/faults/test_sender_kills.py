"""SIGKILL for the process that carries notices: each is sent once, or is marked as possibly twice, and none is lost."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from libs.common.ids import new_id
from services.notify.models import Delivery
from tests.conftest import Cluster
from tests.faults.forks import Forks, NoticeSender
from tests.notify.builders import rows
from tests.notify.reaching import TEMPLATE, Providers, Town
from tests.world import eventually

KILLS = int(os.environ.get("HALLPASS_TEST_SENDER_KILLS", "4"))
NOTICES = KILLS * 10
SEED = int(os.environ.get("HALLPASS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)

pytestmark = pytest.mark.timeout(300 + KILLS * 10)


@pytest.fixture
def town(cluster: Cluster) -> Iterator[Town]:
    with Providers() as providers, cluster.world(**providers.settings() | {"wechat_timeout_s": 30}) as world:
        town = Town(world, providers.wechat, providers.mail)
        town.map_wechat()
        yield town


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    with Forks(tmp_path / "forks.log") as forks:
        yield forks


def told(town: Town, how_many: int) -> list[str]:
    """Tell so many users something; WeChat would take two messages to each of them, so that one too many is seen."""
    users = [new_id() for _ in range(how_many)]
    for user in users:
        assert town.allow(user).is_success
        town.wechat.grants[f"openid-{user}", TEMPLATE] += 1
        town.tell(user)
    return users


def time_passes(town: Town) -> None:
    """Let the time be over that a dead sender had for what it was sending, and the waits of what is tried again."""
    with town.world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE deliveries SET due_at = now() WHERE state IN ('queued', 'sending')"))


def has_sent(town: Town, how_many: int) -> bool:
    return len(town.wechat.received) >= how_many


def test_what_was_being_sent_when_its_process_died_goes_out_again_and_is_marked(town: Town, forks: Forks) -> None:
    [lost] = told(town, 1)
    town.wechat.next = ["hang after"]
    sender = NoticeSender(forks, town.world)
    eventually(lambda: town.wechat.received, timeout_s=60)
    sender.kill()
    [other] = told(town, 1)
    time_passes(town)

    sender = NoticeSender(forks, town.world)
    eventually(lambda: town.states() == [("sent", False), ("sent", True)], timeout_s=60)
    sender.kill()

    assert Counter(town.wechat.to) == {f"openid-{lost}": 2, f"openid-{other}": 1}
    assert town.delivery(lost, "wechat")["attempts"] == 2
    assert town.delivery(other, "wechat")["possibly_twice"] is False


def test_whoever_is_killed_each_notice_is_sent_once_or_marked(town: Town, forks: Forks) -> None:
    print(f"seed {SEED}: HALLPASS_TEST_SEED={SEED} repeats when they are killed")
    chance = random.Random(SEED)
    town.wechat.message_delay_s = 0.05
    town.wechat.next = ["hang after"]
    users = told(town, NOTICES)
    senders = [NoticeSender(forks, town.world) for _ in range(2)]
    eventually(lambda: has_sent(town, 1) and not town.wechat.next, timeout_s=60)
    for sender in senders:  # one of them is sending, whatever the others of which chance decides are at
        sender.kill()
    senders = [NoticeSender(forks, town.world) for _ in range(2)]

    for kill in range(KILLS):
        wanted = (kill + 1) * NOTICES // (KILLS + 2)
        eventually(partial(has_sent, town, wanted), timeout_s=60)
        time.sleep(chance.uniform(0, 0.1))  # the moment of the kill
        senders.pop(0).kill()  # who has been there for longer: the other may not have come to send anything yet
        senders.append(NoticeSender(forks, town.world))
    eventually(lambda: all(state != "queued" for state, _ in town.states()), timeout_s=120)
    for sender in senders:
        sender.kill()
    time_passes(town)  # with nobody alive whose messages it would take for lost
    sender = NoticeSender(forks, town.world)
    eventually(lambda: all(state == "sent" for state, _ in town.states()), timeout_s=60)
    sender.kill()

    found = rows(town.world, Delivery)
    arrived = Counter(town.wechat.to)
    sent_to = {town.wechat.openid_of(row["provider_id"]): row for row in found}
    marked = [row for row in found if row["possibly_twice"]]
    print(f"{KILLS} kills: {NOTICES} notices, {len(marked)} marked, {sum(arrived.values())} messages")
    assert set(arrived) == {f"openid-{user}" for user in users}
    assert marked
    for openid, count in arrived.items():
        assert count == 1 or (count == 2 and sent_to[openid]["possibly_twice"]), openid
