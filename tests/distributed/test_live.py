"""Live stats through nginx: the consumer, the API that streams and the screen are processes of their own."""

from datetime import date

from tests.distributed.town import Town
from tests.notify.test_live import Screen


def test_a_screen_behind_the_gateway_sees_a_join_at_once(town: Town) -> None:
    slot = town.slot()
    item = town.found(f"catalog/items/{slot.item_id}")
    day = date.fromisoformat(item["days"][0]["date"])
    address = str(town.http.base_url)
    listening = Screen(address, town.staff, hall_id=item["hall"]["id"], day=day.isoformat())
    try:
        snapshot = listening.next()
        town.book(town.user(), slot)
        changed = listening.next()
    finally:
        listening.hang_up()

    assert snapshot[:2] == ("snapshot", {"slots": []})
    assert [(line["slot_id"], line["booked"]) for line in changed[1]["slots"]] == [(slot.id, 1)]
