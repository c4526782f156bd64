"""A PostgreSQL that hangs: its connections stay open and nothing answers. Nobody waits for long, and nothing is left behind."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx2
import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from deploy.servers.postgres import Postgres
from libs.common import db, edge
from libs.common.db import Database, is_away
from libs.common.pipeline import Pipeline
from services.booking import settle
from tests.booking.builders import a_slot
from tests.world import World, eventually

MORE_THAN_ALL_CONNECTIONS = 30


@contextmanager
def silent(postgres: Postgres) -> Iterator[None]:
    """Stop every process of the server, and let all go on in the end."""
    stopped = postgres.processes()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_nobody_waits_long_for_a_database_that_hangs_and_everything_goes_on_when_it_does(
    fragile_world: World, own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = a_slot(fragile_world, capacity=5)
    user = fragile_world.user("somebody")
    booking = {"slot_id": place.slot_id, "attendees": [{"answers": {"name": "张三"}}]}
    with (
        fragile_world.serve() as address,
        httpx2.Client(base_url=f"{address}/api", timeout=120, trust_env=False) as http,
        TestClient(fragile_world.apps["booking"]) as operators,
        ThreadPoolExecutor(MORE_THAN_ALL_CONNECTIONS) as pool,
    ):

        def book() -> httpx2.Response:
            return http.post("/booking/joins", json=booking, headers=user | {"Idempotency-Key": "over-the-silence"})

        def joins() -> httpx2.Response:
            return http.get("/booking/joins", headers=user)

        assert joins().json()["items"] == []
        # The server is silent for as long as anybody waits: who had to wait for it would never be answered.
        with silent(own_postgres):
            with monkeypatch.context() as hurried:
                for module in (edge, settle):
                    hurried.setattr(module, "PATIENCE_S", 5.0)  # as it is outside of tests
                hurried.setattr(db, "SILENCE_S", 3600.0)
                asked = [pool.submit(ask) for ask in [book, *[joins] * (MORE_THAN_ALL_CONNECTIONS - 1)]]
                told = [one.result() for one in asked]
            ready = operators.get("/readyz")

        assert [answer.status_code for answer in told] == [503] * MORE_THAN_ALL_CONNECTIONS
        assert {answer.json()["code"] for answer in told} == {"unavailable"}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in told)
        assert ready.status_code == 503
        assert ready.json()["parts"]["database"]["detail"] == "PostgreSQL hangs"

        eventually(lambda: book().status_code == 201)
        eventually(lambda: (found := joins()).is_success and len(found.json()["items"]) == 1)
        eventually(lambda: http.get("/catalog/halls").status_code == 200)


def test_a_connection_is_given_up_when_the_server_stays_silent(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(db, "PATIENCE_S", 2)  # as it is outside of tests
        database = Database(own_postgres.superuser_url(), name="test")
    eventually(partial(answers, database))

    with silent(own_postgres), monkeypatch.context() as hurried:
        hurried.setattr(db, "SILENCE_S", 1.0)
        with pytest.raises(DBAPIError) as lost:
            database.ping()

    assert is_away(lost.value)
    eventually(partial(answers, database))
    database.close()


def answers(database: Database) -> bool:
    try:
        database.ping()
    except DBAPIError:
        return False  # it took longer than it has for a connection
    return True


def test_a_statement_that_is_slow_but_watched_by_the_server_is_waited_for(own_postgres: Postgres) -> None:
    database = Database(own_postgres.superuser_url(), name="test")

    with database.transaction() as session:
        assert session.scalar(text("SELECT 1 FROM pg_sleep(1)")) == 1
    database.close()


def test_whoever_stops_waiting_for_a_pipeline_is_let_go_at_once(
    own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        url = own_postgres.superuser_url().replace("+psycopg", "")
        pipeline = Pipeline(await psycopg.AsyncConnection.connect(url, autocommit=True))
        await pipeline.run(("SELECT 1", []))
        with silent(own_postgres), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pipeline.run(("SELECT 1", []))
        assert pipeline.is_lost

    asyncio.run(story())

    # psycopg's own wait would give the server ten seconds to cancel first, and warn that it has not.
    assert [record.message for record in caplog.records if record.name == "psycopg"] == []
