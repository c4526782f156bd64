"""The crowd and what it comes for: users with tokens, halls, items and slots, put into the tables directly."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from bench.ground import Ground, as_json
from libs.common.ids import new_id
from libs.common.tokens import TokenKeys
from libs.contracts.principals import issue_user_token

ZONE = ZoneInfo("Asia/Shanghai")
PLENTY = 1_000_000  # places: limited, so that the guard works, and never full
SLOTS_A_DAY = 10
JOINS = "/api/booking/joins"
FORM = [
    {"key": "name", "type": "text", "label": "姓名", "min": 2, "max": 30},
    {"key": "mobile", "type": "mobile", "label": "手机号"},
]


@dataclass(frozen=True)
class Guest:
    """A user and a token of theirs."""

    id: str
    token: str


@dataclass(frozen=True)
class Offer:
    """An item and its slots, in the order of their times."""

    item_id: str
    slot_ids: list[str]


def gather(ground: Ground, size: int) -> list[Guest]:
    """Make that many users who may book, with tokens signed by the installation's own key."""
    keys = TokenKeys(ground.keys.user_token_keys, algorithm="HS256", audience="user")
    now = datetime.now(UTC)
    guests = [Guest(user_id, issue_user_token(keys, user_id, now=now)) for user_id in (new_id() for _ in range(size))]
    with ground.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("COPY booking.users (id, provider, openid, created_at) FROM STDIN") as rows:
            for guest in guests:
                rows.write_row((guest.id, "dev", guest.id, now))
        cursor.execute("ANALYZE booking.users")
    return guests


def offer(
    ground: Ground,
    *,
    slots: int = 1,
    capacity: int = PLENTY,
    taken: int = 0,
    rules: dict[str, Any] | None = None,
    first_day: date | None = None,
) -> Offer:
    """Put an open item with new slots on offer, from tomorrow on, in booking and in catalog."""
    hall_id, item_id = new_id(), new_id()
    first = first_day or (datetime.now(ZONE) + timedelta(days=1)).date()
    made = [(new_id(), *_times(first, number)) for number in range(slots)]
    with ground.connect() as connection, connection.transaction():
        _define(connection, hall_id, item_id, as_json(rules or {}))
        _define_slots(connection, hall_id, item_id, made, capacity, taken)
    return Offer(item_id, [row[0] for row in made])


def join_requests(guests: list[Guest], slot_ids: list[str], *, path: str = JOINS) -> list[bytes]:
    """Render one request to join for each guest, the slots taking turns, each with its own mobile number and key."""
    return [_join_request(guest, slot_ids[number % len(slot_ids)], number, path) for number, guest in enumerate(guests)]


def _join_request(guest: Guest, slot_id: str, number: int, path: str) -> bytes:
    answers = {"name": "王小明", "mobile": f"138{number % 100_000_000:08d}"}
    body = as_json({"slot_id": slot_id, "attendees": [{"answers": answers}]}).encode()
    return post(path, guest, body, more=f"Idempotency-Key: {new_id()}\r\n")


def post(path: str, guest: Guest, body: bytes, *, more: str = "") -> bytes:
    """Render a POST of a guest."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {guest.token}\r\n{more}"
        f"Content-Type: application/json\r\nAccept-Language: zh-CN\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str, *, more: str = "") -> bytes:
    """Render a GET of nobody in particular."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Language: zh-CN\r\n{more}\r\n".encode()


def _times(first: date, number: int) -> tuple[date, str, str, datetime, datetime]:
    day = first + timedelta(days=number // SLOTS_A_DAY)
    hour = 8 + number % SLOTS_A_DAY
    starts = datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)
    return day, f"{hour:02d}:00", f"{hour + 1:02d}:00", starts, starts + timedelta(hours=1)


def _define(connection: psycopg.Connection[Any], hall_id: str, item_id: str, rules: str) -> None:
    form = as_json(FORM)
    connection.execute(
        "INSERT INTO booking.halls (id, name, address, timezone, status, version)"
        " VALUES (%s, '测试厅', '天河路 1 号', 'Asia/Shanghai', 'open', 1)",
        [hall_id],
    )
    connection.execute(
        "INSERT INTO booking.items (id, hall_id, title, cover, status, form, form_version, rules, version)"
        " VALUES (%s, %s, '办理业务', '', 'open', %s, 1, %s, 1)",
        [item_id, hall_id, form, rules],
    )
    connection.execute(
        'INSERT INTO catalog.halls (id, name, address, opening, phone, cover, intro, "order", timezone, status, version)'
        " VALUES (%s, '测试厅', '天河路 1 号', '', '', '', '', 9999, 'Asia/Shanghai', 'open', 1)",
        [hall_id],
    )
    connection.execute(
        "INSERT INTO catalog.items"
        ' (id, hall_id, title, cover, content, status, "order", recommended, form, form_version, rules, version)'
        " VALUES (%s, %s, '办理业务', '', '', 'open', 9999, false, %s, 1, %s, 1)",
        [item_id, hall_id, form, rules],
    )


def _define_slots(
    connection: psycopg.Connection[Any],
    hall_id: str,
    item_id: str,
    made: list[tuple[str, date, str, str, datetime, datetime]],
    capacity: int,
    taken: int,
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO booking.slots (id, date, start, "end", starts_at, ends_at, item_id, hall_id, status,'
            " asked, capacity, taken, version, definition_version)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'open', %s, %s, %s, %s, 1)",
            [(*row, item_id, hall_id, capacity, capacity, taken, taken) for row in made],
        )
        cursor.executemany(
            'INSERT INTO catalog.slots (id, date, start, "end", starts_at, ends_at, item_id, hall_id, status, capacity)'
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'open', %s)",
            [(*row, item_id, hall_id, capacity) for row in made],
        )
        cursor.executemany(
            "INSERT INTO catalog.days (id, item_id, date, note, version) VALUES (%s, %s, %s, '', 1)",
            [(new_id(), item_id, day) for day in sorted({row[1] for row in made})],
        )
