"""What a join counts for, decided without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from services.notify.policy import Counts, Present, Seat, changes, first_version, objection, seat
from services.notify.texts import NoticeKind

LONG = timedelta(days=30)  # longer than every class
MINUTES = 30 * 24 * 60


def test_a_new_join_counts_in_its_slot() -> None:
    after = seat("A", status="booked", checked_in=False, missed=False, lead=LONG)

    assert changes(None, after) == {"A": Counts(booked=1, lead_minutes=MINUTES)}


def test_a_move_takes_from_the_old_slot_what_it_counted_for_and_gives_it_to_the_new_one() -> None:
    before = seat("A", status="booked", checked_in=False, missed=True, lead=LONG)
    after = seat("B", status="booked", checked_in=False, missed=False, lead=LONG)

    assert changes(before, after) == {
        "A": Counts(booked=-1, missed=-1, lead_minutes=-MINUTES),
        "B": Counts(booked=1, lead_minutes=MINUTES),
    }


def test_an_event_that_changes_no_count_changes_no_stat() -> None:
    same = seat("A", status="booked", checked_in=True, missed=False, lead=LONG)

    assert changes(same, same) == {}


@pytest.mark.parametrize("status", ["cancelled", "revoked"])
def test_a_join_that_is_not_booked_is_neither_checked_in_nor_missed(status: str) -> None:
    assert seat("A", status=status, checked_in=True, missed=True, lead=LONG) == Seat("A", Counts(**{status: 1}))


def test_a_checked_in_join_is_among_the_booked() -> None:
    assert seat("A", status="booked", checked_in=True, missed=False, lead=LONG).counts == Counts(
        booked=1, checked_in=1, lead_minutes=MINUTES
    )


def test_first_versions_grow_with_time_and_start_at_one() -> None:
    instants = [datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC)]

    versions = [first_version(instant) for instant in instants]

    assert versions[0] == 1
    assert versions == sorted(set(versions))
    assert first_version(datetime(2090, 1, 1, tzinfo=UTC)) < 2**31


@pytest.mark.parametrize(
    ("lead", "minutes", "name"),
    [
        (timedelta(minutes=-5), 0, "lead_hour"),  # who walked in after the start
        (timedelta(seconds=59), 0, "lead_hour"),
        (timedelta(minutes=60), 60, "lead_day"),
        (timedelta(hours=23, minutes=59, seconds=59), 1439, "lead_day"),
        (timedelta(days=1), 1440, "lead_three_days"),
        (timedelta(days=3), 4320, "lead_week"),
        (timedelta(days=7), 10080, "lead_fortnight"),
    ],
)
def test_a_booked_join_counts_for_how_long_before_it_was_booked(lead: timedelta, minutes: int, name: str) -> None:
    booked = seat("A", status="booked", checked_in=False, missed=False, lead=lead)
    cancelled = seat("A", status="cancelled", checked_in=False, missed=False, lead=lead)

    assert booked.counts == Counts(booked=1, lead_minutes=minutes, **{name: 1})
    assert cancelled.counts == Counts(cancelled=1)


NOTHING_HOLDS = Present(is_expected=False, is_out=False, has_ended=True)
AHEAD = (NoticeKind.REMINDER, NoticeKind.ANNOUNCEMENT, NoticeKind.WAITING_OFFERED)


@pytest.mark.parametrize("kind", NoticeKind)
def test_what_has_happened_stays_news_and_what_is_ahead_may_not(kind: NoticeKind) -> None:
    assert (objection(kind, NOTHING_HOLDS) is None) == (kind not in AHEAD)
    assert objection(kind, Present()) is None
    assert objection(kind, Present(is_wanted=False)) is not None
