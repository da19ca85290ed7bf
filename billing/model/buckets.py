"""Buckets of accounts: a shard of a month is a range of them, whatever the number of shards.

An account's bucket is crc32(account_id) mod 1,024: the same on every machine and in every version.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import polars as pl
import pyarrow as pa

BUCKETS: Final = 1024
BUCKET: Final = pl.UInt16
"""The type of a column of buckets."""

_WORTH_FINDING_DISTINCT: Final = 100_000


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
    """The checksum of all texts at once: one place of every text after the other, from their ends."""
    if accounts.is_empty():
        return pl.Series(dtype=BUCKET)
    texts = accounts.fill_null("").to_arrow().cast(pa.large_string())
    _, edges, content = texts.buffers()
    ends = pl.Series(pa.Array.from_buffers(pa.int64(), texts.offset + len(texts) + 1, [None, edges]))[texts.offset :]
    lengths = ends.diff()[1:]
    shortest, longest = lengths.min() or 0, lengths.max() or 0
    # Bytes before the first one: where a text has ended, read any.
    content = pl.Series(pa.Array.from_buffers(pa.uint8(), content.size, [None, content])) if content else pl.Series()
    found = pl.concat([content.cast(pl.UInt8), pl.Series([0], dtype=pl.UInt8)])
    buckets = _of_lengths(lengths)
    for place in range(longest):  # type: ignore[arg-type]  # lengths are numbers
        changes = _changes(place)
        at = ends[1:] - (place + 1)
        if place < shortest:  # type: ignore[operator]
            buckets = buckets ^ changes.gather(found.gather(at))
        else:
            byte = found.gather(at.clip(lower_bound=0))
            buckets = (buckets ^ changes.gather(byte)).zip_with(lengths > place, buckets)
    return buckets.zip_with(accounts.is_not_null(), pl.Series([None], dtype=BUCKET))


def _of_lengths(lengths: pl.Series) -> pl.Series:
    """The buckets of texts of zero bytes."""
    distinct = lengths.unique()
    buckets = [zlib.crc32(bytes(length)) % BUCKETS for length in distinct]
    return lengths.replace_strict(distinct, pl.Series(buckets, dtype=BUCKET), return_dtype=BUCKET)


@lru_cache(maxsize=256)
def _changes(place: int) -> pl.Series:
    """What each byte at a place, from the end of a text, changes in the bucket.

    The checksum is linear: the changes of several bytes add up.
    """
    without = zlib.crc32(bytes(place + 1))
    changed = (zlib.crc32(bytes([byte, *bytes(place)])) ^ without for byte in range(256))
    return pl.Series([change % BUCKETS for change in changed], dtype=BUCKET)
