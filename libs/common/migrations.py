"""Migrations: one Alembic environment a service, each with its own version table in its own schema."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, text

from libs.common import bus_local, inbox, outbox, sign_ins
from libs.common.db import CommonBase, UtcDateTime

COMMON_TABLES = (outbox.OutboxRow, inbox.InboxRow, bus_local.QueueRow, sign_ins.EndedSignIn)

LOCK = 0x48414C4C  # one migration of a database at a time, whoever starts it


def _config(folder: Path, url: str | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


@lru_cache
def head(folder: Path) -> str | None:
    """Return the newest revision that this release knows."""
    return ScriptDirectory.from_config(_config(folder)).get_current_head()


def upgrade(folder: Path, url: str, *, to: str = "head") -> None:
    """Bring the schema behind this login to the newest revision, or to an earlier one."""
    command.upgrade(_config(folder, url), to)


def new_revision(folder: Path, url: str, message: str) -> None:
    """Write a revision with what differs between the models and the migrated schema behind this login."""
    config = _config(folder, url)
    number = len(list(ScriptDirectory.from_config(config).walk_revisions())) + 1
    command.revision(config, message=message, autogenerate=True, rev_id=f"{number:04}")


def _render(kind: str, item: object, _: object) -> str | Literal[False]:
    """Write our own column types as what PostgreSQL sees, so that old migrations need none of our code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run_environment(metadata: MetaData) -> None:
    """The body of each service's env.py: migrate under a lock, the common tables included."""
    engine = create_engine(context.config.attributes["url"])
    with engine.connect() as connection:
        connection.execute(
            text("SET statement_timeout = 0")
        )  # the login's is for requests; large tables take what they take
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=[CommonBase.metadata, metadata],
            render_item=_render,
            compare_type=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
