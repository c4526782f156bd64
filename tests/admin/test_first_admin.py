"""The first staff account."""

import threading

from libs.common.clock import utcnow
from libs.contracts.principals import Role
from services.admin import first_admin
from tests.admin.builders import an_account, sign_in, signed_in, trail
from tests.world import World


def ensure(world: World, *, must_change: bool = False) -> str | None:
    with world.runtimes["admin"].db.transaction() as session:
        return first_admin.ensure(session, utcnow(), must_change=must_change)


def test_the_first_start_makes_a_super_admin_and_returns_the_password(world: World) -> None:
    password = ensure(world)

    assert password is not None
    me = signed_in(world, "admin", password)
    assert me["staff"]["role"] == "super_admin"
    assert me["staff"]["halls"] is None
    assert world.client.get("/api/admin/staff", headers=me["headers"]).status_code == 200


def test_a_password_that_others_may_have_read_has_to_be_changed(world: World) -> None:
    password = ensure(world, must_change=True)

    assert password is not None
    me = signed_in(world, "admin", password)
    assert me["staff"]["must_change_password"] is True
    assert world.client.get("/api/admin/staff", headers=me["headers"]).status_code == 403


def test_its_password_is_random_and_readable(world: World) -> None:
    password = ensure(world)

    assert password is not None
    groups = password.split("-")
    assert [len(group) for group in groups] == [4] * 5
    assert not set("01loi") & set("".join(groups))


def test_a_second_start_makes_nothing(world: World) -> None:
    password = ensure(world)

    assert ensure(world) is None
    assert password is not None
    assert sign_in(world, "admin", password).status_code == 201


def test_nothing_is_made_where_there_is_staff(world: World) -> None:
    an_account(world, "lin", role=Role.SUPER_ADMIN)

    assert ensure(world) is None
    assert [record["action"] for record in trail(world)] == ["staff.created"]


def test_of_several_that_start_at_once_one_gets_the_password(world: World) -> None:
    barrier = threading.Barrier(6)
    found: list[str | None] = []

    def start() -> None:
        barrier.wait()
        found.append(ensure(world))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    passwords = [password for password in found if password is not None]
    assert len(found) == 6
    assert len(passwords) == 1
    assert sign_in(world, "admin", passwords[0]).status_code == 201
    assert [record["action"] for record in trail(world)] == ["staff.signed_in", "staff.created"]
