"""The SQL of settling a group: raw, and in few round trips.

The ORM settled 0.3 thousand bookings a second on the machine of docs/performance.md, these statements some thousands.
What is written goes in as JSON that was made before any lock was taken: with arrays the server is a tenth faster, but
they would have to be made under the lock.

Each statement looks its rows up, whatever the planner believes of the tables. A plan is kept, and one of when there were few
rows would be to read them all; a rush makes them many within seconds, and each group would read all others' under the locks
of its own. So tables are joined by `= ANY(ARRAY[x])`, for which there is no other way than the lookup (by `=` the planner may
begin with the other table), or by a LATERAL with OFFSET 0; and nothing is sorted or filtered as another index has it. Of a
user's joins, those of an item are told by its id as text: by the id itself the planner may read all joins of the item.
"""

from collections.abc import Iterable

# --- reading; the ones that end in _LOCKED take row locks, in the order in which their rows are sorted ---

_USERS = "SELECT id::text, disabled_at IS NOT NULL FROM users WHERE id = ANY($1::uuid[]) ORDER BY id"
_SLOTS = """
SELECT s.id::text, s.item_id::text, s.hall_id::text, s.date, s.start, s."end", s.starts_at, s.ends_at, s.status,
    s.deleted, s.asked, s.capacity, s.taken, s.version, s.definition_version, s.held, s.waiting,
    i.version, h.version
FROM slots s
JOIN items i ON i.id = ANY(ARRAY[s.item_id])
JOIN halls h ON h.id = ANY(ARRAY[s.hall_id])
WHERE s.id = ANY($1::uuid[])
ORDER BY s.id"""

USERS = _USERS
USERS_LOCKED = f"{_USERS} FOR NO KEY UPDATE"
SLOTS = _SLOTS
SLOTS_LOCKED = f"{_SLOTS} FOR NO KEY UPDATE OF s"

HOLDINGS = """
SELECT held.user_id, held.item_id, held.slot_id, s.date, s.ends_at, held.people
FROM (
    SELECT user_id::text, item_id::text, slot_id::text, count(*) AS people
    FROM joins
    WHERE status = 'booked'
        AND user_id = ANY($1::uuid[])
        AND item_id::text = ANY(ARRAY(SELECT item_id::text FROM slots WHERE id = ANY($2::uuid[])))
    GROUP BY 1, 2, 3
) held
JOIN slots s ON s.id = ANY(ARRAY[held.slot_id::uuid])"""

SUCCESSES = """
SELECT f.user_id::text, f.key, f.request_digest, f.answer_sealed
FROM unnest($1::uuid[], $2::text[]) AS asked(user_id, key)
JOIN successes f ON f.user_id = ANY(ARRAY[asked.user_id]) AND f.key = ANY(ARRAY[asked.key])"""

CLAIMED = """
SELECT c.item_id::text, c.scope, c.field, c.digest, c.join_id::text
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS asked(item_id, scope, field, digest)
JOIN claims c ON c.item_id = ANY(ARRAY[asked.item_id]) AND c.scope = ANY(ARRAY[asked.scope])
    AND c.field = ANY(ARRAY[asked.field]) AND c.digest = ANY(ARRAY[asked.digest])"""

ITEMS = """
SELECT id::text, hall_id::text, title, cover, status, form, form_version, rules, version
FROM items
WHERE id = ANY($1::uuid[])"""

HALLS = """
SELECT id::text, name, address, timezone, status, missed_policy, version
FROM halls
WHERE id = ANY($1::uuid[])"""

# As `standings` has it, a party once for each of its joins; asked only where a hall has a policy, so that the others pay nothing.
MISSED = """
SELECT j.user_id::text, j.hall_id::text, j.party_id::text, j.slot_id::text, s.date
FROM joins j
JOIN slots s ON s.id = ANY(ARRAY[j.slot_id])
WHERE j.status = 'booked'
    AND j.missed_at IS NOT NULL
    AND j.forgiven_at IS NULL
    AND j.user_id = ANY($1::uuid[])
    AND j.hall_id::text = ANY(ARRAY(SELECT hall_id::text FROM slots WHERE id = ANY($2::uuid[])))
    AND j.slot_id <> ALL (
        SELECT came.slot_id FROM joins came WHERE came.party_id = j.party_id AND came.checked_in_at IS NOT NULL
    )"""

