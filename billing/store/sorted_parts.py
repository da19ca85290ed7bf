"""Rows in sorted parts, read as one: what is computed shard by shard becomes one table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl

from billing.model.columns import Table
from billing.store.frames import write_frame, write_frames
from billing.store.temporary_folder import ScratchFolder

ROWS_AT_ONCE: Final = 250_000
# Readers skip row groups by their minimum and maximum: keep them small.
_ROWS_OF_A_GROUP: Final = 10_000


@dataclass
class SortedParts:
    """Frames of the same columns; no two have rows of the same account. One is held in memory, several are on disk.

    Attributes
    ----------
    key
        Columns to sort by, `account_id` first.
    """

    key: Sequence[str]
    _only: pl.DataFrame | None = None
    _files: list[Path] = field(default_factory=list)

    def add(self, frame: pl.DataFrame) -> None:
        """Add a part."""
        if self._only is None and not self._files:
            self._only = frame
            return
        for part in (frame,) if self._only is None else (self._only, frame):
            file = self._folder.path / f"{len(self._files)}.parquet"
            part.sort(self.key).write_parquet(file, compression="lz4", statistics=True, row_group_size=_ROWS_OF_A_GROUP)
            self._files.append(file)
        self._only = None

    def scan(self) -> pl.LazyFrame:
        """All rows, in no order."""
        if self._only is not None:
            return self._only.lazy()
        return pl.scan_parquet(self._files, hive_partitioning=False, glob=False)

    def rows(self, at_once: int = ROWS_AT_ONCE) -> Iterator[pl.DataFrame]:
        """All rows sorted by the key, of about so many accounts at a time; those of an account stay together."""
        if self._only is not None:
            yield self._only.sort(self.key)
            return
        first = self.key[0]
        scans = [pl.scan_parquet(file, hive_partitioning=False, glob=False) for file in self._files]
        if not scans:
            return
        accounts = pl.concat(scan.select(first) for scan in scans).unique().collect()[first].sort()
        starts = accounts.gather_every(at_once).to_list()
        del accounts
        for start, until in pairwise([*starts, None]):
            wanted = pl.col(first) >= start
            if until is not None:
                wanted &= pl.col(first) < until
            yield pl.concat([scan.filter(wanted) for scan in scans]).collect().sort(self.key)

    def write(self, path: Path, table: Table) -> bool:
        """Write all rows as the table's file; see `write_frame`."""
        if self._only is not None:
            return write_frame(path, self._only, table)
        return write_frames(path, self.rows(table.rows_at_once), table)

    @cached_property
    def _folder(self) -> ScratchFolder:
        return ScratchFolder("overage-parts-")
