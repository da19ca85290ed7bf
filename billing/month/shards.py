"""A month is shards of accounts: each is computed as a business of its own, so that memory follows the shard.

A shard has the accounts of a range of buckets. Global are only reading the inputs, the first month, and issuing.
The number of shards of a month is chosen when it is first computed, and stays.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from billing.ingest.malloc import return_freed_blocks
from billing.model.buckets import WHOLE, BucketRange, bucket_ranges
from billing.model.columns import Table
from billing.model.tables import (
    ADD_ONS,
    CHARGES,
    CYCLES,
    DECISIONS,
    DOCUMENTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DRAFTS,
    DUES,
    LEVELS,
    LINES,
    PACKAGES,
    PARKED,
    TAXES,
    UNBILLED,
    USAGE,
)
from billing.month.business import Business
from billing.month.currencies import give_up_parts
from billing.month.recorded_inputs.record import Record, month_record, read_record, write_record
from billing.store.home import Home
from billing.store.monthly import keep_parts

_SHARDS: Final = "shards"
TABLES: Final[Sequence[Table]] = (
    CYCLES,
    LEVELS,
    USAGE,
    PACKAGES,
    ADD_ONS,
    DECISIONS,
    CHARGES,
    DUES,
    PARKED,
    UNBILLED,
    DRAFTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DOCUMENTS,
    LINES,
    TAXES,
)


def shards_record(home: Home, month: str) -> Path:
    """The file that records into how many shards a month is divided."""
    return month_record(home, month, _SHARDS)


def shard_ranges(business: Business, month: str) -> list[BucketRange]:
    """The shards of a month, as chosen when it was first computed; else as they would be chosen now."""
    record = read_record(shards_record(business.home, month))
    if record is not None:
        return bucket_ranges(int(record.inputs[_SHARDS]))
    # Earlier versions, and businesses of one shard, record none.
    return [WHOLE] if business.home.partition(CYCLES, month).exists() else business.new_shards


def shard_homes(business: Business, month: str) -> list[Home]:
    """The homes of the shards of a month; the business's own where it has one shard, or is a shard."""
    if business.home.buckets is not None or len(ranges := shard_ranges(business, month)) == 1:
        return [business.home]
    return [replace(business.home, buckets=buckets) for buckets in ranges]


def is_sharded(business: Business, month: str) -> bool:
    """Whether a month has several shards, and the business is all of them."""
    return len(shard_homes(business, month)) > 1


def each_shard(
    business: Business, month: str, only: Collection[BucketRange | None] | None = None
) -> Iterator[Business]:
    """The shards of a month one after the other; the business itself where it has one, or is a shard.

    Parameters
    ----------
    only
        The buckets of the shards that are wanted; all by default.
    """
    homes = shard_homes(business, month)
    if homes[0] is business.home:
        if only is None or business.home.buckets in only:
            yield business
        return
    yield from _one_at_a_time(business, [each.buckets for each in homes if only is None or each.buckets in only])


def each_new_shard(business: Business) -> Iterator[Business]:
    """The shards of all accounts as of a day, of no month, as `each_shard`: the business itself where it has one."""
    if len(business.new_shards) == 1:
        yield business
    else:
        yield from _one_at_a_time(business, business.new_shards)


def _one_at_a_time(business: Business, ranges: Sequence[BucketRange | None]) -> Iterator[Business]:
    for buckets in ranges:
        shard = business.of(buckets or WHOLE)
        yield shard
        # Memory follows the shard: give back that of one before the next.
        give_up_parts(shard)
        del shard
        return_freed_blocks()


def begin_month(business: Business, month: str) -> None:
    """Choose the shards of a month before anything of it is written, and remove files of other shards."""
    if not is_sharded(business, month):
        return
    ranges = shard_ranges(business, month)
    # Files of a killed run with other shards, or of a business that nobody had subscribed to.
    # The first month writes what bills nothing of the months before it, too.
    earlier = [each for each in business.home.months(UNBILLED) if each < month == business.first_month]
    for table, each in [*((table, month) for table in TABLES), *((UNBILLED, each) for each in earlier)]:
        keep_parts(business.home, table, each, ranges)
    write_record(shards_record(business.home, month), Record({_SHARDS: str(len(ranges))}))
