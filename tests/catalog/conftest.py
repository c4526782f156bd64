"""The clock of the catalog's rooms."""

import pytest


@pytest.fixture(autouse=True)
def _at_noon(noon: None) -> None:
    """Days are made of dates here, and hardly a test does without tomorrow."""
