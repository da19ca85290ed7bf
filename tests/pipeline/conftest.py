"""What commands of tests do besides what is asked of them."""

from collections.abc import Iterator
from unittest import mock

import pytest

from tests.pipeline import outside


@pytest.fixture(scope="module")
def profiles() -> Iterator[None]:
    """Let every `bill` of a module's tests write profiles, balances, amounts to collect, the journal and reports."""
    with mock.patch.object(outside, "LEFT_OUT", ()):
        yield


@pytest.fixture
def profiles_once() -> Iterator[None]:
    """Let every `bill` of one test do so."""
    with mock.patch.object(outside, "LEFT_OUT", ()):
        yield
