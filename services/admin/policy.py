"""What admin decides: when a name is locked, what a password must be, how long a session lasts, who may do what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from services.admin.errors import (
    BeyondYours,
    HallsNeeded,
    HallsNotTaken,
    LastSuperAdmin,
    OwnAccount,
    PasswordIsName,
    PasswordTooCommon,
    PasswordTooShort,
)


class JobState(StrEnum):
    """The states that jobs of every kind go through; `ExportState` and `ImportState` have them, too."""

    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"


class ExportState(StrEnum):
    QUEUED = JobState.QUEUED
    RUNNING = JobState.RUNNING
    DONE = "done"
    FAILED = JobState.FAILED
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ImportState(StrEnum):
    """`checked`: the dry run found no fault; it waits for its owner's word to be applied."""

    QUEUED = JobState.QUEUED
    RUNNING = JobState.RUNNING
    CHECKED = "checked"
    DONE = "done"
    FAILED = JobState.FAILED
    CANCELLED = "cancelled"
    EXPIRED = "expired"


UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
UNDER_WAY = (*UNFINISHED, ImportState.CHECKED)  # of jobs of either kind: those that are not over
MOST_IMPORTS = 3  # of one account under way; those that wait to be applied hold a file, too
IMPORT_LASTS = timedelta(days=1)
MOST_EXPORTS = 3  # unfinished ones of one account
MOST_RUNS = 3  # of one job: what kills its worker each time would kill it for ever
EXPORT_LASTS = timedelta(days=1)
LINK_LASTS = timedelta(minutes=5)
JOB_REMEMBERED = timedelta(days=30)


@dataclass(frozen=True)
class Limit:
    """How many failures within a time lock a name."""

    failures: int
    within: timedelta


FROM_ADDRESS = Limit(failures=5, within=timedelta(days=1))
# So many that no single address comes to it, whose fifth failure locks: only many addresses together lock everybody out.
FROM_EVERYWHERE = Limit(failures=100, within=timedelta(hours=1))
FIRST_LOCK = timedelta(minutes=15)
LONGEST_LOCK = timedelta(hours=2)

SHORTEST_PASSWORD = 10
# Those of ten characters and more that lists of leaked passwords begin with; shorter ones are refused anyway.
COMMON_PASSWORDS = frozenset(
    [
        "0123456789",
        "0987654321",
        "1234567890",
        "12345678910",
        "123456789a",
        "123456789q",
        "1234567891",
        "1q2w3e4r5t",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "a123456789",
        "aa123456789",
        "abc123456789",
        "abcd123456",
        "abcd1234567",
        "abcdefghij",
        "admin12345",
        "admin123456",
        "administrator",
        "asdfghjkl1",
        "asdfghjkl;",
        "changeme123",
        "football123",
        "iloveyou123",
        "iloveyou520",
        "letmein123",
        "password01",
        "password12",
        "password123",
        "password1234",
        "passw0rd123",
        "q1w2e3r4t5",
        "q1w2e3r4t5y6",
        "qq123456789",
        "qwe123456789",
        "qwer123456",
        "qwerty1234",
        "qwerty12345",
        "qwerty123456",
        "qwertyuiop",
        "qwertyuiop123",
        "superadmin",
        "welcome123",
        "welcome1234",
        "woaini1314",
        "woaini1314520",
        "woaini520",
        "wangyut2",
        "zxcvbnm123",
        "zxcvbnm,./",
        "5201314520",
        "1314520520",
        "147258369a",
        "1472583690",
        "9876543210",
        "hallpass123",
        "hallpass1234",
    ]
)

RECOVERY_CODES = 10
_DRIFT = 1  # steps of 30 s that the clock of a phone may be off, either way

SESSION_RESTS_AT_MOST = timedelta(days=7)
SESSION_LASTS_AT_MOST = timedelta(days=30)
LOST_ANSWER_WINDOW = timedelta(seconds=10)


def locked_until(failures: int, limit: Limit, *, now: datetime) -> datetime | None:
    """Return until when the latest failure locks a name: every fifth (say) does, each time for twice as long."""
    locks, rest = divmod(failures, limit.failures)
    if rest or not locks:
        return None
    return now + min(FIRST_LOCK * (1 << min(locks - 1, 10)), LONGEST_LOCK)


def check_password(password: str, *, username: str) -> None:
    """Raise the reason why a password is not good enough."""
    if len(password) < SHORTEST_PASSWORD:
        raise PasswordTooShort(least=SHORTEST_PASSWORD)
    if password.casefold() == username.casefold():
        raise PasswordIsName
    if password.casefold() in COMMON_PASSWORDS or len(set(password)) <= 2:
        raise PasswordTooCommon


def steps_open(step: int, *, last_used: int) -> range:
    """Return the steps whose codes count in this step: its own and those beside it, and none that was used or is older."""
    return range(max(step - _DRIFT, last_used + 1), step + _DRIFT + 1)


def session_ends(began: datetime, *, now: datetime) -> datetime:
    """Return when a session that is used now ends unless it is used again: after a week's rest, or a month in all."""
    return min(now + SESSION_RESTS_AT_MOST, began + SESSION_LASTS_AT_MOST)


def judge_refresh(
    given: bytes, *, current: bytes, previous: bytes | None, rotated_at: datetime, now: datetime
) -> Literal["rotate", "repeat", "stolen"]:
    """Decide what a refresh token means, by hashes.

    The one before the current one is asked for again when an answer was lost or two tabs refresh together; some
    seconds later, or for any older one, somebody else has a copy.
    """
    if given == current:
        return "rotate"
    if given == previous and now - rotated_at <= LOST_ANSWER_WINDOW:
        return "repeat"
    return "stolen"


def check_halls(halls: Sequence[str], *, for_all: bool) -> None:
    """Raise where the halls do not suit the role: a super admin is for all and names none, the others name theirs."""
    if for_all and halls:
        raise HallsNotTaken
    if not for_all and not halls:
        raise HallsNeeded


@dataclass(frozen=True)
class Authority:
    """How much an account may do: the rank of its role (higher is more) and all its rights."""

    rank: int
    rights: frozenset[str]

    def covers(self, other: "Authority") -> bool:
        return self.rank >= other.rank and self.rights >= other.rights


def check_not_beyond(actor: Authority, account: Authority) -> None:
    """Raise where an account may, or would, more than who administers it."""
    if not actor.covers(account):
        raise BeyondYours


def check_own_account(*, own: bool, changes_standing: bool) -> None:
    """Raise where somebody would give something to, or take something from, themselves."""
    if own and changes_standing:
        raise OwnAccount


def check_super_admin_remains(*, loses_one: bool, others: int) -> None:
    """Raise where a change would leave no enabled super admin."""
    if loses_one and others == 0:
        raise LastSuperAdmin


def after_failure(runs: int, *, for_good: bool) -> ExportState:
    """Decide what becomes of an export whose run has failed: another run, unless it had its runs or none would help."""
    return ExportState.FAILED if for_good or runs >= MOST_RUNS else ExportState.QUEUED


def is_orphan(run: int, *, state: ExportState | None, runs: int) -> bool:
    """Whether the file that a run has stored is of no use: no run at hand will publish it, and none has."""
    if state in (ExportState.RUNNING, ExportState.DONE):
        return run != runs
    return True
