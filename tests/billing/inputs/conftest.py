"""Reading of inputs whole and in pieces."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from billing.inputs import byte_pieces, checked_rows, input_files


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


@pytest.fixture(params=[None, 48], ids=["whole", "in pieces"])
def whole_and_in_pieces(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that uses it runs twice: files are read whole, and in pieces of a few bytes."""
    if request.param is None:
        yield
        return
    with pieces_of(request.param):
        yield
