"""What super admins do about dead letters: see them masked, send them again, drop them with a reason, all on record."""

from typing import Any

import pytest
from sqlalchemy import func, update

from libs.common.bus_local import QueueRow
from libs.common.dead_letters import MASK, MOST, masked
from libs.common.ids import new_id
from libs.common.messages import Message
from tests.notify.builders import a_join, message
from tests.world import World, eventually

LETTERS = "/api/notify/staff/dead-letters"


def fail_at(world: World, letter: Message) -> Message:
    """Let notify fail at a message for good."""
    [queue] = [queue for queue in world.queues if queue.consumer.name == "notify.events"]
    queue.put([letter])
    eventually(lambda: not queue.consume_once() and letter.id in {row.event_id for row in queue.parked()})
    return letter


def unfit(**data: Any) -> Message:
    """Return a message that notify can't do anything with."""
    good = message(a_join().booked())
    return good.model_copy(update={"id": new_id(), "data": good.data | {"version": "none"} | data})


def trail(world: World) -> list[dict[str, Any]]:
    world.settle()
    found: list[dict[str, Any]] = world.client.get("/api/admin/audit?action=dead_letter", headers=world.staff()).json()[
        "items"
    ]
    return found


def ask(world: World, method: str, path: str, body: Any = None) -> Any:
    answer = world.client.request(method, f"{LETTERS}{path}", json=body, headers=world.staff(name="chief"))
    return answer.json() if answer.is_success else answer.status_code


def test_a_letter_is_listed_and_looked_into_without_a_word_that_anybody_wrote(world: World) -> None:
    letter = fail_at(world, unfit(reason="张三的电话是 13800138000", slot={"taken": 3, "note": "李四"}))

    [listed] = ask(world, "GET", "")["items"]
    seen = ask(world, "GET", f"/{letter.id}")

    assert listed == {name: value for name, value in seen.items() if name != "content"}
    assert (listed["consumer"], listed["id"], listed["type"]) == ("notify.events", letter.id, "join.booked")
    assert (listed["subject"], listed["attempts"]) == (letter.subject, 3)
    assert "version" in listed["error"]
    data = seen["content"]["data"]
    assert (data["join_id"], data["starts_at"], data["status"]) == (
        letter.data["join_id"],
        letter.data["starts_at"],
        "booked",
    )
    assert (data["reason"], data["hall_name"], data["slot"]) == (MASK, MASK, {"taken": 3, "note": MASK})
    assert (seen["content"]["id"], seen["content"]["source"]) == (letter.id, "test")


def test_a_letter_is_done_when_it_is_sent_again_after_its_cause_is_mended(world: World) -> None:
    letter = fail_at(world, unfit())
    other = fail_at(world, unfit())
    with world.runtimes["notify"].db.transaction() as session:
        row = session.get(QueueRow, ("notify.events", letter.id))
        assert row is not None
        row.message = row.message | {"data": message(a_join().booked()).data}

    sent = ask(world, "POST", f"/{letter.id}/replay")
    world.settle()

    assert sent["id"] == letter.id
    assert [left["id"] for left in ask(world, "GET", "")["items"]] == [other.id]
    [record] = trail(world)
    assert (record["action"], record["actor_name"], record["object_id"]) == ("dead_letter.replayed", "chief", letter.id)
    assert record["before"]["subject"] == letter.subject
    assert ask(world, "POST", f"/{letter.id}/replay") == 404


def test_all_letters_are_sent_again_at_once(world: World) -> None:
    letters = [fail_at(world, unfit()) for _ in range(3)]

    answer = ask(world, "POST", "/replay")

    assert answer == {"replayed": 3}
    assert ask(world, "GET", "")["items"] == []
    assert {record["object_id"] for record in trail(world)} == {letter.id for letter in letters}


def test_of_very_many_letters_each_is_found_and_all_are_sent_again(world: World) -> None:
    [queue] = [queue for queue in world.queues if queue.consumer.name == "notify.events"]
    letters = [unfit() for _ in range(MOST + 5)]
    queue.put(letters)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(
            update(QueueRow).values(parked_at=func.clock_timestamp(), attempts=3, error="ValueError: unfit")
        )

    assert len([each for each in letters[-9:] if ask(world, "GET", f"/{each.id}") != 404]) == 9
    assert ask(world, "POST", f"/{letters[-1].id}/drop", {"reason": "of no use"})["id"] == letters[-1].id
    assert ask(world, "POST", "/replay") == {"replayed": MOST + 4}
    assert ask(world, "GET", "")["items"] == []


def test_a_letter_is_dropped_with_a_reason_and_never_without(world: World) -> None:
    letter = fail_at(world, unfit())

    without = [ask(world, "POST", f"/{letter.id}/drop", {"reason": said}) for said in (" ", "x", "\u200b\u200b", "")]
    dropped = ask(world, "POST", f"/{letter.id}/drop", {"reason": "written by an older release"})

    assert without == [422] * 4
    assert dropped["id"] == letter.id
    assert ask(world, "GET", f"/{letter.id}") == 404
    [record] = trail(world)
    assert (record["action"], record["reason"]) == ("dead_letter.dropped", "written by an older release")


def test_letters_come_in_pages_the_oldest_first(world: World) -> None:
    letters = [fail_at(world, unfit()) for _ in range(3)]

    first = ask(world, "GET", "?limit=2")
    rest = ask(world, "GET", f"?limit=2&cursor={first['next_cursor']}")

    assert [each["id"] for each in first["items"] + rest["items"]] == [letter.id for letter in letters]
    assert rest["next_cursor"] is None
    assert ask(world, "GET", "?consumer=nobody")["items"] == []


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"kind": "walk_in", "name": "alice"}, {"kind": "walk_in", "name": MASK}),
        ({"a": [1, True, None, "", "王"]}, {"a": [1, True, None, "", MASK]}),
        ({"date": "2026-10-01", "start": "09:00"}, {"date": "2026-10-01", "start": "09:00"}),
        ({"status": "打电话给我"}, {"status": MASK}),
        ({"张三": 1}, {MASK: 1}),
        ("13800138000", MASK),
    ],
)
def test_what_a_person_may_have_written_is_masked(content: Any, shown: Any) -> None:
    assert masked(content) == shown
