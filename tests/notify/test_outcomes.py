"""What becomes of a delivery: pure."""

from datetime import UTC, datetime, timedelta

import pytest

from services.notify.outcomes import DELAYS_S, DeliveryState, Later, Outcome, Refused, Sent, Step, Unknown, after

NOW = datetime(2026, 11, 3, 1, tzinfo=UTC)


def step(outcome: Outcome, *, attempt: int = 1, twice: bool = False, good_until: datetime | None = None) -> Step:
    return after(outcome, attempt=attempt, possibly_twice=twice, good_until=good_until, now=NOW)


def test_what_was_sent_is_sent_and_what_was_refused_has_failed() -> None:
    assert step(Sent()) == Step(DeliveryState.SENT, possibly_twice=False)
    assert step(Refused("no")) == Step(DeliveryState.FAILED, possibly_twice=False)


def test_what_may_be_tried_again_waits_longer_each_time_and_is_given_up_in_the_end() -> None:
    waits = [step(Later("busy"), attempt=attempt) for attempt in range(1, len(DELAYS_S) + 2)]

    due = [NOW + timedelta(seconds=delay) for delay in DELAYS_S]
    assert waits[:-1] == [Step(DeliveryState.QUEUED, possibly_twice=False, due_at=at) for at in due]
    assert waits[-1] == Step(DeliveryState.FAILED, possibly_twice=False)
    assert list(DELAYS_S) == sorted(DELAYS_S)


@pytest.mark.parametrize(("asked", "waited"), [(30.0, 30.0), (0.1, 2.0), (10**9, 4 * 3600.0)])
def test_a_provider_may_ask_for_more_patience_but_not_for_any(asked: float, waited: float) -> None:
    assert step(Later("busy", after_s=asked)).due_at == NOW + timedelta(seconds=waited)


def test_a_lost_answer_is_a_second_message_at_most() -> None:
    first = step(Unknown("silence"))

    assert (first.state, first.possibly_twice) == (DeliveryState.QUEUED, True)
    assert step(Unknown("silence"), attempt=2, twice=True) == Step(DeliveryState.FAILED, possibly_twice=True)
    assert step(Sent(), attempt=2, twice=True) == Step(DeliveryState.SENT, possibly_twice=True)


def test_what_would_come_too_late_is_not_tried_again() -> None:
    soon = NOW + timedelta(seconds=1)

    assert step(Later("busy"), good_until=soon).state == DeliveryState.FAILED
    assert step(Unknown("silence"), good_until=soon) == Step(DeliveryState.FAILED, possibly_twice=True)
    assert step(Later("busy"), good_until=NOW + timedelta(hours=1)).state == DeliveryState.QUEUED
