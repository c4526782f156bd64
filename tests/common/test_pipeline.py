"""Many statements in one round trip: each has its own result, and a failure is told once and leaves nothing behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from libs.common.pipeline import Pipeline
from tests.conftest import Cluster


def told(cluster: Cluster, story: Callable[[Pipeline], Awaitable[Any]]) -> Any:
    async def with_a_pipeline() -> Any:
        url = cluster.postgres.superuser_url().replace("+psycopg", "")
        pipeline = Pipeline(await psycopg.AsyncConnection.connect(url, autocommit=True))
        try:
            return await story(pipeline)
        finally:
            await pipeline.close()

    return asyncio.run(with_a_pipeline())


def test_each_statement_has_its_own_rows_and_count(cluster: Cluster) -> None:
    async def story(pipeline: Pipeline) -> None:
        numbers = "SELECT n, n::text || $2 FROM generate_series(1, $1::int) AS n"
        for _ in range(2):  # the second time they are prepared already
            found = await pipeline.run(
                ("CREATE TEMP TABLE IF NOT EXISTS kept (n int)", []),
                (numbers, ["2", "张"]),
                (numbers, ["1", b"x"]),
                ("SELECT $1::text IS NULL", [None]),
            )
            assert [one.rows for one in found] == [[], [(1, "1张"), (2, "2张")], [(1, "1x")], [(True,)]]
        [written] = await pipeline.run(("INSERT INTO kept SELECT generate_series(1, 3)", []))
        [touched] = await pipeline.run(("UPDATE kept SET n = n + 1 WHERE n > $1::int", ["1"]))
        assert (written.count, touched.count) == (3, 2)

    told(cluster, story)


def test_a_failure_is_raised_and_what_comes_after_it_is_not_carried_out(cluster: Cluster) -> None:
    async def story(pipeline: Pipeline) -> None:
        await pipeline.run(("CREATE TEMP TABLE kept (n int)", []))
        await pipeline.run(("BEGIN", []))
        with pytest.raises(pg.DivisionByZero):
            await pipeline.run(
                ("INSERT INTO kept VALUES (1)", []), ("SELECT 1 / 0", []), ("INSERT INTO kept VALUES (2)", [])
            )
        with pytest.raises(pg.InFailedSqlTransaction):
            await pipeline.run(("SELECT 1", []))
        await pipeline.run(("ROLLBACK", []))

        [left] = await pipeline.run(("SELECT n FROM kept", []))
        assert left.rows == []
        with pytest.raises(pg.SyntaxError):
            await pipeline.run(("SELEKT", []))
        assert not pipeline.is_lost

    told(cluster, story)


def test_whoever_stops_waiting_loses_the_connection(cluster: Cluster) -> None:
    async def story(pipeline: Pipeline) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pipeline.run(("SELECT pg_sleep(30)", []))

        assert pipeline.is_lost
        with pytest.raises(psycopg.OperationalError):
            await pipeline.run(("SELECT 1", []))

    told(cluster, story)


def test_what_can_not_be_sent_is_never_taken_for_a_part_of_what_comes_next(cluster: Cluster) -> None:
    async def story(pipeline: Pipeline) -> None:
        with pytest.raises(UnicodeEncodeError):
            await pipeline.run(("SELECT 1", []), ("SELECT $1::text", ["\ud800"]))

        assert pipeline.is_lost

    told(cluster, story)
