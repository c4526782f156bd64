"""Settling looks rows up, whatever was known of the tables when its statements were planned.

A plan is kept. One of when there were few rows would be to read them all, and a rush makes them many within seconds: each
request would read all others', under the lock of the one slot.
"""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from libs.common.ids import new_id
from services.booking import settle, statements
from tests.booking.builders import NAME, Place, a_slot, book
from tests.world import World

GROWN = 2000  # rows of each table, beside the one that is asked for
FEW = 12  # rows that a part of a plan may meet while it looks for that one
NOBODY = "00000000-0000-0000-0000-000000000000"

# Another user for each number: what they book, wait for and claim in the same slot, and as many slots.
OTHER = "md5('other' || n)::uuid"
_GROW = f"""
INSERT INTO slots SELECT (jsonb_populate_record(s, jsonb_build_object('id', {OTHER}))).* FROM slots s, generate_series(1, {GROWN}) n;
INSERT INTO users SELECT (jsonb_populate_record(u, jsonb_build_object('id', {OTHER}, 'openid', n))).*
    FROM users u, generate_series(1, {GROWN}) n WHERE u.id = (SELECT user_id FROM joins);
INSERT INTO joins SELECT (jsonb_populate_record(j, jsonb_build_object(
        'id', {OTHER}, 'party_id', {OTHER}, 'user_id', {OTHER}, 'code', n, 'missed_at', now(){{elsewhere}}))).*
    FROM joins j, generate_series(1, {GROWN}) n;
INSERT INTO claims SELECT (jsonb_populate_record(c, jsonb_build_object('digest', '\\x' || md5(n::text), 'join_id', {OTHER}))).*
    FROM claims c, generate_series(1, {GROWN}) n;
INSERT INTO successes SELECT (jsonb_populate_record(f, jsonb_build_object('user_id', {OTHER}))).*
    FROM successes f, generate_series(1, {GROWN}) n;
INSERT INTO waits (id, user_id, slot_id, item_id, hall_id, people, position, sealed, form_version, created_at, offered_until)
    SELECT {OTHER}, {OTHER}, j.slot_id, j.item_id, j.hall_id, 1, n, '', 1, now(), now() FROM
    (SELECT * FROM joins LIMIT 1) j, generate_series(1, {GROWN}) n;
"""


GROW = _GROW.format(elsewhere="")
GROW_ELSEWHERE = _GROW.format(elsewhere=f", 'item_id', '{NOBODY}', 'hall_id', '{NOBODY}'")
SHRINK = """
DELETE FROM waits;
DELETE FROM claims WHERE octet_length(digest) = 16;
DELETE FROM joins WHERE missed_at IS NOT NULL;
DELETE FROM successes WHERE user_id NOT IN (SELECT user_id FROM joins);
DELETE FROM users WHERE id NOT IN (SELECT user_id FROM joins);
DELETE FROM slots WHERE id NOT IN (SELECT slot_id FROM joins);
"""


@pytest.mark.parametrize("analyzed", ["never", "empty", "with one row", "with one row of many before"])
def test_every_statement_looks_up_what_it_needs(world: World, analyzed: str) -> None:
    url = world.runtimes["booking"].settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(url, options=settle.SETTINGS, autocommit=True) as connection:
        if analyzed == "empty":
            connection.execute("ANALYZE")
        place = a_slot(world, capacity=3, form=[NAME.model_copy(update={"unique": "slot"})])
        user, key = world.user("one"), new_id()
        assert book(world, user, place.slot_id, key=key).status_code == 201
        if analyzed == "with one row of many before":  # which leave some indexes higher than others
            connection.execute(GROW_ELSEWHERE)
            connection.execute(SHRINK)
            connection.execute("VACUUM ANALYZE")
        if analyzed == "with one row":
            connection.execute("ANALYZE")
        with connection.transaction(force_rollback=True):
            asked = _asked(connection, place, key)
            for name, parameters in asked.items():
                connection.execute(f"PREPARE {name} AS {getattr(statements, name)}")
                connection.execute(f"EXPLAIN EXECUTE {name} {parameters}")  # which plans it, for good
            connection.execute(GROW)
            met = {name: _most_met(connection, f"{name} {parameters}") for name, parameters in asked.items()}

    assert {name: most for name, most in met.items() if most > FEW} == {}


def test_every_statement_is_looked_at() -> None:
    named = {
        name
        for name, value in vars(statements).items()
        if isinstance(value, str) and value.lstrip().startswith(("SELECT", "UPDATE", "DELETE")) and name.isupper()
    }

    assert {name for name in named if not name.startswith("_")} == set(NAMES)


NAMES = [
    "USERS",
    "USERS_LOCKED",
    "SLOTS",
    "SLOTS_LOCKED",
    "HOLDINGS",
    "SUCCESSES",
    "CLAIMED",
    "ITEMS",
    "HALLS",
    "MISSED",
    "OFFERED",
    "WHERE_JOINS_ARE",
    "JOINS_LOCKED",
    "COUNT",
    "CANCEL",
    "MOVE",
    "RELEASE",
]


def _asked(connection: psycopg.Connection[Any], place: Place, key: str) -> dict[str, str]:
    """Return for each statement the parameters that ask for the one row, as EXECUTE has them."""
    found = connection.execute(
        "SELECT j.id::text, j.user_id::text, scope, field, digest FROM joins j JOIN claims ON join_id = j.id"
    ).fetchone()
    assert found is not None
    join_id, user_id, scope, field, digest = found
    users, slots, joins = ([f"{{{one}}}"] for one in (user_id, place.slot_id, join_id))
    changed = {"seen": 1, "people": 0, "version": 2, "slot_id": place.slot_id, "ended_at": "2026-01-01T00:00:00Z"}
    parameters: dict[str, list[str]] = {
        "USERS": users,
        "USERS_LOCKED": users,
        "SLOTS": slots,
        "SLOTS_LOCKED": slots,
        "HOLDINGS": users + slots,
        "SUCCESSES": [*users, f"{{{key}}}"],
        "CLAIMED": [f"{{{place.item.item_id}}}", f"{{{scope}}}", f"{{{field}}}", statements.byte_array([digest])],
        "ITEMS": [f"{{{place.item.item_id}}}"],
        "HALLS": [f"{{{place.hall_id}}}"],
        "MISSED": users + slots,
        "OFFERED": slots + users,
        "WHERE_JOINS_ARE": joins,
        "JOINS_LOCKED": joins,
        "COUNT": [json.dumps([changed | {"id": place.slot_id}])],
        "CANCEL": [json.dumps([changed | {"id": join_id}])],
        "MOVE": [json.dumps([changed | {"id": join_id}])],
        "RELEASE": joins,
    }
    return {name: f"({', '.join(map(psycopg.sql.quote, parameters[name]))})" for name in NAMES}


def _most_met(connection: psycopg.Connection[Any], statement: str) -> float:
    """Return the most rows that any part of the statement's plan met, those that it threw away included."""
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {statement}").fetchone()
    assert row is not None
    return max(_met(node) for node in _nodes(row[0][0]["Plan"]))


def _met(node: dict[str, Any]) -> float:
    of_a_loop = sum(value for key, value in node.items() if key == "Actual Rows" or key.startswith("Rows Removed by"))
    return float(of_a_loop * node["Actual Loops"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
