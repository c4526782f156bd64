"""Many statements in one round trip to PostgreSQL: libpq's pipeline mode, with nothing waited for in between.

psycopg's own pipelines wait a little after each statement, and each wait is a turn of a loop that has much else to do.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, generators, pq, waiting
from psycopg.adapt import Transformer

Parameter = bytes | str | None

LOOK_S = 0.1  # a wait for the socket is begun anew so often


@dataclass(frozen=True)
class Found:
    """What a statement returned, and how many rows it returned or touched."""

    rows: list[tuple[Any, ...]]
    count: int


class Pipeline:
    """A connection of its own, on which every statement is prepared when it is first met."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loads = Transformer(connection)
        self._names: dict[str, bytes] = {}
        self._given = 0
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()

    @property
    def is_lost(self) -> bool:
        """Tell whether the connection is gone."""
        return self._pgconn.status == pq.ConnStatus.BAD

    async def close(self) -> None:
        await self._connection.close()

    def end(self) -> None:
        """Let go of the connection when its loop runs no more."""
        self._pgconn.finish()

    async def run(self, *statements: tuple[str, Sequence[Parameter]]) -> list[Found]:
        """Carry out statements with `$1` for parameters, which go as text; return what each found, in order.

        The first that fails is raised (a psycopg.Error), and those after it were not carried out. Where sending or waiting
        fails or is cancelled, the connection is lost.
        """
        expected: list[tuple[str, bytes] | None] = []  # what is prepared, None for what a statement returns
        try:
            for statement, parameters in statements:
                name = self._names.get(statement)
                if name is None:
                    self._given += 1
                    name = b"%d" % self._given
                    self._pgconn.send_prepare(name, statement.encode())
                    expected.append((statement, name))
                self._pgconn.send_query_prepared(name, [_encoded(parameter) for parameter in parameters])
                expected.append(None)
            self._pgconn.pipeline_sync()
            # Not `connection.wait`, which is not left before the server has cancelled too, or has had ten seconds for it.
            results = await waiting.wait_async(_results(self._pgconn, len(expected) + 1), self._pgconn.socket, LOOK_S)
        except BaseException:
            self._pgconn.finish()  # what is still to come would be taken for the answer to the next statements
            raise
        found = []
        for prepared, result in zip(expected, results, strict=False):
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                raise errors.error_from_result(result)
            if prepared:
                self._names[prepared[0]] = prepared[1]
            else:
                found.append(self._found(result))
        return found

    def _found(self, result: Any) -> Found:
        self._loads.set_pgresult(result)
        rows = self._loads.load_rows(0, result.ntuples, tuple)
        return Found(rows, result.command_tuples or 0)


def _encoded(parameter: Parameter) -> bytes | None:
    return parameter.encode() if isinstance(parameter, str) else parameter


def _results(pgconn: Any, count: int) -> Generator[Any, Any, list[Any]]:
    yield from generators.send(pgconn)
    results = []
    for _ in range(count):
        results.extend((yield from generators.fetch_many(pgconn)))
    return results
