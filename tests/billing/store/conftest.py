"""A store for the tests of this room."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from tests.object_store import ObjectStore


@pytest.fixture(scope="package")
def running_store() -> Iterator[ObjectStore]:
    with ObjectStore.running() as store, mock.patch.dict(os.environ, store.environment):
        yield store


@pytest.fixture
def store(running_store: ObjectStore) -> Iterator[ObjectStore]:
    """A server of S3 that is well, and named by the environment."""
    running_store.fault = None
    running_store.requests.clear()
    yield running_store
    running_store.fault = None