# Asked only where a slot is full and places of it are held.
OFFERED = """
SELECT w.user_id::text, w.slot_id::text, w.id::text, w.offered_until
FROM unnest($1::uuid[], $2::uuid[]) AS asked(slot_id, user_id)
CROSS JOIN LATERAL (
    SELECT * FROM waits
    WHERE waits.slot_id = asked.slot_id AND waits.user_id = asked.user_id AND ended_at IS NULL
    OFFSET 0
) w
WHERE w.offered_until IS NOT NULL"""

WHERE_JOINS_ARE = "SELECT id::text, slot_id::text FROM joins WHERE id = ANY($1::uuid[])"

JOINS_LOCKED = """
SELECT id::text, party_id::text, user_id::text, slot_id::text, item_id::text, hall_id::text, code, status, answers,
    sealed, form_version, created_at, reason, checked_in_at, missed_at, version, ended_at
FROM joins
WHERE id = ANY($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE"""

# --- writing; each has to touch as many rows as it was given, or the group is undone ---

# The guard. What was decided upon the locked rows is not believed here: `people` more have to fit beside what is held,
# nobody may wait for what is free, and the row has to be the one that was seen.
COUNT = """
UPDATE slots SET
    taken = slots.taken + change.people,
    capacity = CASE WHEN slots.asked IS NULL THEN NULL ELSE greatest(slots.asked, slots.taken + slots.held + change.people) END,
    version = change.version
FROM json_to_recordset($1) AS change(id uuid, seen int, people int, version int)
WHERE slots.id = ANY(ARRAY[change.id])
    AND slots.version = change.seen
    AND (
        slots.capacity IS NULL OR change.people <= 0
        OR slots.waiting = 0 AND slots.taken + slots.held + change.people <= slots.capacity
    )"""

CANCEL = """
UPDATE joins SET status = 'cancelled', ended_at = change.ended_at, version = change.version
FROM json_to_recordset($1) AS change(id uuid, ended_at timestamptz, version int)
WHERE joins.id = ANY(ARRAY[change.id]) AND joins.version = change.version - 1"""

MOVE = """
UPDATE joins SET slot_id = change.slot_id, version = change.version
FROM json_to_recordset($1) AS change(id uuid, slot_id uuid, version int)
WHERE joins.id = ANY(ARRAY[change.id]) AND joins.version = change.version - 1"""

RELEASE = "DELETE FROM claims WHERE join_id = ANY($1::uuid[])"


def _insert(table: str, *columns: str) -> str:
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, $1)"  # noqa: S608  # names of our own


BOOK = _insert(
    "joins",
    "id",
    "party_id",
    "user_id",
    "slot_id",
    "item_id",
    "hall_id",
    "code",
    "status",
    "reason",
    "answers",
    "sealed",
    "form_version",
    "version",
    "created_at",
)
ATTACH = _insert("join_files", "join_id", "field", "upload_id")
CLAIM = _insert("claims", "item_id", "scope", "field", "digest", "join_id") + " ON CONFLICT DO NOTHING"
REMEMBER = _insert("successes", "user_id", "key", "request_digest", "answer_sealed", "created_at")
RECORD = _insert("outbox", "id", "type", "subject", "version", "data", "request_id", "replayed", "time")


def array(values: Iterable[str]) -> str:
    """Return an array literal (PostgreSQL manual, 8.15.2); the driver's own takes five times as long."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"


def ids(values: Iterable[str]) -> str:
    """Return a literal of an array of ids, which need no quotes."""
    return "{" + ",".join(values) + "}"


def byte_array(values: Iterable[bytes]) -> str:
    """Return a literal of an array of bytea."""
    return array(f"\\x{value.hex()}" for value in values)


def rows(of_json: Iterable[bytes]) -> bytes:
    """Return rows that are JSON already as one JSON array."""
    return b"[" + b",".join(of_json) + b"]"
