"""A whole day at a hall, as `make demo` plays it: one process with the local bus."""

from deploy import demo
from libs.common.clock import utcnow
from services.admin import first_admin
from tests.world import World


def test_a_day_plays_through_the_gateway(world: World) -> None:
    with world.runtimes["admin"].db.transaction() as session:
        password = first_admin.ensure(session, utcnow(), must_change=False)
    assert password is not None
    told: list[str] = []

    with world.serve() as address, world.running_bus():
        demo.play(address, username="admin", password=password, say=told.append)

    assert "5 places before, 2 now" in "\n".join(told)
    assert "Only 2 places are left" in "\n".join(told)
