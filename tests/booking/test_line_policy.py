"""In which order a line is served."""

from libs.common.ids import new_id
from services.booking import line_policy
from services.booking.line_policy import Waiting, next_served
from tests.booking.builders import cancel, recorded, user_id
from tests.booking.waiting import a_full_slot, my_wait, served, waiting
from tests.world import World


def _party(people: int, passed: int = 0) -> Waiting:
    return Waiting(new_id(), people, passed)


def test_first_come_first_served() -> None:
    first, second = _party(1), _party(1)

    assert next_served([first, second], free=1, asked=5, is_last_call=False) == first
    assert next_served([first, second], free=None, asked=None, is_last_call=False) == first
    assert next_served([first, second], free=0, asked=5, is_last_call=False) is None


def test_a_party_that_does_not_fit_yet_is_passed_some_times_and_no_more() -> None:
    for passed in range(line_policy.MOST_PASSED):
        small = _party(1)
        assert next_served([_party(2, passed), small], free=1, asked=5, is_last_call=False) == small

    kept_for = _party(2, line_policy.MOST_PASSED)
    assert next_served([kept_for, _party(1)], free=1, asked=5, is_last_call=False) is None
    assert next_served([kept_for, _party(1)], free=2, asked=5, is_last_call=False) == kept_for


def test_nothing_is_kept_at_the_last_call_or_for_who_can_never_fit() -> None:
    small = _party(1)

    assert next_served([_party(2, 9), small], free=1, asked=5, is_last_call=True) == small
    assert next_served([_party(6, 9), small], free=1, asked=5, is_last_call=False) == small


def test_a_line_makes_way_where_nobody_in_it_can_ever_use_what_is_free() -> None:
    def is_in_the_way(*people: int, free: int | None = 1, asked: int | None = 2) -> bool:
        line = [_party(each) for each in people]
        return line_policy.is_in_the_way(line, free=free, asked=asked, is_last_call=False)

    assert is_in_the_way(3, 4)
    assert not is_in_the_way(3, 2)
    assert not is_in_the_way(3, free=0)
    assert not is_in_the_way(3, asked=None)
    assert not is_in_the_way()


def test_a_large_party_is_not_passed_for_ever(world: World) -> None:
    place, owner, joins = a_full_slot(world, people=6)
    large = world.user("large")
    wait = waiting(world, large, place.slot_id, people=2)
    small = [world.user(f"small {number}") for number in range(5)]
    waits = [waiting(world, user, place.slot_id) for user in small]

    for join in joins:
        cancel(world, owner, join["id"])
        served(world)

    outcomes = [my_wait(world, user, one["id"])["outcome"] for user, one in zip(small, waits, strict=True)]
    assert outcomes == ["booked", "booked", "booked", "booked", None]
    assert my_wait(world, large, wait["id"])["outcome"] == "booked"
    order = [fact.data["user_id"] for fact in recorded(world, "join.booked")][6:]
    assert order[3:5] == [user_id(world, large)] * 2
