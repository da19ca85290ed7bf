"""Identity hashes of any number of rows, compared by slices of the hash space: memory does not grow with the rows.

Eight bytes a row. Up to some number they are held; beyond, they are written to scratch files, one for each slice, and
one slice is sorted at a time.
"""

import os
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, Self

import polars as pl
import pyarrow as pa

from billing.ingest.deduplication import shared_hashes
from billing.store.files import scratch_path

_HELD: Final = 16_000_000
"""Rows whose hashes are held: an eighth of a gigabyte."""
_BITS: Final = 8
"""The highest bits of a hash are its slice: of a billion rows, a slice has four million."""
_SORTED_TOGETHER: Final = 2_000_000
_BYTES: Final = 8


class HashSlices:
    """Collects identity hashes, and finds those that occur more than once."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where scratch files are written: of a killed process, the next ingest removes them."""
        self._folder = folder
        self._held: list[pl.Series] = []
        self._rows = 0
        self._files: list[IO[bytes]] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, hashes: pl.Series) -> None:
        """Add the hashes of some rows; nulls are left out."""
        self._held.append(hashes.drop_nulls())
        self._rows += len(self._held[-1])
        if self._rows > _HELD:
            self._write()

    def shared(self) -> pl.Series:
        """Hashes that occur more than once, distinct and sorted."""
        if not self._files:
            return shared_hashes(self._held)
        self._write()
        return pl.concat(shared_hashes([self._slice(place)]) for place in range(len(self._files)))

    def _write(self) -> None:
        """Move what is held to the slices."""
        if not self._files:
            self._folder.mkdir(parents=True, exist_ok=True)
            for place in range(2**_BITS):
                path = scratch_path(self._folder / f"hashes-{place}", os.getpid())
                self._open.callback(path.unlink, missing_ok=True)
                self._files.append(self._open.enter_context(path.open("w+b")))
        starts = pl.Series([place << (64 - _BITS) for place in range(1, 2**_BITS)], dtype=pl.UInt64)
        while self._held:
            hashes = self._held.pop()
            for start in range(0, len(hashes), _SORTED_TOGETHER):
                ordered = hashes.slice(start, _SORTED_TOGETHER).sort()
                edges = [0, *ordered.search_sorted(starts).to_list(), len(ordered)]
                content = _bytes_of(ordered)
                for file, (first, after) in zip(self._files, pairwise(edges), strict=True):
                    file.write(content[first * _BYTES : after * _BYTES])
        self._rows = 0

    def _slice(self, place: int) -> pl.Series:
        self._files[place].seek(0)
        content = self._files[place].read()
        return pl.Series(pa.Array.from_buffers(pa.uint64(), len(content) // _BYTES, [None, pa.py_buffer(content)]))


def _bytes_of(numbers: pl.Series) -> memoryview:
    """The content of a column of 64-bit numbers without nulls."""
    values = numbers.rechunk().to_arrow()
    return memoryview(values.buffers()[1])[values.offset * _BYTES : (values.offset + len(values)) * _BYTES]
