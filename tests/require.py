"""Tests that need a server program which no package provides, and what happens where it is missing."""

import os
from typing import NoReturn

import pytest


def leave_out(reason: str) -> NoReturn:
    """Leave a test out, named and counted at the end; where HALLPASS_TEST_REQUIRE_ALL is set, fail instead."""
    if os.environ.get("HALLPASS_TEST_REQUIRE_ALL"):
        pytest.fail(f"nothing may be left out here: {reason}")
    pytest.skip(reason)
