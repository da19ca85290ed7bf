"""Buckets of accounts: stable on every machine, whatever the number of shards."""

import zlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.buckets import BUCKET, BUCKETS, WHOLE, BucketRange, bucket_of, bucket_ranges, buckets_of, in_buckets


@given(st.lists(st.one_of(st.none(), st.text(max_size=40))), st.integers(0, 3))
def test_bucket_is_the_checksum_of_the_account(accounts: list[str | None], skipped: int) -> None:
    kept = accounts[skipped:]
    found = buckets_of(pl.Series(accounts, dtype=pl.String).slice(skipped))
    assert found.to_list() == [None if one is None else zlib.crc32(one.encode()) % BUCKETS for one in kept]
    assert found.dtype == BUCKET
    assert found.drop_nulls().to_list() == [bucket_of(one) for one in kept if one is not None]


def test_many_rows_of_few_accounts_take_the_same_way() -> None:
    accounts = pl.Series([f"acct-{row % 7}" for row in range(150_000)])
    assert buckets_of(accounts).equals(
        accounts.replace_strict({it: bucket_of(it) for it in accounts.unique()}, return_dtype=pl.UInt16)
    )


@pytest.mark.parametrize("shards", [1, 2, 4, 7, 1000, 1024])
def test_ranges_cover_every_bucket_once(shards: int) -> None:
    ranges = bucket_ranges(shards)
    assert len(ranges) == shards
    assert [bucket for each in ranges for bucket in range(each.first, each.last + 1)] == list(range(BUCKETS))
    assert all(BucketRange.named(each.name) == each for each in ranges)


def test_rows_of_a_range() -> None:
    frame = pl.DataFrame({"account_id": [f"acct-{row}" for row in range(50)]})
    parts = [in_buckets(frame, each) for each in bucket_ranges(3)]
    assert pl.concat(parts).sort("account_id").equals(frame.sort("account_id"))
    assert all(part.height for part in parts)
    assert in_buckets(frame, WHOLE).equals(frame)
