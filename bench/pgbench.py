"""What PostgreSQL itself can do with bookings of one hot row, by its own pgbench: the limits that joins are held to.

The tables are scratch ones in a database of their own on the measured server. A booking is the guarded update of the
slot, the join and the outbox row, as small as it can be: no index but the primary keys, no JSON, no encryption.
"""

import os
import re
import subprocess

import psycopg

from bench.ground import HERE, Ground
from deploy.servers.process import clean_environment

DATABASE = "bench_limit"
TABLES = """
CREATE TABLE slot (id int PRIMARY KEY, taken bigint NOT NULL, capacity bigint NOT NULL, version bigint NOT NULL);
CREATE TABLE booked (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), slot_id int NOT NULL, user_id bigint NOT NULL, answers text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO slot VALUES (1, 0, 1000000000000, 0);
CREATE FUNCTION book(who bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slot SET taken = taken + 1, version = version + 1 WHERE id = 1 AND taken + 1 <= capacity;
    IF NOT FOUND THEN RAISE EXCEPTION 'full'; END IF;
    INSERT INTO booked (slot_id, user_id, answers) VALUES (1, who, repeat('a', 100));
    INSERT INTO outbox (data) VALUES (repeat('d', 400));
END $$;
"""
INTERACTIVE = """\\set who random(1, 1000000000)
BEGIN;
UPDATE slot SET taken = taken + 1, version = version + 1 WHERE id = 1 AND taken + 1 <= capacity;
INSERT INTO booked (slot_id, user_id, answers) VALUES (1, :who, repeat('a', 100));
INSERT INTO outbox (data) VALUES (repeat('d', 400));
COMMIT;
"""
ONE_CALL = """\\set who random(1, 1000000000)
SELECT book(:who);
"""


class Limit:
    """The two ways to book on one hot row, each measured by `clients` that wait for nothing but the database."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._folder = ground.folder
        with ground.connect() as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(TABLES)
        (self._folder / "interactive.sql").write_text(INTERACTIVE)
        (self._folder / "one_call.sql").write_text(ONE_CALL)

    def interactive(self, clients: int, seconds: int) -> float:
        """Transactions/s of BEGIN, UPDATE, two INSERTs, COMMIT, one after another."""
        return self._run("interactive.sql", clients, seconds)

    def one_call(self, clients: int, seconds: int) -> float:
        """Transactions/s of the same as one function call."""
        return self._run("one_call.sql", clients, seconds)

    @property
    def _url(self) -> str:
        return self._ground.postgres.superuser_url(DATABASE).replace("+psycopg", "")

    def _run(self, script: str, clients: int, seconds: int) -> float:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("TRUNCATE booked, outbox")
            connection.execute("VACUUM slot")
            connection.execute("CHECKPOINT")
        postgres = self._ground.postgres
        words = ["-n", "-M", "prepared", "-f", str(self._folder / script), "-T", str(seconds)]
        words += ["-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1))]
        words += ["-h", HERE, "-p", str(postgres.port), "-U", "postgres", DATABASE]
        done = subprocess.run(
            [postgres.binaries.folder / "pgbench", *words],
            env=clean_environment(PGPASSWORD=postgres.folder.secret("superuser-password")),
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
        said = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode or said is None:
            raise RuntimeError(f"pgbench failed: {done.stderr.strip()}")
        return float(said[1])
