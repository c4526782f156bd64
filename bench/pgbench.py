"""What PostgreSQL itself can do with bookings of one hot row, by its own pgbench: the limits that joins are held to.

The tables are scratch ones in a database of their own on the measured server. A booking is the guarded update of the
slot, the join and the outbox row, as small as it can be: no index but the primary keys, no JSON, no encryption.
"""

import os
import re
import subprocess

import psycopg
from psycopg import sql

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
BEFORE = ("TRUNCATE booked, outbox", "VACUUM slot")
ONE_CALL = """\\set who random(1, 1000000000)
SELECT book(:who);
"""


class Scratch:
    """A database of its own on the measured server, and pgbench on it."""

    def __init__(self, ground: Ground, name: str, tables: str) -> None:
        self._ground = ground
        self._name = name
        with ground.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._carry_out(tables)

    def run(self, script: str, clients: int, seconds: int, *before: str) -> float:
        """Transactions/s of a script by `clients` that wait for nothing but the database; `before` is done ahead of it."""
        self._carry_out(*before, "CHECKPOINT")
        path = self._ground.folder / f"{self._name}.sql"
        path.write_text(script)
        postgres = self._ground.postgres
        words = ["-n", "-M", "prepared", "-f", str(path), "-T", str(seconds)]
        words += ["-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1))]
        words += ["-h", HERE, "-p", str(postgres.port), "-U", "postgres", self._name]
        done = subprocess.run(
            [postgres.binaries.folder / "pgbench", *words],
            env=clean_environment(PGPASSWORD=postgres.folder.secret("superuser-password")),
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
        if "actually processed: 0" in done.stdout:  # a machine so busy that it came to nothing
            return 0.0
        said = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode or said is None:
            raise RuntimeError(f"pgbench failed: {done.stdout.strip()} {done.stderr.strip()}")
        return float(said[1])

    def _carry_out(self, *statements: str) -> None:
        url = self._ground.postgres.superuser_url(self._name).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class Limit:
    """The two ways to book on one hot row, each measured by `clients` that wait for nothing but the database."""

    def __init__(self, ground: Ground) -> None:
        self._scratch = Scratch(ground, DATABASE, TABLES)

    def interactive(self, clients: int, seconds: int) -> float:
        """Transactions/s of BEGIN, UPDATE, two INSERTs, COMMIT, one after another."""
        return self._scratch.run(INTERACTIVE, clients, seconds, *BEFORE)

    def one_call(self, clients: int, seconds: int) -> float:
        """Transactions/s of the same as one function call."""
        return self._scratch.run(ONE_CALL, clients, seconds, *BEFORE)
