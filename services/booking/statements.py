"""The SQL of settling a group: raw, and in few round trips.

The ORM settled 0.3 thousand bookings a second on the machine of docs/performance.md, these statements some thousands.
What is written goes in as JSON that was made before any lock was taken: with arrays the server is a tenth faster, but
they would have to be made under the lock.
"""

from collections.abc import Iterable

# --- reading; the ones that end in _LOCKED take row locks, in the order in which their rows are sorted ---

_USERS = "SELECT id::text, disabled_at IS NOT NULL FROM users WHERE id = ANY($1::uuid[]) ORDER BY id"
_SLOTS = """
SELECT s.id::text, s.item_id::text, s.hall_id::text, s.date, s.start, s."end", s.starts_at, s.ends_at, s.status,
    s.deleted, s.asked, s.capacity, s.taken, s.version, s.definition_version, s.held, s.waiting,
    i.version, h.version
FROM slots s
JOIN items i ON i.id = s.item_id
JOIN halls h ON h.id = s.hall_id
WHERE s.id = ANY($1::uuid[])
ORDER BY s.id"""

USERS = _USERS
USERS_LOCKED = f"{_USERS} FOR NO KEY UPDATE"
SLOTS = _SLOTS
SLOTS_LOCKED = f"{_SLOTS} FOR NO KEY UPDATE OF s"

HOLDINGS = """
SELECT j.user_id::text, j.item_id::text, j.slot_id::text, s.date, s.ends_at, count(*)
FROM joins j
JOIN slots s ON s.id = j.slot_id
WHERE j.status = 'booked'
    AND j.user_id = ANY($1::uuid[])
    AND j.item_id IN (SELECT item_id FROM slots WHERE id = ANY($2::uuid[]))
GROUP BY j.user_id, j.item_id, j.slot_id, s.date, s.ends_at"""

SUCCESSES = """
SELECT f.user_id::text, f.key, f.request_digest, f.answer_sealed
FROM unnest($1::uuid[], $2::text[]) AS asked(user_id, key)
JOIN successes f ON f.user_id = asked.user_id AND f.key = asked.key"""

CLAIMED = """
SELECT c.item_id::text, c.scope, c.field, c.digest, c.join_id::text
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS asked(item_id, scope, field, digest)
JOIN claims c ON c.item_id = asked.item_id AND c.scope = asked.scope AND c.field = asked.field AND c.digest = asked.digest"""

ITEMS = """
SELECT id::text, hall_id::text, title, cover, status, form, form_version, rules, version
FROM items
WHERE id = ANY($1::uuid[])"""

HALLS = """
SELECT id::text, name, address, timezone, status, missed_policy, version
FROM halls
WHERE id = ANY($1::uuid[])"""

# As `standings` has it; asked only where a hall has a policy, so that the others pay nothing for it. With NOT EXISTS about party
# and slot, a plan from before the rush reads all joins of the slot for each visit.
MISSED = """
SELECT DISTINCT j.user_id::text, j.hall_id::text, j.party_id, j.slot_id, s.date
FROM joins j
JOIN slots s ON s.id = j.slot_id
WHERE j.status = 'booked'
    AND j.missed_at IS NOT NULL
    AND j.forgiven_at IS NULL
    AND j.user_id = ANY($1::uuid[])
    AND j.hall_id IN (SELECT hall_id FROM slots WHERE id = ANY($2::uuid[]))
    AND j.slot_id <> ALL (
        SELECT came.slot_id FROM joins came WHERE came.party_id = j.party_id AND came.checked_in_at IS NOT NULL
    )"""

# Asked only where a slot is full and places of it are held.
OFFERED = """
SELECT user_id::text, slot_id::text, id::text, offered_until
FROM waits
WHERE slot_id = ANY($1::uuid[])
    AND user_id = ANY($2::uuid[])
    AND ended_at IS NULL
    AND offered_until IS NOT NULL"""

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
WHERE slots.id = change.id
    AND slots.version = change.seen
    AND (
        slots.capacity IS NULL OR change.people <= 0
        OR slots.waiting = 0 AND slots.taken + slots.held + change.people <= slots.capacity
    )"""

CANCEL = """
UPDATE joins SET status = 'cancelled', ended_at = change.ended_at, version = change.version
FROM json_to_recordset($1) AS change(id uuid, ended_at timestamptz, version int)
WHERE joins.id = change.id AND joins.status = 'booked' AND joins.checked_in_at IS NULL"""

MOVE = """
UPDATE joins SET slot_id = change.slot_id, version = change.version
FROM json_to_recordset($1) AS change(id uuid, slot_id uuid, version int)
WHERE joins.id = change.id AND joins.status = 'booked' AND joins.checked_in_at IS NULL"""

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
