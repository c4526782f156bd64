"""When people are reminded and when they are left in peace, decided without a database, across summer time."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.contracts.catalog import QuietHours
from services.notify.policy import Reminder, next_reminder, reminder_due, reminders_of, send_at

BERLIN, NEW_YORK, SHANGHAI = "Europe/Berlin", "America/New_York", "Asia/Shanghai"
ZONES = [BERLIN, NEW_YORK, SHANGHAI, "Australia/Lord_Howe"]  # where the clocks change by half an hour
DAY, HOUR = 24 * 60, 60
NIGHT = QuietHours(start=time(22), end=time(7))

zones = st.sampled_from(ZONES)
instants = st.integers(0, 2 * 366 * 24 * 3600).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
clock_times = st.times().map(lambda at: at.replace(second=0, microsecond=0))


def at(zone: str, text: str, *, fold: int = 0) -> datetime:
    """Return what the clock of the zone shows, as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def clock(instant: datetime, zone: str) -> str:
    return instant.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M")


def due(zone: str, starts: str, minutes: int) -> str:
    [reminder] = reminders_of(at(zone, starts), [minutes], zone)
    return clock(reminder.due_at, zone)


# --- reminders ---


def test_a_day_before_is_the_same_time_of_day_and_an_hour_before_is_sixty_minutes() -> None:
    assert due(SHANGHAI, "2026-12-01 09:00", DAY) == "11-30 09:00"
    assert due(SHANGHAI, "2026-12-01 09:00", HOUR) == "12-01 08:00"
    assert due(SHANGHAI, "2026-12-01 00:30", HOUR) == "11-30 23:30"  # the date before
    assert due(SHANGHAI, "2026-03-01 00:00", DAY) == "02-28 00:00"
    assert due(SHANGHAI, "2026-12-01 09:00", 2 * DAY + 90) == "11-29 07:30"


def test_a_day_before_stays_at_its_time_of_day_when_the_clocks_change() -> None:
    assert due(BERLIN, "2026-03-29 09:00", DAY) == "03-28 09:00"  # 23 hours before
    assert due(BERLIN, "2026-10-25 09:00", DAY) == "10-24 09:00"  # 25 hours before
    assert due(NEW_YORK, "2026-03-08 09:00", DAY) == "03-07 09:00"
    assert due(NEW_YORK, "2026-11-01 09:00", DAY) == "10-31 09:00"


def test_an_hour_before_is_sixty_minutes_when_the_clocks_change() -> None:
    assert due(BERLIN, "2026-03-29 03:30", HOUR) == "03-29 01:30"
    assert due(BERLIN, "2026-10-25 03:00", HOUR) == "10-25 02:00"  # it comes twice: this is the second
    [reminder] = reminders_of(at(BERLIN, "2026-10-25 03:00"), [HOUR], BERLIN)
    assert reminder.due_at == at(BERLIN, "2026-10-25 02:00", fold=1)


def test_a_time_that_the_clocks_jump_over_the_day_before_comes_as_much_later() -> None:
    assert due(BERLIN, "2026-03-30 02:30", DAY) == "03-29 03:30"


def test_a_time_that_comes_twice_the_day_before_is_its_first_coming() -> None:
    [reminder] = reminders_of(at(BERLIN, "2026-10-26 02:30"), [DAY], BERLIN)

    assert reminder.due_at == at(BERLIN, "2026-10-25 02:30", fold=0)


@given(starts_at=instants, minutes=st.sets(st.integers(5, 30 * DAY), max_size=3), zone=zones)
def test_reminders_are_before_the_start_in_order_and_off_by_summer_time_at_most(
    starts_at: datetime, minutes: set[int], zone: str
) -> None:
    found = reminders_of(starts_at, minutes, zone)

    assert found == sorted(found)
    assert {reminder.minutes for reminder in found} == minutes
    for reminder in found:
        real = (starts_at - reminder.due_at) / timedelta(minutes=1)
        assert real > 0
        assert abs(real - reminder.minutes) <= (60 if reminder.minutes >= DAY else 0)


STARTS = at(SHANGHAI, "2026-12-02 09:00")
DAY_BEFORE, HOUR_BEFORE = reminders_of(STARTS, [DAY, HOUR], SHANGHAI)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-11-01 09:00", DAY_BEFORE.due_at),
        ("2026-12-01 09:00", DAY_BEFORE.due_at),
        ("2026-12-01 09:01", HOUR_BEFORE.due_at),  # booked after the reminder's time
        ("2026-12-02 08:30", None),
    ],
)
def test_only_reminders_that_are_not_due_yet_are_waited_for(since: str, expected: datetime | None) -> None:
    assert next_reminder([DAY_BEFORE, HOUR_BEFORE], since=at(SHANGHAI, since)) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-12-01 09:00", None),
        ("2026-12-01 09:01", DAY_BEFORE),
        ("2026-12-02 08:00", DAY_BEFORE),  # hours late, and still of use
        ("2026-12-02 08:01", HOUR_BEFORE),  # both are due: the last says all
        ("2026-12-02 08:59", HOUR_BEFORE),
        ("2026-12-02 09:00", None),  # it has started
    ],
)
def test_a_late_reminder_is_sent_unless_the_next_is_due_or_the_slot_has_started(
    now: str, expected: Reminder | None
) -> None:
    found = reminder_due([DAY_BEFORE, HOUR_BEFORE], since=DAY_BEFORE.due_at, starts_at=STARTS, now=at(SHANGHAI, now))

    assert found == expected


