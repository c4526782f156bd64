"""Moulds: what comes out is the JSON that rendering the whole would have made."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from libs.common.moulds import Hole, Mould

CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(content=CONTENT, value=CONTENT)
def test_a_filled_mould_is_the_whole_content(content: object, value: object) -> None:
    mould = Mould({"known": content, "open": Hole("value"), "within": [{"again": Hole("value")}, "100% %b %(value)b"]})
    made = json.loads(mould.filled(value=to_json(value)))
    assert made == json.loads(
        to_json({"known": content, "open": value, "within": [{"again": value}, "100% %b %(value)b"]})
    )


def test_a_mould_lets_no_hole_stay_open() -> None:
    with pytest.raises(KeyError, match="second"):
        Mould([Hole("first"), Hole("second")]).filled(first=b"1")
