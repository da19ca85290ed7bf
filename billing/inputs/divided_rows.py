"""Rows of a large input on disk, by buckets of accounts: a business of several shards holds those of one at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import polars as pl

from billing.model.buckets import BucketRange, buckets_of, in_buckets
from billing.store.temporary_folder import ScratchFolder

FOLDER: Final = "overage-inputs-"


class FramesOnDisk:
    """Frames in a scratch folder: there as long as this is."""

    def __init__(self, frames: Sequence[pl.DataFrame]) -> None:
        self._folder = ScratchFolder(FOLDER)
        self._files = [self._folder.path / f"{place}.arrow" for place in range(len(frames))]
        for frame, file in zip(frames, self._files, strict=True):
            frame.write_ipc(file, compression="lz4")

    def read(self) -> list[pl.DataFrame]:
        """The frames as they were."""
        return [pl.read_ipc(file) for file in self._files]


@dataclass(frozen=True)
class DividedRows:
    """Rows of an input, in a file for each of some ranges of buckets.

    Attributes
    ----------
    files
        By the buckets of its accounts; each is sorted by `order`.
    order
        Columns whose values together are unique.
    height
        The number of rows, of all ranges.
    folder
        Where the files are: there as long as this is.
    """

    files: Mapping[BucketRange, Path]
    order: Sequence[str]
    height: int
    folder: ScratchFolder

    @classmethod
    def write(
        cls, rows: pl.DataFrame, name: str, order: Sequence[str], ranges: Sequence[BucketRange], folder: ScratchFolder
    ) -> Self:
        """Divide rows that are sorted by `order`."""
        buckets, files = buckets_of(rows["account_id"]), {}
        for each in ranges:
            files[each] = folder.path / f"{name}.{each.name}.parquet"
            rows.filter(each.holds(buckets)).write_parquet(files[each], compression="lz4", statistics=False)
        return cls(files, order, rows.height, folder)

    def read(self, buckets: BucketRange | None) -> pl.DataFrame:
        """The rows of the accounts in some buckets, or all of them, in their order."""
        found = [
            in_buckets(
                pl.read_parquet(file, hive_partitioning=False, glob=False),
                None if buckets is None or buckets.covers(each) else buckets,
            )
            for each, file in self.files.items()
            if buckets is None or buckets.overlaps(each)
        ]
        return found[0] if len(found) == 1 else pl.concat(found).sort(self.order)

    def scan(self) -> pl.LazyFrame:
        """All rows, in no order."""
        return pl.scan_parquet(list(self.files.values()), hive_partitioning=False, glob=False)


def by_shard(
    rows: pl.DataFrame, order: Sequence[str], ranges: Sequence[BucketRange]
) -> Callable[[BucketRange | None], pl.DataFrame]:
    """What reads the rows of a shard's accounts; meanwhile those of several shards are on disk."""
    if len(ranges) == 1:
        return lambda _: rows
    return DividedRows.write(rows, "rows", order, ranges, ScratchFolder(FOLDER)).read
