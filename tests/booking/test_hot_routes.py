"""The lean reading of a booking takes nothing that the ordinary one would take otherwise."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.common.ids import new_id
from services.booking.hot_routes import read
from services.booking.schemas import BookIn

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEY = st.sampled_from(["name", " name", "name ", "", "手机", "a" * 100, "a" * 101, "é", "a b"]) | st.text(max_size=5)
ANSWERS = st.dictionaries(KEY, VALUE, max_size=4)
ATTENDEE = st.fixed_dictionaries({"answers": ANSWERS}) | st.dictionaries(
    st.sampled_from(["answers", "more"]), ANSWERS | VALUE
)
WISH = st.fixed_dictionaries(
    {"slot_id": st.just(new_id()) | VALUE, "attendees": st.lists(ATTENDEE, max_size=3) | VALUE},
    optional={"more": VALUE},
)


def ordinary(body: bytes) -> tuple[str, list[dict[str, Any]]] | None:
    try:
        checked = BookIn.model_validate_json(body)
    except ValidationError:
        return None
    return checked.slot_id, [attendee.answers for attendee in checked.attendees]


@given(wish=WISH | VALUE, escaped=st.booleans())
@example(wish={"slot_id": new_id(), "attendees": [{"answers": {"name": "\ud800"}}]}, escaped=True)
@example(wish={"slot_id": new_id(), "attendees": [{"answers": {"name": "\x00"}}]}, escaped=True)
@example(wish={"slot_id": new_id(), "attendees": [{"answers": {"name": "张三"}}]}, escaped=False)
@example(wish={"slot_id": new_id(), "attendees": [{"answers": {}}] * 1001}, escaped=False)
@example(wish={"slot_id": new_id(), "attendees": [{"answers": {str(n): 1 for n in range(201)}}]}, escaped=False)
def test_both_readings_agree(wish: Any, escaped: bool) -> None:
    body = json.dumps(wish, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert repr(read(body)) == repr(ordinary(body))  # repr: NaN is not equal to itself


@given(body=st.binary(max_size=30) | st.sampled_from([b"", b"{", b'{"slot_id":1}', b"[]", b"null", b'"a"', b"\xff"]))
def test_both_readings_agree_on_what_is_no_json(body: bytes) -> None:
    assert read(body) == ordinary(body)
