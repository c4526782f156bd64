"""What a transaction noted is acted on after its commit, and only then."""

import gc
import weakref

from libs.common.db import Database
from tests.world import World


def _listening(world: World) -> tuple[Database, list[str]]:
    db = world.runtimes["booking"].db
    heard: list[str] = []
    db.on_commit("note", heard.append)
    return db, heard


def test_a_note_is_heard_once_and_after_the_commit(world: World) -> None:
    db, heard = _listening(world)

    with db.transaction() as session:
        session.info["note"] = "done"
        session.flush()
        assert heard == []
    with db.transaction():
        pass

    assert heard == ["done"]


def test_a_note_of_a_rolled_back_transaction_is_forgotten(world: World) -> None:
    db, heard = _listening(world)

    with db.transaction() as session:
        session.connection()
        session.info["note"] = "undone"
        session.rollback()
        session.connection()

    assert heard == []


def test_the_release_of_a_savepoint_is_no_commit(world: World) -> None:
    db, heard = _listening(world)

    with db.transaction() as session:
        with session.begin_nested():
            session.info["note"] = "inside"
        assert heard == []

    assert heard == ["inside"]


def test_what_was_noted_inside_a_savepoint_goes_with_it(world: World) -> None:
    db, heard = _listening(world)

    with db.transaction() as session:
        savepoint = session.begin_nested()
        session.info["note"] = "inside"
        savepoint.rollback()

    assert heard == []


def test_nothing_is_left_of_a_closed_database(world: World) -> None:
    settings = world.runtimes["booking"].settings
    db = Database(settings.database_url.get_secret_value(), name="test", pool_size=1)
    db.ping()
    left = weakref.ref(db)

    db.close()
    del db
    gc.collect()

    assert left() is None
