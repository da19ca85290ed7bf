"""Tests that usual runs leave out."""

import pytest

from tests import sizes


def long_only(shown_by: str) -> pytest.MarkDecorator:
    """Leave a test to `pytest --long`; says what shows in a usual run what it shows."""
    return pytest.mark.skipif(not sizes.LONG, reason=f"{shown_by}; all of it: pytest --long")
