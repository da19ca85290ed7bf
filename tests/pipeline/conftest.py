"""What commands of tests do besides what is asked of them."""

from collections.abc import Iterator
from unittest import mock

import pytest

from tests.pipeline import outside
from tests.pipeline.killing import Killer


@pytest.fixture(scope="module")
def profiles() -> Iterator[None]:
    """Let every `bill` of a module's tests write profiles, balances, amounts to collect, the journal and reports."""
    with mock.patch.object(outside, "LEFT_OUT", ()):
        yield


@pytest.fixture(scope="module")
def profiles_without_reports() -> Iterator[None]:
    """The same without the reports of months, which the module's tests do not look at."""
    with mock.patch.object(outside, "LEFT_OUT", outside.WITHOUT_REPORTS):
        yield


@pytest.fixture
def profiles_once() -> Iterator[None]:
    """Let every `bill` of one test do so, without reports."""
    with mock.patch.object(outside, "LEFT_OUT", outside.WITHOUT_REPORTS):
        yield


@pytest.fixture(scope="session")
def killer() -> Iterator[Killer]:
    """What runs commands and kills them: it takes a second to start, and each command has a fork of its own."""
    with Killer() as killer:
        yield killer
