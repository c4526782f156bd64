"""What notify hears."""

from dataclasses import replace

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts import booking, catalog
from libs.contracts.admin import StaffSignedOut
from libs.contracts.principals import Role, Staff, issue_staff_token
from services.notify.handlers import consumer
from tests.notify.builders import deliver, message
from tests.world import World, bearer


def test_notify_hears_every_event_of_booking_and_catalog() -> None:
    wanted = {event.type for event in (*booking.EVENTS, *catalog.EVENTS)}

    assert set(consumer.types) == wanted


def test_staff_signed_out_can_do_nothing_any_more(world: World) -> None:
    staff = Staff(id=new_id(), name="boss", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
    keys = world.runtimes["admin"].staff_keys
    old = bearer(issue_staff_token(keys, staff, now=utcnow()))
    new = bearer(issue_staff_token(keys, replace(staff, version=2), now=utcnow()))
    before = world.client.get("/api/notify/staff/stats", headers=old)

    deliver(world, message(StaffSignedOut(version=2, staff_id=staff.id)))

    after = [world.client.get("/api/notify/staff/stats", headers=headers) for headers in (old, new)]
    assert before.status_code == 200
    assert [answer.status_code for answer in after] == [401, 200]
