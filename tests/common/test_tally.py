"""Rate limits in memory, shared between processes over Redis."""

import time
from collections.abc import Callable

import pytest
import time_machine

from libs.common.errors import TooMany
from libs.common.tally import SHARE_EVERY_S, Tally
from tests.conftest import Cluster
from tests.world import World, eventually

AT_NOON = "2026-11-25T12:00:15Z"
EVER = "10000day"  # the time of a rate whose window does not end while a test runs


def hits(tally: Tally, rate: str, *subject: str) -> bool:
    """Whether one more is let through."""
    try:
        tally.hit(rate, *subject)
    except TooMany:
        return False
    return True


def test_each_subject_has_its_rate_and_a_new_one_with_each_window() -> None:
    tally = Tally(None, service="test")

    with time_machine.travel(AT_NOON, tick=False) as clock:
        assert [hits(tally, "2/minute", "user", "a") for _ in range(3)] == [True, True, False]
        assert hits(tally, "2/minute", "user", "b")
        clock.shift(45)
        assert hits(tally, "2/minute", "user", "a")


def test_who_has_to_wait_is_told_how_long() -> None:
    tally = Tally(None, service="test")

    with time_machine.travel(AT_NOON, tick=False):
        tally.hit("1/minute", "user", "a")
        with pytest.raises(TooMany) as refused:
            tally.hit("1/minute", "user", "a")

    assert refused.value.params["retry_after_s"] == 45


def test_processes_learn_of_each_other(cluster: Cluster) -> None:
    one, other = (Tally(cluster.valkey.url, service="test-shared") for _ in range(2))
    try:
        for _ in range(500):
            one.hit(f"1000/{EVER}", "user", "busy")
            other.hit(f"1000/{EVER}", "user", "busy")

        def refused() -> bool:
            time.sleep(SHARE_EVERY_S)  # alone, each would be let through for two minutes more
            return not hits(one, f"1000/{EVER}", "user", "busy") and not hits(other, f"1000/{EVER}", "user", "busy")

        eventually(refused, timeout_s=60)
        assert hits(other, f"1000/{EVER}", "user", "quiet")
    finally:
        one.close()
        other.close()


def test_without_redis_each_process_goes_on_counting() -> None:
    tally = Tally("redis://127.0.0.1:1/0", service="test")
    try:
        assert [hits(tally, f"2/{EVER}", "user", "a") for _ in range(3)] == [True, True, False]
    finally:
        tally.close()


def test_a_user_who_asks_too_often_is_told_to_wait(make_world: Callable[..., World]) -> None:
    world = make_world(user_rate=f"2/{EVER}")
    user = world.user("eager")

    answers = [
        world.client.post("/api/booking/joins", headers=user | {"Idempotency-Key": "k"}, json={}) for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 429]
    assert answers[2].json()["code"] == "too_many_requests"
    assert int(answers[2].headers["retry-after"]) >= 1
