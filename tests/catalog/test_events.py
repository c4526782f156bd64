"""What catalog hears, and what it tells again on an operator's word."""

from libs.common import outbox
from libs.contracts.admin import StaffSignedOut
from services.catalog.service import service
from tests.catalog.builders import (
    AFTERNOON,
    API,
    MORNING,
    STAFF,
    a_day,
    a_hall,
    an_item,
    day_url,
    fill,
    in_days,
    made,
    published,
    refused,
    shown,
)
from tests.world import World


def test_everything_is_told_again_in_its_present_version_deleted_slots_too(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    day = a_day(world, item, in_days(1), MORNING, AFTERNOON)
    world.client.put(
        day_url(item, in_days(1)), json={"slots": [MORNING]}, headers=world.staff() | {"If-Match": day["etag"]}
    )
    world.client.patch(f"{STAFF}/halls/{hall['id']}", json={"name": "新"}, headers=world.staff())
    assert service.republish is not None

    count = outbox.republish(world.runtimes["catalog"].db, service.republish, batch=2)

    assert count == 4
    assert [(fact["name"], fact["version"]) for fact in published(world, "hall.changed")][2:] == [("新", 2)]
    assert published(world, "item.changed")[1:] == published(world, "item.changed")[:1]
    again = published(world, "slot.changed")[3:]
    assert sorted((fact["start"], fact["version"], fact["deleted"]) for fact in again) == [
        ("09:00", 1, False),
        ("14:00", 2, True),
    ]


def test_more_than_one_reading_is_told_again_whole(world: World) -> None:
    item = an_item(world, a_hall(world))
    body = {"periods": [MORNING, AFTERNOON], "from": in_days(1).isoformat(), "to": in_days(300).isoformat()}
    shown(fill(world, item, **body, holidays="ignore"))
    assert service.republish is not None

    with world.runtimes["catalog"].db.transaction() as session:
        subjects = [fact.subject for fact in service.republish(session)]

    assert len(subjects) == len(set(subjects)) == 602


def test_a_signed_out_member_of_staff_edits_nothing_more(world: World) -> None:
    headers = world.staff()
    hall = made(world.client.post(f"{STAFF}/halls", json={"name": "市民之窗"}, headers=headers))
    staff_id = published(world, "audit.recorded")[-1]["actor_id"]

    with world.runtimes["admin"].db.transaction() as session:
        outbox.record(session, StaffSignedOut(version=2, staff_id=staff_id))
    world.settle()

    url = f"{STAFF}/halls/{hall['id']}"
    refused(world.client.patch(url, json={"phone": "1"}, headers=headers), 401, "token_invalid")
    assert shown(world.client.get(f"{API}/halls/{hall['id']}"))["phone"] == ""
