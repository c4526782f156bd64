"""Copies of the migrated database, one for each world. One that was left in order serves the next world, connections and all."""

import time
from typing import Any

from sqlalchemy import Engine, create_engine, make_url, text

from libs.common.db import Database
from libs.common.service import Service

TEMPLATE = "hallpass_template"
AT_MOST = 2  # that wait for a world, and hold connections meanwhile
CONNECTIONS = 3  # of a service, that are kept: another world may want as many, and the server's are numbered
LEAVING_S = 0.5  # until the last process that left is gone

# Changes when anything of the schema does: whoever altered it leaves a copy that is no more one.
SCHEMA = """
SELECT (SELECT sum(hashtext(attrelid::text || attname || atttypid || attnotnull || attnum)::bigint)
        FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0),
       (SELECT sum(hashtext(indexrelid::text || indisvalid)::bigint) FROM pg_index WHERE indrelid >= 16384),
       (SELECT count(*) FROM pg_trigger WHERE tgrelid >= 16384),
       (SELECT count(*) FROM pg_constraint WHERE conrelid >= 16384)
"""
TABLES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename <> 'alembic_version'
"""
CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class KeptDatabase(Database):
    """A service's login whose connections, and what SQLAlchemy has learned of its statements, outlive a world."""

    def close(self) -> None:
        self.forget_acts()
        if self.pool.checkedin() > CONNECTIONS:
            self.engine.dispose()

    @property
    def pool(self) -> Any:
        return self.engine.pool


class Copy:
    """One database, as the template at first and after each `clear`."""

    def __init__(self, superuser_url: str, name: str) -> None:
        self.name = name
        self._logins: dict[tuple[str, int], KeptDatabase] = {}
        self._owner: Engine = create_engine(
            make_url(superuser_url).set(database=name), isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0
        )
        with self._owner.connect() as connection:
            self._tables = list(connection.scalars(text(TABLES)))
            self._schema = connection.execute(text(SCHEMA)).one()
            connection.execute(text("SET session_replication_role = replica"))  # foreign keys have no say in `clear`

    def login(self, service: Service, url: str, *, pool_size: int) -> Database:
        """Return the database as a service signs in to it, for one world at a time."""
        key = (url, pool_size)
        if key not in self._logins:
            self._logins[key] = KeptDatabase(url, name=service.name, pool_size=pool_size)
        return self._logins[key]

    def clear(self) -> bool:
        """Delete every row; False where the schema was changed, or somebody is still connected or at work."""
        with self._owner.connect() as connection:
            deadline = time.monotonic() + LEAVING_S
            while connection.scalar(text(CONNECTED)) != self._kept():
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)
            if connection.execute(text(SCHEMA)).one() != self._schema:
                return False
            filled = " UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in self._tables)
            for table in connection.scalars(text(filled)).all():
                connection.execute(text(f"DELETE FROM {table}"))
        return True

    def _kept(self) -> int:
        return sum(login.pool.checkedin() for login in self._logins.values())

    def close(self) -> None:
        for login in self._logins.values():
            Database.close(login)
        self._owner.dispose()
