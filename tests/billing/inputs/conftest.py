"""Reading of inputs whole and in pieces."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from billing.inputs import byte_pieces, checked_rows, input_files
from tests import sizes

_IN_PIECES = "in pieces"
_CASES_IN_PIECES = 4


@contextmanager
def pieces_of(size: int) -> Iterator[None]:
    """Read every file in pieces of `size` bytes."""
    with (
        mock.patch.object(input_files, "_LARGE", -1),
        mock.patch.object(input_files, "_ROWS_OF_A_PIECE", 2),
        mock.patch.object(byte_pieces, "PIECE_BYTES", size),
        mock.patch.object(checked_rows, "_IDS_LOOKED_UP", 1),
    ):
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `whole_and_in_pieces` says."""
    cases: dict[object, list[pytest.Item]] = {}
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and parameters.params.get("whole_and_in_pieces") is not None:
            cases.setdefault(getattr(item, "function", None), []).append(item)
    left_out: set[pytest.Item] = set()
    if not sizes.LONG:
        for found in cases.values():
            kept = {found[place] for place in sizes.spread(len(found), _CASES_IN_PIECES)}
            left_out.update(item for item in found if item not in kept)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=[None, 48], ids=["whole", _IN_PIECES])
def whole_and_in_pieces(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that uses it runs twice: files are read whole, and in pieces of a few bytes.

    Of a test with many cases a few run in pieces, unless the run is a long one.
    """
    if request.param is None:
        yield
        return
    with pieces_of(request.param):
        yield
