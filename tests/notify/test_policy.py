"""What a join counts for, decided without a database."""

from datetime import UTC, datetime

import pytest

from services.notify.policy import Counts, Seat, changes, first_version, seat


def test_a_new_join_counts_in_its_slot() -> None:
    after = seat("A", status="booked", checked_in=False, missed=False)

    assert changes(None, after) == {"A": Counts(booked=1)}


def test_a_move_takes_from_the_old_slot_what_it_counted_for_and_gives_it_to_the_new_one() -> None:
    before = seat("A", status="booked", checked_in=False, missed=True)
    after = seat("B", status="booked", checked_in=False, missed=False)

    assert changes(before, after) == {"A": Counts(booked=-1, missed=-1), "B": Counts(booked=1)}


def test_an_event_that_changes_no_count_changes_no_stat() -> None:
    same = seat("A", status="booked", checked_in=True, missed=False)

    assert changes(same, same) == {}


@pytest.mark.parametrize("status", ["cancelled", "revoked"])
def test_a_join_that_is_not_booked_is_neither_checked_in_nor_missed(status: str) -> None:
    assert seat("A", status=status, checked_in=True, missed=True) == Seat("A", Counts(**{status: 1}))


def test_a_checked_in_join_is_among_the_booked() -> None:
    assert seat("A", status="booked", checked_in=True, missed=False).counts == Counts(booked=1, checked_in=1)


def test_first_versions_grow_with_time_and_start_at_one() -> None:
    instants = [datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC)]

    versions = [first_version(instant) for instant in instants]

    assert versions[0] == 1
    assert versions == sorted(set(versions))
    assert first_version(datetime(2090, 1, 1, tzinfo=UTC)) < 2**31