# --- quiet hours ---


@pytest.mark.parametrize(
    ("now", "sent"),
    [
        ("2026-12-01 21:59", "12-01 21:59"),
        ("2026-12-01 22:00", "12-02 07:00"),
        ("2026-12-02 00:00", "12-02 07:00"),
        ("2026-12-02 06:59", "12-02 07:00"),
        ("2026-12-02 07:00", "12-02 07:00"),
        ("2026-12-31 23:00", "01-01 07:00"),
    ],
)
def test_what_disturbs_waits_until_the_quiet_hours_end(now: str, sent: str) -> None:
    assert clock(send_at(at(SHANGHAI, now), NIGHT, SHANGHAI, None), SHANGHAI) == sent


def test_without_quiet_hours_nothing_waits() -> None:
    now = at(SHANGHAI, "2026-12-01 03:00")

    assert send_at(now, None, SHANGHAI, None) == now


def test_quiet_hours_within_one_day_are_of_that_day() -> None:
    siesta = QuietHours(start=time(12), end=time(14))

    assert clock(send_at(at(BERLIN, "2026-07-01 13:00"), siesta, BERLIN, None), BERLIN) == "07-01 14:00"
    assert clock(send_at(at(BERLIN, "2026-07-01 14:00"), siesta, BERLIN, None), BERLIN) == "07-01 14:00"
    assert clock(send_at(at(BERLIN, "2026-07-01 03:00"), siesta, BERLIN, None), BERLIN) == "07-01 03:00"


@pytest.mark.parametrize(
    ("useful_until", "sent"),
    [
        ("2026-12-02 06:30", "12-02 00:00"),  # the slot starts before anybody may be woken: now
        ("2026-12-02 07:00", "12-02 00:00"),
        ("2026-12-02 07:59", "12-02 00:00"),  # whoever has less than an hour may be on their way
        ("2026-12-02 08:00", "12-02 07:00"),
    ],
)
def test_what_would_come_too_late_to_be_of_use_is_sent_at_once(useful_until: str, sent: str) -> None:
    found = send_at(at(SHANGHAI, "2026-12-02 00:00"), NIGHT, SHANGHAI, at(SHANGHAI, useful_until))

    assert clock(found, SHANGHAI) == sent


def test_quiet_hours_end_by_the_clock_in_nights_with_summer_time() -> None:
    for night in ("2026-03-28", "2026-10-24"):
        before_midnight = at(BERLIN, f"{night} 23:00")
        assert send_at(before_midnight, NIGHT, BERLIN, None).astimezone(ZoneInfo(BERLIN)).time() == time(7)
    shortest = QuietHours(start=time(23), end=time(2, 30))
    assert clock(send_at(at(BERLIN, "2026-03-29 01:00"), shortest, BERLIN, None), BERLIN) == "03-29 03:30"
    assert send_at(at(BERLIN, "2026-10-25 01:00"), shortest, BERLIN, None) == at(BERLIN, "2026-10-25 02:30", fold=0)
    second = at(BERLIN, "2026-10-25 02:10", fold=1)  # it was half past two before
    assert send_at(second, shortest, BERLIN, None) == second


def hours_between(quiet: QuietHours) -> float:
    """Return how many hours of a usual day are not quiet."""
    start, end = (timedelta(hours=at.hour, minutes=at.minute) for at in (quiet.start, quiet.end))
    return ((start - end) % timedelta(days=1)) / timedelta(hours=1)


@given(now=instants, start=clock_times, end=clock_times, zone=zones)
def test_what_waits_waits_for_the_end_and_no_longer(now: datetime, start: time, end: time, zone: str) -> None:
    quiet = QuietHours(start=start, end=end)
    assume(hours_between(quiet) >= 2)

    sent = send_at(now, quiet, zone, None)

    assert now <= sent < now + timedelta(hours=25)
    assert send_at(sent, quiet, zone, None) == sent, "it would be quiet still"
    is_plain = len({(now + timedelta(days=days)).astimezone(ZoneInfo(zone)).utcoffset() for days in (-2, 2)}) == 1
    if is_plain:  # no clock is changed within these days: the clock alone tells
        shown = now.astimezone(ZoneInfo(zone)).time().replace(fold=0)
        within = start <= shown < end if start < end else shown >= start or shown < end
        assert (sent > now) == within
        assert sent == now or sent.astimezone(ZoneInfo(zone)).time() == end


@given(now=instants, start=clock_times, end=clock_times, zone=zones, ahead=st.integers(-60, 48 * 60))
def test_nothing_is_held_beyond_its_use(now: datetime, start: time, end: time, zone: str, ahead: int) -> None:
    quiet, useful_until = QuietHours(start=start, end=end), now + timedelta(minutes=ahead)
    assume(start != end)

    sent = send_at(now, quiet, zone, useful_until)

    assert sent == now or sent < useful_until
    assert sent in (now, send_at(now, quiet, zone, None))


@given(now=instants, later=st.integers(0, 48 * 60), start=clock_times, end=clock_times, zone=zones)
def test_nothing_overtakes_what_waited_before_it(now: datetime, later: int, start: time, end: time, zone: str) -> None:
    quiet = QuietHours(start=start, end=end)
    assume(start != end)

    first, second = (send_at(now + timedelta(minutes=wait), quiet, zone, None) for wait in (0, later))

    assert first <= second
