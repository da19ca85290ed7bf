"""Businesses to deliver usage to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from billing.store.home import Home
from tests.billing.ingest.small_business import Business


@pytest.fixture
def business(tmp_path: Path) -> Business:
    return Business(Home(tmp_path))


@pytest.fixture
def new_business(tmp_path: Path) -> Callable[[str], Business]:
    """Several businesses beside one another, by name."""
    return lambda name: Business(Home(tmp_path / name))
