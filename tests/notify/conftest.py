"""Somebody else's address, for the rooms that call it."""

from collections.abc import Iterator

import pytest

from tests.common.receiver import Receiver, receiver


@pytest.fixture
def theirs() -> Iterator[Receiver]:
    with receiver() as found:
        yield found
