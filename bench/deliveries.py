"""How many deliveries one process carries by a channel whose provider answers at once, beside what PostgreSQL can do."""

import threading
import time
from collections.abc import Iterator

from sqlalchemy.orm import Session

from bench.ground import Ground
from bench.pgbench import Scratch
from bench.report import Row, by_turns
from bench.scene import Scene
from libs.common.db import Database
from services.notify.channel import Delivering
from services.notify.outcomes import Outcome, Refused, Sent
from services.notify.sender import Sender

DELIVERIES = 1_000
ROUNDS = 3
SECONDS = 2
TABLE = """
DROP TABLE IF EXISTS delivery;
CREATE TABLE delivery (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), state text NOT NULL, due_at timestamptz NOT NULL DEFAULT now(), attempts int NOT NULL
);
INSERT INTO delivery (state, attempts) SELECT 'queued', 0 FROM generate_series(1, 200000);
CREATE INDEX ON delivery (due_at) WHERE state IN ('queued', 'sending');
ANALYZE delivery;
"""
CARRY = """BEGIN;
UPDATE delivery SET state = 'sending', due_at = now() + interval '1 minute', attempts = attempts + 1 WHERE id = (
    SELECT id FROM delivery WHERE state IN ('queued', 'sending') AND due_at <= now()
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id \\gset
COMMIT;
BEGIN;
UPDATE delivery SET state = 'sent' WHERE id = :id AND state = 'sending';
COMMIT;
"""
FILL = """
WITH told AS (
    INSERT INTO notify.notices (id, user_id, hall_id, kind, action_id, join_id, party_id, people, params, happened_at)
    SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'booked', n::text, gen_random_uuid(), gen_random_uuid(), 1, '{}', now()
    FROM generate_series(1, %s) AS n
    RETURNING id
)
INSERT INTO notify.deliveries (id, notice_id, channel, target, state, due_at, queued_at, request_id)
SELECT gen_random_uuid(), id, 'quick', '', 'queued', now(), now(), '' FROM told
"""


class Quick:
    """A channel whose provider has always just answered."""

    name = "quick"
    at_once = 4
    longest_s = 5.0

    def prepare(self, session: Session, delivering: Delivering) -> str | Refused:
        return delivering.id

    def send(self, letter: str) -> Outcome:
        return Sent(letter)

    def settle(self, session: Session, delivering: Delivering, letter: str, outcome: Outcome) -> None:
        """There is nothing to note."""


def measure(scene: Scene) -> Iterator[Row]:
    """Deliveries/s of one process ÷ claims and records/s of pgbench with as many clients."""
    at_once = Quick.at_once
    scratch = Scratch(scene.ground, "bench_deliveries", TABLE)
    found = by_turns(
        ROUNDS,
        carried=lambda: _carried(scene.ground),
        limit=lambda: scratch.run(CARRY, at_once, SECONDS, TABLE),
    )
    name = f"deliveries, one process, {at_once} at once"
    yield Row(name, found["carried"], "/s", "pgbench, claim and record", found["limit"], ROUNDS)


def _carried(ground: Ground) -> float:
    with ground.connect() as connection:
        connection.execute("TRUNCATE notify.notices, notify.deliveries CASCADE")
        connection.execute(FILL, [DELIVERIES])
        connection.execute("ANALYZE notify.deliveries")
    db = Database(ground.variables["notify.env"]["HALLPASS_NOTIFY_DATABASE_URL"], name="bench", pool_size=10)
    sender = Sender(db, Quick())
    threads = [threading.Thread(target=_carry_all, args=(sender,)) for _ in range(Quick.at_once)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    db.close()
    return DELIVERIES / seconds


def _carry_all(sender: Sender[str]) -> None:
    while (taken := sender.take()) is not None:
        sender.carry(taken)
