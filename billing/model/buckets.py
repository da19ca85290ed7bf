"""Buckets of accounts: a shard of a month is a range of them, whatever the number of shards.

An account's bucket is crc32(account_id) mod 1,024: the same on every machine and in every version.
"""

import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import polars as pl
import pyarrow as pa

BUCKETS: Final = 1024
BUCKET: Final = pl.UInt16
"""The type of a column of buckets."""

_TABLE: Final = pl.Series([zlib.crc32(bytes([0xFF ^ low])) ^ 0xFF000000 for low in range(256)], dtype=pl.UInt32)
"""By the lowest byte of the checksum so far and the next byte: what to change in the rest of it."""

_WORTH_FINDING_DISTINCT: Final = 100_000
_ALL_BITS: Final = 0xFFFFFFFF


@dataclass(frozen=True, order=True)
class BucketRange:
    """A range of buckets.

    Attributes
    ----------
    first, last
        The first and the last bucket, both inside.
    """

    first: int
    last: int

    @property
    def name(self) -> str:
        """As it stands in names of files: 0000-0255."""
        return f"{self.first:04}-{self.last:04}"

    @property
    def is_whole(self) -> bool:
        """Whether all accounts are in it."""
        return self.first == 0 and self.last == BUCKETS - 1

    def holds(self, buckets: pl.Series) -> pl.Series:
        """Whether each of some buckets is inside."""
        return buckets.is_between(self.first, self.last)

    def overlaps(self, other: "BucketRange") -> bool:
        """Whether a bucket is in both."""
        return self.first <= other.last and other.first <= self.last

    def covers(self, other: "BucketRange") -> bool:
        """Whether all buckets of the other are in this one, too."""
        return self.first <= other.first and other.last <= self.last

    @classmethod
    def named(cls, name: str) -> "BucketRange | None":
        """The range with a name; None where it is none."""
        first, _, last = name.partition("-")
        return cls(int(first), int(last)) if first.isdecimal() and last.isdecimal() else None


WHOLE: Final = BucketRange(0, BUCKETS - 1)


def bucket_ranges(shards: int) -> list[BucketRange]:
    """The ranges of a number of shards, 1 to 1,024: together all buckets, their sizes differ by one at most."""
    edges = [BUCKETS * shard // shards for shard in range(shards + 1)]
    return [BucketRange(first, until - 1) for first, until in pairwise(edges)]


def buckets_of(accounts: pl.Series) -> pl.Series:
    """The bucket of each account; null where there is no account."""
    if len(accounts) <= _WORTH_FINDING_DISTINCT or (distinct := accounts.unique()).len() * 2 > len(accounts):
        return _buckets(accounts)
    known = pl.DataFrame({"account": distinct, "bucket": _buckets(distinct)})
    return accounts.to_frame("account").join(known, on="account", how="left", maintain_order="left")["bucket"]


def bucket_of(account: str) -> int:
    """The bucket of one account."""
    return zlib.crc32(account.encode()) % BUCKETS


def in_buckets(frame: pl.DataFrame, buckets: BucketRange | None, account: str = "account_id") -> pl.DataFrame:
    """The rows of accounts in a range of buckets; all of them where there is no range."""
    if buckets is None or buckets.is_whole:
        return frame
    return frame.filter(buckets.holds(buckets_of(frame[account])))


def _buckets(accounts: pl.Series) -> pl.Series:
    """The checksum of all texts at once: one place of every text after the other."""
    texts = accounts.fill_null("").to_arrow().cast(pa.large_string())
    _, edges, content = texts.buffers()
    ends = pl.Series(pa.Array.from_buffers(pa.int64(), texts.offset + len(texts) + 1, [None, edges]))[texts.offset :]
    # One byte more: where a text has ended, read any.
    content = pl.Series(pa.Array.from_buffers(pa.uint8(), content.size, [None, content])) if content else pl.Series()
    found = pl.concat([content.cast(pl.UInt32), pl.Series([0], dtype=pl.UInt32)])
    starts, lengths = ends[:-1], ends.diff()[1:].cast(pl.Int64)
    checksum = pl.Series([_ALL_BITS], dtype=pl.UInt32).new_from_index(0, len(accounts))
    for place in range(lengths.max() or 0):  # type: ignore[arg-type]
        changes = lengths > place
        byte = found.gather((starts + place).clip(upper_bound=len(content)))
        checksum = (_TABLE.gather((checksum ^ byte) & 0xFF) ^ (checksum // 256)).zip_with(changes, checksum)
    buckets = ((checksum ^ _ALL_BITS) % BUCKETS).cast(BUCKET)
    return buckets.zip_with(accounts.is_not_null(), pl.Series([None], dtype=BUCKET))
