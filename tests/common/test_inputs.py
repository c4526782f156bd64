"""What clients may write for a number, a switch, a date or an instant."""

from typing import Any

import pytest

from tests.booking.builders import a_slot
from tests.catalog.builders import STAFF, a_category, a_day, a_hall, an_item, day_url, in_days
from tests.world import World

PERIOD = {"start": "09:00", "end": "12:00"}
FIELD = {"key": "name", "type": "text", "label": "姓名"}


def test_what_only_looks_like_a_number_or_a_switch_is_refused(world: World) -> None:
    hall = a_hall(world)
    item = an_item(world, hall)
    day = a_day(world, item, in_days(1))
    staff = world.staff() | {"If-Match": day["etag"]}
    of_item, of_hall = f"{STAFF}/items/{item['id']}", f"{STAFF}/halls/{hall['id']}"
    refused: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", day_url(item, in_days(1)), {"slots": [PERIOD | {"capacity": capacity}]})
        for capacity in (True, "5", 5.5)
    ]
    refused += [("PUT", day_url(item, in_days(1)), {"slots": [PERIOD | {"start": 32_400}]})]
    refused += [("PATCH", of_item, {"recommended": said}) for said in ("yes", 1, "true")]
    refused += [("PATCH", of_item, {"order": said}) for said in ("7", True)]
    refused += [
        ("PATCH", of_item, {"form": [FIELD | said]}) for said in ({"required": "yes"}, {"min": "2"}, {"min": True})
    ]
    refused += [("PATCH", of_item, {"rules": said}) for said in ({"party_max": "5"}, {"party_max": True})]
    refused += [("PATCH", of_item, {"rules": {"opens_days_before": 1, "opens_at": 28_800}})]
    refused += [("PATCH", of_hall, {"position": {"lat": "1", "lng": 2}}), ("PATCH", of_hall, {"status": 1})]
    refused += [("POST", f"{STAFF}/items/{item['id']}/days/fill", {"periods": [PERIOD], "from": 0, "to": 1})]

    answers = [world.client.request(method, url, json=body, headers=staff) for method, url, body in refused]

    assert {answer.json()["code"] for answer in answers} == {"invalid"}
    assert a_category(world, order=7)["order"] == 7


@pytest.mark.parametrize("people", [True, "1", 1.5])
def test_a_number_of_people_is_a_number(world: World, people: Any) -> None:
    place = a_slot(world)

    answer = world.client.post(
        f"/api/booking/slots/{place.slot_id}/check", json={"people": people}, headers=world.user("wang")
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
