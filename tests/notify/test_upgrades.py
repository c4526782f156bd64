"""What migrations make of what is there, over a database of an earlier release."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, create_engine, text

from deploy import bootstrap
from libs.common import migrations
from libs.common.ids import new_id
from services.notify.service import service
from tests.conftest import Cluster
from tests.world import PASSWORDS, eventually

HALL = "0198f000-0000-7000-8000-00000000000a"
NOTICES = text("""
    INSERT INTO notices (id, user_id, hall_id, kind, action_id, people, params, happened_at)
    SELECT gen_random_uuid(), gen_random_uuid(), :hall_id, 'booked', gen_random_uuid()::text, 1, '{}', now()
    FROM generate_series(1, :many)
""")
DELIVERIES = text("""
    INSERT INTO deliveries (id, notice_id, channel, target, state, due_at, request_id, queued_at)
    SELECT gen_random_uuid(), id, 'wechat', '', 'queued', now(), '', now() FROM notices
""")
WAITS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'advisory' AND clock_timestamp() - query_start > '4 s'
""")


@pytest.fixture
def at_revision(cluster: Cluster) -> Iterator[Callable[[str], Engine]]:
    """Bring a database of the test's own to a revision of notify's, and return an engine of its login."""
    database = f"test_{new_id().replace('-', '')}"
    superuser = cluster.postgres.superuser_url()
    bootstrap.create(superuser, PASSWORDS, database=database)
    url = bootstrap.login_url(superuser, "notify", PASSWORDS["notify"], database=database)
    engine = create_engine(url)

    def bring(revision: str) -> Engine:
        migrations.upgrade(service.migrations, url, to=revision)
        return engine

    yield bring
    engine.dispose()
    cluster.statement(f"DROP DATABASE {database} WITH (FORCE)")


def test_deliveries_of_earlier_releases_are_found_by_their_halls(at_revision: Callable[[str], Engine]) -> None:
    with at_revision("0007").begin() as connection:
        connection.execute(NOTICES, {"hall_id": HALL, "many": 11_000})  # several pieces
        connection.execute(NOTICES, {"hall_id": None, "many": 3})
        connection.execute(DELIVERIES)

    with at_revision("0008").begin() as connection:  # as if somebody ended it when a part was done
        connection.execute(
            text("""
                UPDATE deliveries SET hall_id = notices.hall_id
                FROM notices
                WHERE notices.id = notice_id AND deliveries.id < '80000000-0000-0000-0000-000000000000'
            """)
        )
    engine = at_revision("head")

    with engine.connect() as connection:
        found = connection.execute(text("SELECT hall_id::text, count(*) FROM deliveries GROUP BY 1 ORDER BY 2")).all()
    assert [tuple(row) for row in found] == [(None, 3), (HALL, 11_000)]


def test_a_migration_waits_for_another_longer_than_a_request_may_take(at_revision: Callable[[str], Engine]) -> None:
    engine = at_revision("0007").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as other, ThreadPoolExecutor(1) as pool:
        login, database = other.execute(text("SELECT current_user, current_database()")).one()
        other.execute(text(f"ALTER ROLE {login} IN DATABASE {database} SET statement_timeout = 3000"))
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrations.LOCK})

        migrating = pool.submit(at_revision, "head")
        eventually(lambda: migrating.done() or other.scalar(WAITS), timeout_s=120)
        other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": migrations.LOCK})

        migrating.result()
